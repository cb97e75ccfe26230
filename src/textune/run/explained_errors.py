"""The most confident errors of a run, with how much each word spoke for the wrong answer."""

from __future__ import annotations

from collections.abc import Sequence

from textune.data import Examples
from textune.evaluation import ConfidentError
from textune.evaluation.errors import UNKNOWN
from textune.explain import Explanation, explain_texts
from textune.inference import Predictor

MOST_EXPLAINED = 10
_MOST_IN_REPORT, _ROWS_PER_ERROR = 5, 100
"""Explaining a text costs as much as classifying some 50 to 200, so a report explains one error per 100 rows."""
_STEPS = 32


def count_explained(rows: int) -> int:
    """Return how many errors a report explains without taking noticeably longer. rows: that were evaluated."""
    return min(_MOST_IN_REPORT, rows // _ROWS_PER_ERROR)


def explain_errors(
    predictor: Predictor, examples: Examples, errors: Sequence[ConfidentError], most: int = MOST_EXPLAINED
) -> dict[int, Explanation]:
    """Return explanations of the first errors by row number: why the model gave, or missed, the label in question.

    Raises ModelError or ConfigError where the model's answers cannot be explained.
    """
    positions = {int(row): at for at, row in enumerate(examples.rows())}
    found: dict[int, Explanation] = {}
    for error in list_explainable(errors)[:most]:
        row = examples.take([positions[error.row]])
        found[error.row] = explain_texts(
            predictor, row.texts(), find_label(error), pairs=row.text_pairs(), most_steps=_STEPS
        )[0]
    return found


def list_explainable(errors: Sequence[ConfidentError]) -> list[ConfidentError]:
    """Return the errors that are about a label of the model: not those of an unknown label alone."""
    return [error for error in errors if not (error.decision or "").startswith(UNKNOWN)]


def find_label(error: ConfidentError) -> str:
    """Return the label that an error is about: the predicted one, or that of the wrong decision among several."""
    return error.predicted if error.decision is None else error.decision.partition(": ")[2]
