"""What libraries read from the environment when they start: set before torch is loaded, and only by a command.

A person's own setting always stands.
"""

from __future__ import annotations

import os

KERNELS = "64"
"""oneDNN keeps what it compiled for a shape of a product. Packed texts give new shapes at every step, and with 1,024 of
them, its own limit, and as many in PyTorch's layer above, a training took up to twice the memory and no less time."""


def tune_libraries() -> None:
    """Let threads wait for each other asleep, and keep few compiled kernels."""
    # Threads that spin for ever while they wait for each other stall where other programs want the processors, too: a
    # step took 5.9 s instead of 0.5 s. Spinning this long costs 3% on a free machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    os.environ.setdefault("LRU_CACHE_CAPACITY", KERNELS)
