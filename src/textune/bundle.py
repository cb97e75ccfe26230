"""The run folder's format: manifest, hashes, lock, and names that cannot leave the workspace. No torch here.

A bundle is a run folder whose `textune.json` exists. The manifest is written last and atomically, and it names
the SHA-256 of every file that never changes again, so a folder is either a whole bundle or none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from textune.config import LONG_TEXT_FORMS, RunConfig
from textune.errors import BundleError, ConfigError

FORMAT_VERSION = 1
MANIFEST = "textune.json"
SWEEP = "sweep.yaml"
"""What makes a folder that of a search over many trainings."""
PLAN, SETTINGS = "plan.json", "config.yaml"
"""Written in this order, so that a run with its settings can be resumed."""
_MARKS = (PLAN, SWEEP, MANIFEST)
_BEFORE_SETTINGS = frozenset({PLAN, f"{PLAN}.partial", f"{SETTINGS}.partial", f"{SWEEP}.partial"})
EXPORTED_FORMS = ("onnx", "onnx-int8")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_LARGEST_JSON_BYTES = 64 * 2**20


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
class LongText:
    """What becomes of a text longer than max_length, in training and ever after.

    form: "truncate" (its first tokens), "head_tail" (its first and its last), "window" (overlapping windows, whose
    logits are averaged). overlap: tokens that a window shares with the one before. max_windows: of one text.
    head_fraction: share of the tokens kept that come from the beginning.
    """

    form: str = "truncate"
    overlap: int = 0
    max_windows: int = 1
    head_fraction: float = 1.0

    def describe(self) -> str:
        """Returns in a few words how such a text is read."""
        if self.form == "window":
            return f"read in windows that share {self.overlap} tokens, at most {self.max_windows}"
        if self.form == "head_tail":
            return f"read at the beginning ({self.head_fraction:.0%}) and the end"
        return "cut"


TRUNCATE = LongText()


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


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a text file so that it is either the old one or the whole new one, also after a crash."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_settings(config: RunConfig, path: Path) -> None:
    """Writes the settings that are not at None as YAML that `load_settings` reads back."""
    import yaml

    flat = {key: value for key, value in config.to_dict().items() if value is not None}
    write_text_atomically(path, yaml.safe_dump(flat, sort_keys=False, allow_unicode=True))


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Reads a JSON object of bounded size; raises BundleError naming the file and the reason."""
    try:
        if path.stat().st_size > _LARGEST_JSON_BYTES:
            raise BundleError(f"{path}: {what} is larger than {_LARGEST_JSON_BYTES >> 20} MiB; it is not read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path}: {what} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {what} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}: {what} is damaged: expected a JSON object")
    return content


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `textune.json` atomically; call it when every file it names is on disk."""
    content = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False)
    write_text_atomically(folder / MANIFEST, content + "\n")


def read_manifest(folder: str | Path, *, verify: bool = True) -> Manifest:
    """Reads a bundle's manifest and checks that each file it names is there, inside, and unchanged.

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
    """Raises BundleError for an ONNX folder where a run is wanted."""
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
    if len(values["labels"]) != len(values["label_values"]) or len(values["labels"]) < 2:
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
    if values["task"] not in ("single_label", "multi_label"):
        raise ValueError(f"the task {values['task']!r} is not known")
    return Manifest(**values)


def _build_long_text(content: Mapping[str, Any]) -> LongText:
    long_text = LongText(**content)
    counts = (long_text.overlap, long_text.max_windows)
    fits = all(type(n) is int for n in counts) and long_text.overlap >= 0 and long_text.max_windows >= 1
    if long_text.form not in LONG_TEXT_FORMS or not fits or not 0 <= long_text.head_fraction <= 1:
        raise ValueError(f"long_text {dict(content)} is not known")
    return long_text


