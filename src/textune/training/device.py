"""The device of a training, through accelerate."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from textune.errors import TrainingError


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
