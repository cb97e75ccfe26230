"""Data sets from the Hugging Face hub: "hub:NAME", "hub:NAME@config", "hub:NAME#split"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from textune.data.frame import read_dataset
from textune.data.source import Reading, ReadOptions, Source, sources
from textune.errors import DataError

_NAME = re.compile(r"hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<config>[^#]+))?(?:#(?P<split>.+))?")
_SECONDS = 10


def _accepts(source: Any) -> bool:
    return isinstance(source, str) and source.startswith("hub:")


def _open(source: str, options: ReadOptions, chunk_rows: int) -> Reading:
    match = _NAME.fullmatch(source)
    if not match:
        raise DataError(
            f"'{source}' is not a valid hub name", hint="for example hub:imdb or hub:owner/name@config#test"
        )
    dataset = _load(source, match["name"], match["config"], match["split"] or "train")
    if dataset.num_rows > options.max_rows:
        raise DataError(f"{source}: has more than {options.max_rows:,} rows", hint="read a part, such as #train[:1000]")
    reading = read_dataset(dataset, source, chunk_rows, options)
    if not match["split"]:
        reading.notes.append(f"reading split 'train'; {source}#test reads the test split if there is one")
    return reading


sources.register("hub")(Source(_accepts, _open))


def _load(source: str, name: str, config: str | None, split: str) -> Any:
    from datasets import load_dataset

    offline = _why_unreachable(source, name)
    try:
        with _offline(offline is not None):
            return load_dataset(name, config, split=split)
    except Exception as error:  # the library raises many kinds of errors
        if offline is not None:
            raise DataError(
                f"{source}: the hub cannot be reached ({offline}) and the data set is not in the local cache",
                hint="go online once, or give the path of a file or of a folder saved with save_to_disk",
            ) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{source}: cannot be loaded: {reason}", hint="add a config with @CONFIG and a split with #SPLIT"
        ) from error


def _why_unreachable(source: str, name: str) -> str | None:
    """Ask the hub once, so that being offline shows within seconds; return the reason or None.

    Raises DataError if the hub has no such data set or it is gated.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(name, timeout=_SECONDS)
    except GatedRepoError as error:
        raise DataError(
            f"{source}: the data set is gated",
            hint="accept its terms on the hub and set HF_TOKEN to your token",
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"{source}: the hub has no such data set, or it is private",
            hint="check the name; for a private data set, set HF_TOKEN to your token",
        ) from error
    except Exception as error:  # on any network error the local cache may still have it
        return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return None


@contextmanager
def _offline(enabled: bool) -> Iterator[None]:
    """Keep the hub client from retrying for half a minute when the hub is known to be unreachable."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or enabled
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
