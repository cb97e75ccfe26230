"""Class weights in the loss: as set, or balanced so that rare classes count as much as frequent ones. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textune.config.values import read_name
from textune.errors import ConfigError, suggest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ClassWeights = str | tuple[tuple[str, float], ...] | tuple[float, ...]
"""``"balanced"``, (label, weight) pairs, or one weight per class in the order of the labels."""

HEAVIEST_POSITIVE = 20.0
"""Largest balanced weight of a row with a label against one without it. A label with one row in a thousand would
otherwise get weight 1,000, and a few odd texts would dominate training."""


def parse_class_weights(value: Any) -> ClassWeights:
    """Turn ``"balanced"``, ``"ham=1,spam=4"``, ``"1,4"``, a list or a mapping into class weights.

    Raises ValueError if a weight is not a positive number or a class appears twice.
    """
    if isinstance(value, str):
        if value.strip() == "balanced":
            return "balanced"
        parts = [part.rpartition("=") for part in value.split(",")]
        value = [(n.strip(), w) for n, _, w in parts] if any(e for _, e, _ in parts) else [w for _, _, w in parts]
    elif isinstance(value, Mapping):
        value = list(value.items())
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be balanced, or a weight for every class, such as ham=1,spam=4")
    if not any(isinstance(item, list | tuple) for item in value):
        return tuple(_parse_weight(item) for item in value)
    if not all(isinstance(item, list | tuple) and len(item) == 2 for item in value):
        raise ValueError("each weight needs its class, such as ham=1,spam=4")
    names = [read_name(name) for name, _ in value]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"class {duplicates[0]!r} appears twice")
    return tuple(
        (name, _parse_weight(weight, f"class {name!r}: ")) for name, (_, weight) in zip(names, value, strict=True)
    )


def _parse_weight(value: Any, where: str = "") -> float:
    try:
        weight = float(value)
    except (ValueError, TypeError, OverflowError):
        weight = math.nan
    if isinstance(value, bool) or not math.isfinite(weight):
        raise ValueError(f"{where}{value!r} is not a weight: it must be a finite number")
    if weight <= 0:
        raise ValueError(f"{where}the weight {weight:g} must be above 0")
    return weight


def weigh_classes(
    setting: ClassWeights | None,
    counts: Sequence[int] | NDArray[Any],
    rows: int,
    values: Sequence[str],
    names: Sequence[str],
    *,
    multi_label: bool,
) -> NDArray[np.float32] | None:
    """Return the loss weights of the classes, or None if all are equal.

    counts: training rows per class. values, names: the classes as written in the data, and as displayed.
    One label per text: float32 [classes]; the balanced weight is rows / (classes x rows of the class).
    Several labels: float32 [classes, 2], the weights of an absent and a present label; the balanced weight of presence
    is absent rows / present rows, at most 20. Weights set by the user are those of presence.
    Weights are scaled to a mean of 1 over the training rows (and labels), so only their ratios matter and learning
    rates carry over. Raises ConfigError if a class is unknown, has no weight or, balanced, has no training row.
    """
    if setting is None:
        return None
    import numpy as np

    per_class = np.asarray(counts, dtype=np.float64)
    if setting == "balanced":
        if empty := [name for name, count in zip(names, per_class, strict=True) if not count]:
            raise ConfigError(
                f"class_weights=balanced: class '{empty[0]}' has no training rows, so it has no weight",
                hint="remove it from labels=, use more rows, or set a weight for every class",
            )
        if multi_label:
            weights = np.clip((rows - per_class) / per_class, None, HEAVIEST_POSITIVE)
        else:
            weights = rows / (len(per_class) * per_class)
    else:
        weights = _read_weights(setting, values, names)
    if not multi_label:
        return np.asarray(weights * (per_class.sum() / (per_class * weights).sum()), dtype=np.float32)
    weights = np.maximum(weights, 1e-3)  # a label in every row would get a balanced weight of 0
    both = np.stack([np.ones_like(weights), weights], axis=1)
    present = per_class / max(rows, 1)
    return np.asarray(both / (present * weights + 1 - present).mean(), dtype=np.float32)


def _read_weights(setting: ClassWeights, values: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    import numpy as np

    numbers = [item for item in setting if isinstance(item, float)]
    if len(numbers) == len(setting):
        if len(numbers) != len(names):
            raise ConfigError(
                f"class_weights: {len(numbers)} weights for {len(names)} classes ({', '.join(names[:20])})",
                hint="set one for every class, such as " + ",".join(f"{name}=1" for name in names[:3]),
            )
        return np.array(numbers)
    known = {name: i for i, name in enumerate(names)} | {value: i for i, value in enumerate(values)}
    weights = np.full(len(names), np.nan)
    for name, weight in (item for item in setting if isinstance(item, tuple)):
        if name not in known:
            raise ConfigError(
                f"class_weights: unknown class '{name}'{suggest(name, known)}",
                hint=f"classes: {', '.join(names[:20])}",
            )
        weights[known[name]] = weight
    if missing := [name for name, weight in zip(names, weights, strict=True) if np.isnan(weight)]:
        raise ConfigError(
            f"class_weights: no weight for {', '.join(repr(name) for name in missing[:5])}",
            hint="set one for every class; 1 leaves a class unchanged",
        )
    return weights
