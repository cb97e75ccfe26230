"""Delete what textune made, and nothing else: no link is followed, and no file that it does not know is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textune.app.jobs import forget_job, jobs_folder, refuse_live
from textune.bundle import MANIFEST, PLAN, SETTINGS, SWEEP, lock_run, read_manifest
from textune.errors import BundleError, TextuneError
from textune.export.marker import MARKER, read_marker
from textune.files import PARTIAL, read_json, remove_folder

_KNOWN = frozenset(
    {MANIFEST, PLAN, SETTINGS, SWEEP, "README.md", "metrics.jsonl", "test_reads.jsonl", ".lock", "evaluation", "data"}
    | {"checkpoints", "backbone", "tensorboard", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    | {"vocab.txt", "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja", "tokenizer.model"}
    | {"config.json", "generation_config.json", "adapter_config.json", "adapter_model.safetensors", "thresholds.json"}
    | {"delta.safetensors", "model.safetensors", "model.onnx", "predict.py", "requirements.txt", "app.py", "LICENSE"}
    | {"sweep.json", "journal.log", "trials", "winner", "report.html", "report.md", "compare.json", "spm.model"}
    | {"sentencepiece.bpe.model", "spiece.model", "model.onnx.data"}
)
"""What textune writes at the top of its folders, beside what a manifest lists."""


@dataclass(frozen=True)
class Removal:
    """What deleting a folder would remove. files: their number, in all folders below it. size: their bytes."""

    folder: Path
    files: int
    size: int


def plan_removal(folder: Path) -> Removal:
    """Return what would be removed; raise BundleError if a folder is a link, not textune's, or holds something else."""
    if folder.is_symlink():
        raise BundleError(f"{folder}: is a symbolic link, and the app follows none")
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder")
    if not _is_ours(folder):
        raise BundleError(f"{folder}: is not a run, a sweep, an export or a comparison", hint="remove it by hand")
    refuse_live(folder.name, folder.parent)
    strange = sorted(p.name for p in folder.iterdir() if p.name not in _list_known(folder) and PARTIAL not in p.name)
    if strange:
        listed = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
        raise BundleError(f"{folder}: holds files that textune did not write: {listed}", hint="move them away first")
    files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return Removal(folder, len(files), sum(path.lstat().st_size for path in files))


def _is_ours(folder: Path) -> bool:
    """Return whether the content of a folder says that textune made it; a name alone proves nothing."""
    try:
        if (folder / MANIFEST).is_file():
            return bool(read_json(folder / MANIFEST, "the manifest").get("textune_version"))
        if (folder / PLAN).is_file():
            return {"settings", "precision", "engine"} <= read_json(folder / PLAN, "the run's plan").keys()
        if (folder / SWEEP).is_file():
            return (folder / "journal.log").is_file() or (folder / "trials").is_dir()
        if (folder / "compare.json").is_file():
            return (folder / "report.html").is_file()
    except (TextuneError, OSError):
        return False
    return False


def _list_known(folder: Path) -> frozenset[str]:
    try:
        listed = list(read_manifest(folder, verify=False).files) if (folder / MANIFEST).is_file() else []
        listed += [MARKER, *read_marker(folder)] if (folder / MARKER).is_file() else []
    except TextuneError:
        listed = []
    return _KNOWN | {str(name).partition("/")[0] for name in listed}


def remove(folder: Path, typed: str) -> Removal:
    """Delete a folder of textune's whose name was typed; raise BundleError if another process works on it."""
    if typed != folder.name:
        raise BundleError(f"type the name {folder.name} to delete it")
    plan = plan_removal(folder)
    with lock_run(folder, "wait until it has finished, or stop it"):
        remove_folder(folder)
    if (jobs_folder(folder.parent) / folder.name).is_dir():
        forget_job(folder.name, folder.parent)
    return plan
