"""The run folder's format: manifest, hashes, lock, and names that cannot leave the workspace. No torch here.

A bundle is a run folder whose `textune.json` exists. The manifest is written last and atomically, and it names
the SHA-256 of every file that never changes again, so a folder is either a whole bundle or none.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.bundle.folder import MANIFEST
from textune.config.long_text import LONG_TEXT_FORMS, LongText
from textune.errors import BundleError
from textune.files import confined_path, hash_file, read_json, write_text_atomically

FORMAT_VERSION = 1
EXPORTED_FORMS = ("onnx", "onnx-int8")


@dataclass(frozen=True)
class BaseModel:
    """The pretrained model under the run: enough to find it again and to know it is the same.

    id: hub id, or the folder's name for a local model; never a path.
    sha256: of its weight file (of the sorted per-file digests where there are several).
    """

    id: str
    family: str
    sha256: str
    revision: str | None = None
    local: bool = False


@dataclass(frozen=True)
class TextColumns:
    """Which columns were read as text, so that files can be predicted the way they were trained.

    indicators: label columns of 0 and 1, one per label; then there is no `label`. label_separator: joins the labels
    of one cell in multi-label data.
    """

    text: tuple[str, ...] = ("text",)
    text_pair: str | None = None
    joiner: str = " "
    label: str | None = None
    group: str | None = None
    indicators: tuple[str, ...] = ()
    label_separator: str = "|"


@dataclass(frozen=True)
class Manifest:
    """What `textune.json` says.

    imported: peft_type and peft_version of the adapter folder that the run was made of; empty for a trained run.
    pooling: what the head reads of a text: "first", "mean", "last" or "native" (`textune.pooling`); None, in bundles
    that are older than the setting: as the architecture does by itself.
    exported: form, padding and measured quality of an ONNX folder; empty for a run.
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
    long_text: LongText = field(default_factory=LongText)
    pooling: str | None = None
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    imported: Mapping[str, str] = field(default_factory=dict)
    exported: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    test_reads: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `textune.json` atomically; call it when every file it names is on disk."""
    content = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False)
    write_text_atomically(folder / MANIFEST, content + "\n")


def read_manifest(folder: str | Path, *, verify: bool = True) -> Manifest:
    """Read a bundle's manifest and checks that each file it names is there, inside, and unchanged.

    Raises BundleError: no bundle, unknown format, a missing or altered file (named), a link that leaves the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{folder}: there is no such run folder")
    if not (folder / MANIFEST).is_file():
        unfinished = (folder / "checkpoints").is_dir()
        raise BundleError(
            f"{folder}: not a finished run: {MANIFEST} is missing",
            hint=f"go on with: textune resume {folder}" if unfinished else "give the folder that 'textune train' made",
        )
    content = read_json(folder / MANIFEST, "the manifest")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{folder / MANIFEST}: format {version!r} is not known to this version, which reads {FORMAT_VERSION}",
            hint="install a newer textune" if isinstance(version, int) and version > FORMAT_VERSION else None,
        )
    try:
        manifest = _build_manifest(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{folder / MANIFEST}: the manifest is damaged: {error}") from error
    for name, digest in manifest.files.items():
        path = confined_path(folder, name)
        if not path.is_file():
            raise BundleError(f"{path}: the bundle is incomplete: this file is missing")
        if verify and hash_file(path) != digest:
            raise BundleError(
                f"{path}: the file was altered or damaged: its SHA-256 is not the manifest's",
                hint="take the file from a copy of the run, or train again",
            )
    return manifest


def refuse_exported(run: str | Path, manifest: Manifest) -> None:
    """Raise BundleError for an ONNX folder where a run is wanted."""
    if manifest.exported:
        raise BundleError(
            f"{run}: was exported to ONNX, and is no run any more", hint="give the run that it was made of"
        )


def _build_manifest(content: Mapping[str, Any]) -> Manifest:
    known = {f.name for f in dataclasses.fields(Manifest)}
    values = {k: v for k, v in content.items() if k in known}
    columns = values["columns"]
    values["base_model"] = BaseModel(**values["base_model"])
    values["columns"] = TextColumns(
        **(columns | {name: tuple(columns.get(name, ())) for name in ("text", "indicators")})
    )
    if "long_text" in values:
        values["long_text"] = _build_long_text(values["long_text"])
    for name in ("labels", "label_values", "new_modules"):
        values[name] = tuple(str(v) for v in values[name])
    if len(values["labels"]) != len(values["label_values"]) or not values["labels"]:
        raise ValueError("labels and label_values do not fit together")
    if not all(isinstance(v, str) for v in values["files"].values()):
        raise ValueError("files must map names to SHA-256 digests")
    if values.get("thresholds") is not None:
        values["thresholds"] = tuple(float(v) for v in values["thresholds"])
        if len(values["thresholds"]) != len(values["labels"]):
            raise ValueError("there must be one threshold per label")
    if values.get("exported") and values["exported"]["form"] not in EXPORTED_FORMS:
        raise ValueError(f"the exported form {values['exported']['form']!r} is not known")
    if values.get("pooling") not in (None, "first", "mean", "last", "native"):
        raise ValueError(f"the pooling {values['pooling']!r} is not known")
    if not isinstance(values["task"], str):
        raise ValueError(f"the task {values['task']!r} is not a name")
    return Manifest(**values)


def _build_long_text(content: Mapping[str, Any]) -> LongText:
    long_text = LongText(**content)
    counts = (long_text.overlap, long_text.max_windows)
    fits = all(type(n) is int for n in counts) and long_text.overlap >= 0 and long_text.max_windows >= 1
    if long_text.form not in LONG_TEXT_FORMS or not fits or not 0 <= long_text.head_fraction <= 1:
        raise ValueError(f"long_text {dict(content)} is not known")
    return long_text