def confined_path(folder: Path, name: str) -> Path:
    """Returns folder/name; raises BundleError where the name or a symbolic link leads outside the folder."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise BundleError(f"{folder}: the manifest names '{name}', which is outside of the folder")
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path}: a symbolic link leads out of the run folder")
    return path


def name_run(text: str) -> str:
    """Returns text turned into a name that a run folder may have."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:100] or "run"


def run_path(runs_dir: str, name: str) -> Path:
    """Returns the run's folder inside runs_dir; raises ConfigError where the name would leave it."""
    if not _RUN_NAME.fullmatch(name) or name.endswith("."):
        raise ConfigError(
            f"name={name!r}: a run's name has letters, digits, '.', '_' and '-' only, and is no path",
            hint="say where runs go with runs_dir=FOLDER",
        )
    path = Path(runs_dir) / name
    if path.is_symlink():
        raise ConfigError(f"{path}: is a symbolic link; runs are not written through links")
    return path


def check_place(folder: Path, setting: str) -> None:
    """Raises ConfigError where a folder can be neither made nor written to; setting: that names it.

    To be asked before anything is trained: hours later it would be too late.
    """
    exists = os.path.exists  # unlike Path.exists it raises nothing where nobody may look
    there = next(path for path in (folder, *folder.absolute().parents) if exists(path))
    if not there.is_dir():
        raise ConfigError(f"{there}: is a file, no folder", hint=f"give {setting} a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there}: cannot be written to", hint=f"give {setting} another folder")


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Holds the run folder for this process; raises BundleError at once where another holds it.

    The lock is the operating system's, so it goes with the process, however that ends.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BundleError(
            f"{folder}: another process is working on this run", hint="wait for it, or choose name="
        ) from None
    try:
        yield
    finally:
        lock.release()


def prepare_run_folder(folder: Path, *, overwrite: bool) -> None:
    """Empties the folder where that was asked for, or a run was killed in it before there was anything to resume.

    Raises BundleError where it holds something else.
    """
    inside = [p for p in folder.iterdir() if p.name != ".lock"] if folder.is_dir() else []
    if not inside:
        folder.mkdir(parents=True, exist_ok=True)
        return
    broken_start = {path.name for path in inside} <= _BEFORE_SETTINGS and _is_plan(folder / PLAN)
    if not overwrite and not broken_start:
        resumable = (folder / "checkpoints").is_dir() and not (folder / MANIFEST).is_file()
        resumable |= (folder / SWEEP).is_file() and not (folder / SWEEP).with_suffix(".json").is_file()
        raise BundleError(
            f"{folder}: this run exists already",
            hint=f"go on with 'textune resume {folder}', or add --overwrite" if resumable
            else "choose another name=, or add --overwrite",
        )  # fmt: skip
    if not broken_start and not any((folder / mark).is_file() for mark in _MARKS):
        raise BundleError(f"{folder}: holds files that are not a run's; it is not overwritten")
    # The marks go last: where this is killed, what is left can still be told from a person's own files.
    for path in sorted(inside, key=lambda path: path.name in _MARKS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_plan(path: Path) -> bool:
    """Returns whether a file, where there is one, is textune's: a person may call a file plan.json, too."""
    try:
        return not path.exists() or {"settings", "precision", "engine"} <= read_json(path, "the run's plan").keys()
    except BundleError:
        return False


def has_begun(folder: Path) -> bool:
    """Returns whether there is a run that `textune resume` can go on with, or that is finished."""
    return (folder / PLAN).is_file() and (folder / SETTINGS).is_file()


def hash_files(folder: Path, names: list[str]) -> dict[str, str]:
    """Returns the SHA-256 of each named file, in the order of the names."""
    return {name: hash_file(confined_path(folder, name)) for name in sorted(names)}


def append_json_line(path: Path, content: Mapping[str, Any]) -> None:
    """Adds one JSON line to a log file."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(content, ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a log of JSON lines; a last line cut short by a crash is left out."""
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):  # str.splitlines would cut at U+2028, too
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
