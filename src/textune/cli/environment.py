"""Environment variables for the libraries, set by commands before torch is imported.

Variables that the user has set are never changed.
"""

from __future__ import annotations

import os

VERBOSE = "TEXTUNE_VERBOSE"
"""Set while --verbose is on the command line: commands then also say what they do for speed."""
KERNELS = "64"
"""oneDNN caches a compiled kernel per matrix shape. Packed texts have new shapes at every step: with oneDNN's default
of 1,024 kernels, and as many in PyTorch's own cache, training took up to twice the memory and was not faster."""


def tune_libraries() -> None:
    """Limit how long threads spin while waiting, and how many compiled kernels are cached."""
    # Endlessly spinning threads stall when other programs need the processors: a step took 5.9 s instead of 0.5 s.
    # This limit costs 3% on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    os.environ.setdefault("LRU_CACHE_CAPACITY", KERNELS)
