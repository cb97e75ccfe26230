"""The precision of matrix products: a short probe of this machine decides, and the result is cached.

It is cached because two loads of one model must give the same logits, even if fp32 and bf16 are about equally fast.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textune import cache
from textune.engine.budget import describe_processor

if TYPE_CHECKING:
    import torch

_SPEEDUP_WANTED = 1.3


@dataclass(frozen=True)
class Precision:
    """The precision of matrix products and the reason for it. name: "fp32" or "bf16"."""

    name: str
    reason: str


def probe_precision(wanted: str, device: torch.device) -> Precision:
    """Choose between fp32 and bf16: as requested, or by timing both on this device.

    CPUs without bf16 instructions emulate it, far slower than fp32, so both are timed.
    """
    if wanted != "auto":
        return Precision(wanted, "as set")
    import torch

    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return (
            Precision("bf16", "this GPU supports it") if fast else Precision("fp32", "this GPU does not support bf16")
        )
    if device.type != "cpu":
        return Precision("fp32", f"bf16 is not tested on {device.type}")

    def measure() -> int:
        return round(100 * _time_products(torch.float32) / _time_products(torch.bfloat16))

    machine = (describe_processor(), torch.get_num_threads(), torch.__version__)
    speedup = (cache.recall("|".join(map(str, ("bf16 percent", *machine))), measure) or 0) / 100
    name = "bf16" if speedup >= _SPEEDUP_WANTED else "fp32"
    return Precision(name, f"bf16 matrix products ran {speedup:.1f}x as fast as fp32 here")


def _time_products(dtype: torch.dtype) -> float:
    """Return the seconds of the fastest of five products, in the shape of a small encoder's feed-forward."""
    import torch

    generator = torch.Generator().manual_seed(0)  # leaves the run's random state unchanged
    left = torch.randn(1024, 384, generator=generator).to(dtype)
    right = torch.randn(1536, 384, generator=generator).to(dtype)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
