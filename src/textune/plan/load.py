"""How busy other programs keep the processors: the times of a rehearsal hold for that load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_STATISTICS = Path("/proc/stat")
_IDLE, _WAITING = 3, 4
_TIMES = 8
"""Of a line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal. Time of guests is in user already."""
BUSY, SPARE = 0.2, 0.2
"""A machine is busy where others use this share of the processors or more, and no more than this share is idle."""


@dataclass(frozen=True)
class ProcessorTimes:
    """Seconds since the start of the machine, summed over the processors that this process may use.

    process: seconds of this process and its finished children.
    """

    total: float
    idle: float
    process: float


def read_times() -> ProcessorTimes | None:
    """Return the times up to now, or None where the system does not give them."""
    try:
        rows = [line.split() for line in _STATISTICS.read_text(encoding="ascii").splitlines()]
        usable = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    counts = [[int(word) for word in row[1 : 1 + _TIMES]] for row in rows if row and row[0] in usable]
    if not counts:
        return None
    used = os.times()
    process = used.user + used.system + used.children_user + used.children_system
    idle = sum(count[_IDLE] + count[_WAITING] for count in counts)
    return ProcessorTimes(sum(map(sum, counts)) / ticks, idle / ticks, process)


def measure_load(before: ProcessorTimes | None, after: ProcessorTimes | None) -> Mapping[str, float] | None:
    """Return the shares of the processors' time that went to others and to nobody; None where that is unknown."""
    if before is None or after is None or after.total <= before.total:
        return None
    total, idle, process = (getattr(after, name) - getattr(before, name) for name in ("total", "idle", "process"))
    return {"others": min(max((total - idle - process) / total, 0.0), 1.0), "idle": min(max(idle / total, 0.0), 1.0)}


def describe_load(load: Mapping[str, float] | None) -> str | None:
    """Return what makes the times longer than on a quiet machine, or None."""
    if load is None or load["others"] < BUSY or load["idle"] > SPARE:
        return None
    return (
        f"this machine is busy: other programs used {load['others']:.0%} of the processors' time during the rehearsal; "
        "the times hold for such a load, and are shorter without it"
    )
