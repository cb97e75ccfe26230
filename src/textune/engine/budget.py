"""How many tokens may go through a model at once, by the memory that there is, and how to tell that it was too many."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import torch

MOST_TOKENS = 8_192
"""More at once gains nothing: with 4,096 tokens a step took 2% longer than with all at once, with 2,048 it took 7%."""
FEWEST_TOKENS = 256
_SHARE = 0.125
"""Of the device's memory: other programs want some, and what is freed is not always given back."""


def probe_token_budget(config: Any, max_length: int, device: torch.device, *, lean: bool, bytes_each: int) -> int:
    """Return the tokens of one forward and backward pass that an eighth of the memory holds, as a power of two.

    Of the whole memory, not of what is free just now: the same seed must cut the same pieces tomorrow.
    config: the model's own. bytes_each: of a number that is kept for the backward pass.
    """
    wide = [int(getattr(config, name, 0) or 0) for name in ("intermediate_size", "hidden_dim", "n_inner")]
    width = int(getattr(config, "hidden_size", 0) or 768)
    layers = int(getattr(config, "num_hidden_layers", 0) or 12)
    heads = int(getattr(config, "num_attention_heads", 0) or 12)
    inner = max(wide) or 4 * width
    # What the backward pass needs of each token: the layers' inputs and outputs, and the attention weights.
    kept = layers * (12 * width + 3 * inner + (1 if lean else 3) * heads * max_length)
    budget = int(_whole_bytes(device) * _SHARE / (kept * bytes_each))
    return max(FEWEST_TOKENS, min(MOST_TOKENS, 1 << max(budget, 1).bit_length() - 1))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def describe_processor() -> str:
    """Return the processor's name as far as the system tells it, and how many it has."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} x {os.cpu_count()}"


def _whole_bytes(device: torch.device) -> int:
    """Return the device's memory; a container's limit counts."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):  # without control groups, or without a limit ("max")
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(limits)
