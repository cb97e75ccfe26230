"""Abstaining from the least confident answers: where to cut, and what the others gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEWEST_ROWS = 50
"""Fewer validation rows say too little about a floor."""
_FEWEST_ANSWERED = 20
_MOST_POINTS = 100


@dataclass(frozen=True)
class RiskCoverage:
    """The share of errors among the answers that are kept, by how many are kept, most confident first.

    area: under the curve, the mean of the error over all shares kept; 0 is perfect (Geifman and El-Yaniv 2017,
    https://arxiv.org/abs/1705.08500). error: with all answers kept. coverage, risk, confidence: points of the curve;
    confidence is the lowest that is kept.
    """

    area: float
    error: float
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    confidence: tuple[float, ...]


def measure_risk_coverage(confidence: NDArray[Any], right: NDArray[Any]) -> RiskCoverage:
    """Return the risk-coverage curve. confidence: float [rows]; right: bool [rows]; at least one row.

    Rows of equal confidence are kept or left out together; the area takes their mean error for each of them.
    """
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    ranked, wrong = np.asarray(confidence, np.float64)[order], ~np.asarray(right, bool)[order]
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # of each group of equal confidence
    kept, errors = last + 1, np.cumsum(wrong)[last]
    risk = errors / kept
    rows = np.arange(1, len(ranked) + 1)
    errors_kept = np.interp(rows, np.append(0, kept), np.append(0, errors))
    area = float((errors_kept / rows).mean())
    shown = np.unique(np.round(np.linspace(0, len(kept) - 1, _MOST_POINTS)).astype(int))
    return RiskCoverage(
        area,
        float(risk[-1]),
        tuple((kept[shown] / len(ranked)).tolist()),
        tuple(risk[shown].tolist()),
        tuple(ranked[last][shown].tolist()),
    )


def find_confidence(confidence: NDArray[Any], right: NDArray[Any], floor: float) -> float | None:
    """Return the lowest confidence from which the answers' accuracy reaches a floor; None where none does.

    confidence: float [rows]; right: bool [rows]. At least 20 answers must be left.
    """
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    ranked, hits = np.asarray(confidence, np.float64)[order], np.cumsum(np.asarray(right, bool)[order])
    kept = np.arange(1, len(ranked) + 1)
    last_of_ties = np.append(ranked[1:] < ranked[:-1], True)
    fitting = np.flatnonzero(last_of_ties & (hits >= floor * kept - 1e-9) & (kept >= _FEWEST_ANSWERED))
    if not len(fitting):
        return None
    best = int(fitting[-1])
    # Midway to the next one, as thresholds are; 0 where every answer may be kept.
    return 0.0 if best + 1 == len(ranked) else float((ranked[best] + ranked[best + 1]) / 2)
