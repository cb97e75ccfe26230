"""The device of a training, through accelerate."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from textune.errors import TrainingError

_threads: tuple[int, int] | None = None
"""The process's own number of threads, and the number that a run has set since."""


def set_threads(threads: int | None) -> None:
    """Use this many CPU threads; None: as many as the process used before a run set another number."""
    global _threads
    now = torch.get_num_threads()
    own = now if _threads is None or _threads[1] != now else _threads[0]  # else the caller set its own number since
    wanted = own if threads is None else threads
    if wanted != now:
        torch.set_num_threads(wanted)
    _threads = own, wanted


def open_accelerator(device: str) -> Accelerator:
    """Return accelerate's view of the devices, mixed precision off: textune's engine owns the dtypes.

    Raises TrainingError if the requested device is not available.
    """
    from accelerate.state import AcceleratorState, PartialState

    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device=cuda: PyTorch finds no CUDA device", hint="leave device out, or set device=cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise TrainingError("device=mps: PyTorch finds no Apple GPU", hint="leave device out, or set device=cpu")
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision="no")
