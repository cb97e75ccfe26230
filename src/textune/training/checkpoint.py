"""Checkpoints: complete or absent, hashed, and only safetensors and JSON inside.

One checkpoint is a folder `step-00000120` with trainable.safetensors, optimizer.safetensors, random.safetensors
and state.json, which holds the SHA-256 of the other files and of its own content. It is written under a temporary
name, then renamed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from textune.errors import BundleError, flag, show_resume
from textune.files import PARTIAL, flush, hash_file, is_disk_full, read_json, remove_folder, write_folder

_FILES = ("trainable.safetensors", "optimizer.safetensors", "random.safetensors")


@dataclass(frozen=True)
class CheckpointState:
    """The state of a training. best_*: best validation result so far; best_step is 0 before the first evaluation.

    plan: fingerprint of settings and data, which a resumed run must match.
    stale_evaluations: evaluations since the best one. seconds: training time so far. start_seconds: of what came before
    the first step, which a resumed run does not do again.
    """

    step: int
    plan: str
    best_step: int = 0
    best_value: float | None = None
    stale_evaluations: int = 0
    seconds: float = 0.0
    running_loss: float = 0.0
    running_rows: int = 0
    finished: bool = False
    start_seconds: float = 0.0


def estimate_bytes(parameters: list[torch.nn.Parameter]) -> int:
    """Return the size of one checkpoint: fp32 weights and AdamW's two moments."""
    return sum(p.numel() for p in parameters) * 4 * 3 + 64 * 1024


def check_space(folder: Path, bytes_needed: int) -> None:
    """Raise BundleError before training starts if the run would not fit on the disk."""
    free = shutil.disk_usage(folder).free
    if free < bytes_needed:
        raise BundleError(
            f"{folder}: the disk has {free / 2**20:.0f} MiB free, this run needs about {bytes_needed / 2**20:.0f} MiB",
            hint="free some space, or choose another disk with runs_dir=FOLDER",
        )


def save_checkpoint(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: CheckpointState
) -> Path:
    """Write one checkpoint under `folder` and return its path.

    Raises BundleError if the disk is full. The partial checkpoint is removed; older ones stay intact.
    """
    target = folder / f"step-{state.step:08d}"
    # A run that resumed before a damaged checkpoint replaces it.
    if target.is_dir() and find_damage(target) is None and _state_equals(target, state):
        return target
    try:
        names = trainable_parameters(model)
        with write_folder(target) as partial:
            save_file({n: p.detach().cpu().contiguous() for n, p in names.items()}, partial / _FILES[0])
            save_file(_optimizer_tensors(optimizer, names), partial / _FILES[1])
            save_file(_random_tensors(), partial / _FILES[2])
            content = vars(state) | {"files": {name: hash_file(partial / name) for name in _FILES}}
            content["sha256"] = _hash_content(content)
            (partial / "state.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            for name in (*_FILES, "state.json"):
                flush(partial / name)
        flush(folder)
    except Exception as error:
        if is_disk_full(error):
            raise BundleError(
                f"{folder}: the disk is full; the checkpoint at step {state.step} was not saved, older ones are intact",
                hint=f"free some space, then: {show_resume(folder.parent)}",
            ) from error
        raise
    return target


def _state_equals(target: Path, state: CheckpointState) -> bool:
    stored = read_json(target / "state.json", "the checkpoint's state")
    return all(stored.get(key) == value for key, value in vars(state).items() if not key.endswith("seconds"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints, oldest first, after removing leftovers of interrupted writes."""
    if not folder.is_dir():
        return []
    for leftover in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return sorted(p for p in folder.glob("step-*") if p.is_dir())


def load_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: str,
    warn: Callable[[str], None],
) -> CheckpointState | None:
    """Load the newest intact checkpoint into model, optimizer and random state; return None if there is none.

    Warns about a damaged checkpoint and uses the one before it. Raises BundleError if a file is missing, or if
    settings or data have changed since the checkpoint.
    """
    checkpoints = list_checkpoints(folder)
    for path in reversed(checkpoints):
        missing = [name for name in (*_FILES, "state.json") if not (path / name).is_file()]
        if missing:
            raise BundleError(
                f"{path}: {', '.join(missing)} is missing, so the run cannot resume exactly",
                hint="restore the file, or remove this checkpoint's folder to resume from an older one",
            )
        if (reason := find_damage(path)) is not None:
            warn(f"{path}: {reason}; using the checkpoint before it")
            continue
        content = read_json(path / "state.json", "the checkpoint's state")
        state = CheckpointState(**{k: v for k, v in content.items() if k not in ("files", "sha256")})
        if state.plan != plan:
            raise BundleError(f"{path}: settings or data have changed since this checkpoint")
        _load_into(path, model, optimizer)
        return state
    if checkpoints:
        raise BundleError(f"{folder}: every checkpoint is damaged", hint=f"train again with {flag('overwrite')}")
    return None


def find_damage(path: Path) -> str | None:
    """Return which files of a checkpoint are damaged, as a message, or None."""
    try:
        content = read_json(path / "state.json", "the checkpoint's state")
        damaged = [name for name in _FILES if hash_file(path / name) != content["files"][name]]
        damaged += ["state.json"] if _hash_content(content) != content["sha256"] else []
    except (BundleError, KeyError, TypeError, OSError) as error:
        return str(error)
    return f"{', '.join(damaged)} is damaged (SHA-256 differs)" if damaged else None


def _hash_content(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the content of state.json without its own hash."""
    hashed = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()


def load_trainable(path: Path, model: torch.nn.Module) -> None:
    """Load a checkpoint's trained tensors into the model; raise BundleError if it is damaged."""
    if (reason := find_damage(path)) is not None:
        raise BundleError(f"{path}: {reason}")
    _copy_tensors(load_file(path / _FILES[0]), trainable_parameters(model), path)


def remove_all_but(folder: Path, steps: set[int], newest: int) -> None:
    """Remove all but the newest checkpoints and those of the given steps."""
    for path in list_checkpoints(folder)[:-newest]:
        if int(path.name.removeprefix("step-")) not in steps:
            remove_folder(path)


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trained parameters by name."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def _optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: dict[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    by_identity = {id(p): n for n, p in names.items()}
    tensors: dict[str, torch.Tensor] = {}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            tensor = value if torch.is_tensor(value) else torch.tensor(float(value))
            tensors[f"{key}|{by_identity[id(parameter)]}"] = tensor.detach().cpu().contiguous()
    return tensors or {"empty": torch.zeros(1)}


def _random_tensors() -> dict[str, torch.Tensor]:
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return tensors


def _copy_tensors(tensors: dict[str, torch.Tensor], parameters: dict[str, torch.nn.Parameter], path: Path) -> None:
    if set(tensors) != set(parameters):
        raise BundleError(f"{path}: its tensors do not match the parameters that this run trains")
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def _load_into(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    parameters = trainable_parameters(model)
    _copy_tensors(load_file(path / _FILES[0]), parameters, path)
    optimizer.state.clear()
    for key, tensor in load_file(path / _FILES[1]).items():
        if key == "empty":
            continue
        entry, _, name = key.partition("|")
        # AdamW keeps its step count on the CPU and its moments on the parameter's device.
        device = torch.device("cpu") if entry == "step" else parameters[name].device
        optimizer.state[parameters[name]][entry] = tensor.to(device)
    random = load_file(path / _FILES[2])
    torch.set_rng_state(random["cpu"])
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            if f"cuda{i}" in random:
                torch.cuda.set_rng_state(random[f"cuda{i}"], i)
