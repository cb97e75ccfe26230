"""What LoRA does, in numbers and pictures: an update of low rank, as the product of two thin matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
MOST_CELLS = 32
"""Rows and columns that a picture shows; of a larger matrix it shows these many, evenly spread."""


@dataclass(frozen=True)
class Update:
    """A low-rank update B A of a weight [rows, columns]."""

    rows: int
    columns: int
    rank: int

    @property
    def full(self) -> int:
        """The parameters of the weight itself."""
        return self.rows * self.columns

    @property
    def trained(self) -> int:
        """The parameters of B and A."""
        return self.rank * (self.rows + self.columns)

    @property
    def share(self) -> float:
        """The trained parameters as a share of the weight's."""
        return self.trained / self.full

    def describe(self) -> str:
        """Return what the update saves, in one sentence."""
        if self.trained >= self.full:
            return (
                f"At rank {self.rank}, B and A have {self.trained:,} parameters, no fewer than the {self.full:,} "
                "of the weight: nothing is saved."
            )
        return f"{self.trained:,} trained parameters instead of {self.full:,}: {self.share:.2%}."


def draw_matrices(update: Update, seed: int = 0) -> tuple[Matrix, Matrix, Matrix]:
    """Return B [rows, rank], A [rank, columns] and B A, of as many rows and columns as a picture shows.

    The values are smooth random curves, so that the eye sees the rank: each of the rank's terms is one pattern.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (min(size, MOST_CELLS) for size in (update.rows, update.columns))
    rank = min(update.rank, MOST_CELLS)
    tall, wide = _draw_curves(rng, rank, rows).T, _draw_curves(rng, rank, columns)
    return tall, wide, tall @ wide


def _draw_curves(rng: np.random.Generator, count: int, length: int) -> Matrix:
    """Return curves: float64 [count, length] in about -1..1."""
    at = np.linspace(0, 1, length)
    waves = 1 + rng.integers(0, 4, (count, 1)) + rng.random((count, 1))
    return np.sin(2 * np.pi * (waves * at + rng.random((count, 1)))) + 0.25 * rng.standard_normal((count, length))


def list_cells(matrix: Matrix) -> list[dict[str, Any]]:
    """Return a matrix as rows for a chart, scaled so that its largest cell is 1 or -1."""
    largest = float(np.abs(matrix).max()) or 1.0
    return [
        {"row": i, "column": j, "value": float(value) / largest}
        for i, line in enumerate(matrix)
        for j, value in enumerate(line)
    ]
