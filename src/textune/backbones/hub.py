"""Fetch a model from the hub: only what is read, from the local cache where that has it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textune.backbones.pooling import POOLING_CONFIG
from textune.backbones.trust import list_weight_files
from textune.errors import ModelError, suggest
from textune.files import read_json
from textune.tokens import VOCABULARY_FILES

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    *VOCABULARY_FILES,
)
_ASIDE = (POOLING_CONFIG.as_posix(), "chat_template.jinja", "generation_config.json")
"""What few models have and no loading needs, but the pooling, the chat template or the end of answers depends on."""
_TIMEOUT_SECONDS = 5


def fetch_from_hub(
    name: str, trusted: bool, revision: str | None = None, known: Sequence[str] = ()
) -> tuple[Path, str | None]:
    """Return the local snapshot folder of a hub model and its revision; download missing files.

    revision: a commit, a branch or a tag; None: the newest. If it cannot be fetched, the newest revision in the cache
    is returned, so the caller must compare the weights. known: names to suggest for a name that cannot be a hub id.
    Raises ModelError.
    """
    from huggingface_hub import errors

    try:
        try:
            folder = _find_cached(name, trusted, revision) or _download(name, trusted, revision)
        except Exception:
            newest = None if revision is None else _find_cached(name, trusted)
            if newest is None:
                raise
            folder = newest
        _fetch_aside(name, folder)
    except errors.GatedRepoError as error:
        raise ModelError(
            f"backbone={name}: this model is gated: its owner must grant you access",
            hint="request access on the model's page, then set HF_TOKEN or run 'hf auth login'",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"backbone={name}: the hub has no such model, or it is private",
            hint="check the spelling; for a private model, set HF_TOKEN",
        ) from error
    except errors.HFValidationError as error:
        raise ModelError(f"backbone={name}: neither a folder nor a hub id{suggest(name, known)}") from error
    except Exception as error:  # the hub client does not wrap transport errors
        raise ModelError(
            f"backbone={name}: not on this machine, and the hub cannot be reached ({type(error).__name__})",
            hint="give the model's folder (backbone=FOLDER), or connect and try again",
        ) from error
    return folder, folder.name if len(folder.name) == 40 else None


def _choose_files(trusted: bool) -> dict[str, Any]:
    """Return which files to fetch: those without which no model is loaded."""
    patterns = ["config.json", "*.safetensors", "model.safetensors.index.json", *TOKENIZER_FILES]
    patterns += ["*.py", "pytorch_model*.bin", "*.bin.index.json"] if trusted else []
    return {"allow_patterns": patterns, "ignore_patterns": ["*/*.safetensors"]}


def _find_cached(name: str, trusted: bool, revision: str | None = None) -> Path | None:
    """Return the folder of a model in the cache, or None if it lacks anything that the hub may have."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        files = _choose_files(trusted)
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, **files, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        return None
    return folder if _is_whole(folder, trusted) else None


@functools.cache
def _fetch_aside(name: str, folder: Path) -> None:
    """Fetch the small files of which the cache does not know whether the model has them, while the hub can be reached.

    One by one, since a model that another library has cached may lack them; files that the hub does not have are
    remembered by the cache, too.
    """
    import huggingface_hub

    revision = folder.name if len(folder.name) == 40 else None
    files = [f for f in _ASIDE if huggingface_hub.try_to_load_from_cache(name, f, revision=revision) is None]
    try:
        if files:  # a download retries for half a minute where this fails at once
            huggingface_hub.model_info(name, timeout=_TIMEOUT_SECONDS)
        for file in files:
            with contextlib.suppress(huggingface_hub.errors.RemoteEntryNotFoundError):
                huggingface_hub.hf_hub_download(name, file, revision=revision, etag_timeout=_TIMEOUT_SECONDS)
    except Exception:  # the hub client does not wrap transport errors, and the model can be loaded without
        return


def _download(name: str, trusted: bool, revision: str | None) -> Path:
    import huggingface_hub

    huggingface_hub.model_info(name, timeout=_TIMEOUT_SECONDS)  # snapshot_download has no such timeout
    files = _choose_files(trusted)
    return Path(huggingface_hub.snapshot_download(name, revision=revision, **files, etag_timeout=_TIMEOUT_SECONDS))


def _is_whole(folder: Path, trusted: bool) -> bool:
    """Return whether a snapshot has config, weights and, where that is trusted, the model's own code."""
    if not (folder / "config.json").is_file() or not list_weight_files(folder):
        return False
    own_code = trusted and "auto_map" in read_json(folder / "config.json", "the model's config")
    return not own_code or any(folder.glob("*.py"))
