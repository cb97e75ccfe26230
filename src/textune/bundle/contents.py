"""What a run's folder holds: textune empties it only of its own files, never of a person's."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from textune.bundle.folder import BEFORE_SETTINGS, MANIFEST, MARKERS, PLAN, SETTINGS, SWEEP, has_begun
from textune.bundle.manifest import is_finished
from textune.config import load_settings
from textune.errors import BundleError, TextuneError, flag, show_resume
from textune.files import PARTIAL, read_json

MODEL_FILES = frozenset(
    {"adapter_config.json", "adapter_model.safetensors", "delta.safetensors", "model.safetensors", "config.json"}
    | {"generation_config.json", "thresholds.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    | {"special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model"}
    | {"spm.model", "sentencepiece.bpe.model", "spiece.model"}
)
"""What a model of textune's is loaded from, at the top of a run or a merged folder."""
_KNOWN = MODEL_FILES | frozenset(
    {MANIFEST, PLAN, SETTINGS, SWEEP, "README.md", "metrics.jsonl", "test_reads.jsonl", ".lock", "evaluation", "data"}
    | {"checkpoints", "backbone", "tensorboard", "model.onnx", "model.onnx.data", "predict.py", "requirements.txt"}
    | {"app.py", "LICENSE", "sweep.json", "journal.log", "trials", "winner", "report.html", "report.md"}
    | {"compare.json", "textune_export.json"}
)
"""What textune writes at the top of its folders, beside what a manifest lists."""
_KNOWN_INSIDE = {
    "data": ("row_hashes.safetensors",),
    "evaluation": ("metrics.json", "predictions.parquet", "report.html"),
    "backbone": ("config.json",),
    "checkpoints": ("step-*",),
    "checkpoints/step-*": ("trainable.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"),
    "tensorboard": ("events.out.tfevents.*",),
    "trials": ("[0-9][0-9][0-9][0-9]*",),
}
"""All that textune writes into its folders, as patterns: a person may keep files there, too."""
_RUNS_INSIDE = ("winner", "trials/*", "trials/*/fold-*")
"""The folders of a search that are runs of their own."""
OF_THE_DESKTOP = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What file managers leave in every folder that they show."""


def list_foreign(folder: Path, also: Iterable[str] = ()) -> list[str]:
    """Return the names at the top of a folder of textune's that it did not write. also: further names that it wrote."""
    known = _KNOWN | OF_THE_DESKTOP | {name.partition("/")[0] for name in (*_list_files(folder), *also)}
    return sorted(path.name for path in folder.iterdir() if path.name not in known and not _is_partial(path))


def holds_run(folder: Path) -> bool:
    """Return whether the content of a folder's files says that it is a run, an export or a sweep.

    A name alone proves nothing: other programs write a sweep.yaml and a plan.json, too.
    """
    return _is_manifest(folder / MANIFEST) or is_plan(folder / PLAN) or is_sweep(folder / SWEEP)


def _is_manifest(path: Path) -> bool:
    try:
        return bool(read_json(path, "the manifest").get("textune_version"))
    except BundleError:
        return False


def is_plan(path: Path) -> bool:
    """Return whether a file is there and a run's plan."""
    try:
        return {"settings", "precision", "engine"} <= read_json(path, "the run's plan").keys()
    except BundleError:
        return False


def is_sweep(path: Path) -> bool:
    """Return whether a file is there and has the settings of a search."""
    try:
        search = load_settings(path).get("sweep") if path.is_file() else None
    except (TextuneError, OSError):
        return False
    return isinstance(search, dict) and "space" in search


def refuse_foreign(folder: Path) -> None:
    """Raise BundleError if a folder must not be overwritten: it is not a run, or holds files not of textune's."""
    if not holds_run(folder):
        raise BundleError(
            f"{folder}: not overwritten, because it contains files that are not a run's",
            hint="set another name= or runs_dir=",
        )
    if foreign := [*list_foreign(folder), *_list_foreign_inside(folder)]:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise BundleError(
            f"{folder}: not overwritten, because it also holds what textune did not write: {foreign[0]}{more}",
            hint="move that away, or set another name= or runs_dir=",
        )


def prepare_run_folder(folder: Path, *, overwrite: bool) -> None:
    """Create the folder, or empty it with overwrite or if a run was killed in it before it could be resumed.

    Raises BundleError if it contains anything else.
    """
    contents = _list_contents(folder)
    if not contents:
        folder.mkdir(parents=True, exist_ok=True)
        return
    if not _never_started(folder):
        if not overwrite:
            raise _exists(folder)
        refuse_foreign(folder)
    # remove the markers last: if this is killed, the rest is still recognized as a run
    for path in sorted(contents, key=lambda path: path.name in MARKERS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_overwritable(folder: Path) -> None:
    """Raise BundleError where `prepare_run_folder` could not empty a folder, before the work for it is done."""
    if _list_contents(folder) and not _never_started(folder):
        refuse_foreign(folder)


def _exists(folder: Path) -> BundleError:
    resumable = has_begun(folder) and not is_finished(folder)
    search = (folder / SWEEP).is_file()
    resumable |= search and not (folder / SWEEP).with_suffix(".json").is_file()
    return BundleError(
        f"{folder}: this run already exists",
        hint=f"add {flag('overwrite')}, or continue it with: {show_resume(folder, search=search)}"
        if resumable
        else f"set another name=, or add {flag('overwrite')}",
    )


def _list_contents(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != ".lock"] if folder.is_dir() else []


def _never_started(folder: Path) -> bool:
    """Return whether a run was killed in a folder before it could be resumed."""
    plan = folder / PLAN
    return {path.name for path in _list_contents(folder)} <= BEFORE_SETTINGS and (not plan.exists() or is_plan(plan))


def _list_foreign_inside(folder: Path) -> Iterator[str]:
    """Yield what textune did not write into its own folders."""
    listed = set(_list_files(folder))
    for pattern, known in _KNOWN_INSIDE.items():
        for path in sorted(folder.glob(f"{pattern}/*")):
            name = path.relative_to(folder).as_posix()
            is_known = path.name in OF_THE_DESKTOP or any(fnmatchcase(path.name, each) for each in known)
            if not is_known and name not in listed and not _is_partial(path):
                yield name
    for pattern in _RUNS_INSIDE:
        for run in filter(Path.is_dir, sorted(folder.glob(pattern))):
            folds = [path.name for path in run.glob("fold-*")] if pattern == "trials/*" else []
            place = run.relative_to(folder).as_posix()
            yield from (f"{place}/{name}" for name in (*list_foreign(run, folds), *_list_foreign_inside(run)))


def _list_files(folder: Path) -> list[str]:
    """Return the files that a manifest lists, if there is one that reads."""
    try:
        files = read_json(folder / MANIFEST, "the manifest").get("files")
    except BundleError:
        return []
    return [str(name) for name in files] if isinstance(files, dict) else []


def _is_partial(path: Path) -> bool:
    return PARTIAL in path.name or path.name.endswith(".partial")
