"""The manifest of a bundle. No torch here.

A bundle is a run folder with a `textune.json`. The manifest is written last and atomically, and it lists the SHA-256
of every file that no longer changes, so a folder is either a complete bundle or none.
"""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.bundle.checks import DIGEST, compute_digest, list_wrong_fields
from textune.bundle.folder import MANIFEST
from textune.config.long_text import LONG_TEXT_FORMS, LongText
from textune.errors import BundleError, OldBundleWarning, TextuneError, show_resume
from textune.files import confined_path, hash_file, read_json, write_text_atomically

FORMAT_VERSION = 2
"""Since 2 the manifest holds a digest of itself; before, a changed value could not be told from a right one."""
_HUB_ID = re.compile(r"(?!runs/)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_READABLE = (1, 2)
METRICS = "evaluation/metrics.json"
FIGURES = (METRICS, "evaluation/predictions.parquet")
"""What a run's figures are read from. They are no files of the bundle: a published run leaves them out."""


@dataclass(frozen=True)
class BaseModel:
    """The run's pretrained model: enough to find and verify it.

    id: hub id, or the folder's name for a local model; never a path.
    sha256: hash of its weight file (of the sorted per-file digests if there are several).
    """

    id: str
    family: str
    sha256: str
    revision: str | None = None
    local: bool = False


ZERO_SHOT = "zero-shot"
"""The method of a model that was not tuned, for labels named at prediction."""


@dataclass(frozen=True)
class TextColumns:
    """The columns read in training, so that prediction reads files the same way.

    indicators: 0/1 label columns, one per label; `label` is then None. label_separator: separates the labels in a cell
    of multi-label data.
    """

    text: tuple[str, ...] = ("text",)
    text_pair: str | None = None
    joiner: str = " "
    label: str | None = None
    group: str | None = None
    indicators: tuple[str, ...] = ()
    label_separator: str = "|"

    @property
    def chat(self) -> bool:
        """Whether one column holds whole chats, text and label at once."""
        return self.text == (self.label,)


@dataclass(frozen=True)
class Manifest:
    """The content of `textune.json`.

    imported: peft_type and peft_version of the adapter folder that the run was imported from; empty for a trained run.
    pooling: "first", "mean", "last" or "native" (`textune.backbones.pooling`); None in bundles older than the setting:
    the architecture's default.
    random_weights: modules besides the head that the checkpoint lacked and that were allowed to start at random.
    needs_trust: whether the base model has code of its own or pickled weights, which each call must trust by name.
    decisions: rules and numbers by which probabilities become answers (`textune.evaluation.decisions.Decisions`); empty
    in older bundles.
    writing: how a model that writes is used: max_new_tokens, stop_token_ids, temperature, top_p; else empty.
    fixes: how many labels a review file changed, and rows it removed; empty without one.
    exported: form, padding and measured quality of an ONNX export; empty for a run.
    figures: the SHA-256 of FIGURES; empty before the run is measured, and in older bundles.
    """

    task: str
    labels: tuple[str, ...]
    label_values: tuple[str, ...]
    base_model: BaseModel
    method: str
    method_options: Mapping[str, Any]
    max_length: int
    pad_token_id: int
    columns: TextColumns
    seed: int
    data_fingerprint: str
    engine: Mapping[str, Any]
    trainable_parameters: int
    total_parameters: int
    versions: Mapping[str, str]
    textune_version: str
    created: str
    new_modules: tuple[str, ...] = ()
    random_weights: tuple[str, ...] = ()
    needs_trust: bool = False
    long_text: LongText = field(default_factory=LongText)
    pooling: str | None = None
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    decisions: Mapping[str, Any] = field(default_factory=dict)
    imported: Mapping[str, str] = field(default_factory=dict)
    exported: Mapping[str, Any] = field(default_factory=dict)
    fixes: Mapping[str, Any] = field(default_factory=dict)
    writing: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    test_reads: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def is_tuned(self) -> bool:
        """Whether this is of a run, and not of a model that chooses among labels without tuning."""
        return self.method != ZERO_SHOT


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `textune.json` atomically; call this after every file it lists is on disk."""
    plain = json.loads(json.dumps(dataclasses.asdict(manifest) | {"format_version": FORMAT_VERSION}))
    text = json.dumps({DIGEST: compute_digest(plain)} | plain, indent=2, ensure_ascii=False)
    write_text_atomically(folder / MANIFEST, text + "\n")


def read_manifest(folder: str | Path, *, verify: bool = True) -> Manifest:
    """Read a bundle's manifest and check that each file it lists exists, is inside the folder and is unchanged.

    Raises BundleError: no bundle, unknown format, a missing or changed file, a link that leaves the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        on_hub = _HUB_ID.fullmatch(folder.as_posix()) and not folder.parent.exists()
        hint = f"if it is on the hub, download it first: hf download {folder.as_posix()} --local-dir FOLDER"
        raise BundleError(f"{folder}: no such run folder", hint=hint if on_hub else None)
    if not (folder / MANIFEST).is_file():
        unfinished = (folder / "checkpoints").is_dir()
        raise BundleError(
            f"{folder}: not a finished run: {MANIFEST} is missing",
            hint=f"continue it with: {show_resume(folder)}" if unfinished else "give the folder of a run",
        )
    content = read_json(folder / MANIFEST, "the manifest")
    _check_content(folder, content)
    try:
        manifest = _build_manifest(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{folder / MANIFEST}: the manifest is damaged: {error}") from error
    for name, digest in manifest.files.items():
        path = confined_path(folder, name)
        if not path.is_file():
            raise BundleError(f"{path}: is missing, so the bundle is incomplete")
        if verify and hash_file(path) != digest:
            raise BundleError(
                f"{path}: changed or damaged: its SHA-256 differs from the manifest's",
                hint="restore the file from a copy of the run, or train again",
            )
    return manifest


def is_measured(folder: Path) -> bool:
    """Return whether a run is whole: the manifest gets its metrics last, after the report and the card.

    Raises BundleError for a damaged manifest.
    """
    return (folder / MANIFEST).is_file() and bool(read_manifest(folder, verify=False).metrics)


def is_finished(folder: Path) -> bool:
    """Return whether a run is whole and its manifest can be read."""
    try:
        return is_measured(folder)
    except (TextuneError, OSError):
        return False


def _check_content(folder: Path, content: Mapping[str, Any]) -> None:
    """Raise BundleError where the format is unknown, the digest is wrong or a value cannot be."""
    path, version = folder / MANIFEST, content.get("format_version")
    if type(version) is not int or version not in _READABLE:
        raise BundleError(
            f"{path}: unknown format {version!r}; this version reads formats 1 to {FORMAT_VERSION}",
            hint="install a newer textune" if isinstance(version, int) and version > FORMAT_VERSION else None,
        )
    wrong = list_wrong_fields(content)
    if version >= 2 and content.get(DIGEST) != compute_digest(content):
        raise BundleError(
            f"{path}: changed or damaged: its digest does not match its content" + (f" ({wrong[0]})" if wrong else ""),
            hint="restore the file from a copy of the run, or train again",
        )
    if wrong:
        raise BundleError(f"{path}: the manifest is damaged: {'; '.join(wrong[:3])}")
    if version == 1:
        warnings.warn(
            f"{folder}: a bundle of format 1, whose manifest has no digest: a changed value in it would not be noticed",
            OldBundleWarning,
            stacklevel=3,
        )


def refuse_altered(folder: Path, manifest: Manifest, name: str) -> None:
    """Raise BundleError if a file of FIGURES is not what the run wrote. A published run has left them out."""
    path, digest = folder / name, manifest.figures.get(name)
    if digest is not None and path.is_file() and hash_file(path) != digest:
        raise BundleError(
            f"{path}: changed or damaged: its SHA-256 differs from the manifest's",
            hint="restore the file from a copy of the run, or train again",
        )


def read_metrics(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Return the figures of a finished run; raise BundleError if they are missing or were changed."""
    refuse_altered(folder, manifest, METRICS)
    return read_json(folder / METRICS, "the run's metrics")


def refuse_exported(run: str | Path, manifest: Manifest) -> None:
    """Raise BundleError for an ONNX export."""
    if manifest.exported:
        raise BundleError(f"{run}: is an ONNX export, not a run", hint="give the run that it was exported from")


def _build_manifest(content: Mapping[str, Any]) -> Manifest:
    names = {f.name for f in dataclasses.fields(Manifest)}
    values = {k: v for k, v in content.items() if k in names}
    columns = values["columns"]
    values["base_model"] = BaseModel(**values["base_model"])
    values["columns"] = TextColumns(
        **(columns | {name: tuple(columns.get(name, ())) for name in ("text", "indicators")})
    )
    if "long_text" in values:
        values["long_text"] = _build_long_text(values["long_text"])
    for name in ("labels", "label_values", "new_modules", "random_weights"):
        values[name] = tuple(str(v) for v in values.get(name, ()))
    if values.get("thresholds") is not None:
        values["thresholds"] = tuple(float(v) for v in values["thresholds"])
    return Manifest(**values)


def _build_long_text(content: Mapping[str, Any]) -> LongText:
    long_text = LongText(**content)
    counts = (long_text.overlap, long_text.max_windows)
    valid = all(type(n) is int for n in counts) and long_text.overlap >= 0 and long_text.max_windows >= 1
    if long_text.form not in LONG_TEXT_FORMS or not valid or not 0 <= long_text.head_fraction <= 1:
        raise ValueError(f"invalid long_text {dict(content)}")
    return long_text
