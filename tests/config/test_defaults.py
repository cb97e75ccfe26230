"""The rules for settings left open, over whole ranges of rows: no row more may change a run much."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from textune.config import defaults
from textune.config.defaults import choose_epochs, choose_short_epochs


def count_steps(choose: Callable[[int, int, int], int], rows: int, classes: int, batch_size: int) -> int:
    return math.ceil(rows / batch_size) * choose(rows, classes, batch_size)


@pytest.mark.parametrize(("classes", "batch_size"), [(2, 16), (20, 16), (77, 32)])
def test_a_row_more_takes_few_steps_away(classes: int, batch_size: int) -> None:
    """Epochs are whole, so where one epoch fewer follows, a part of the steps goes: the docs say how large it is."""
    allowed = {1_501: 0.25, 6_001: 1 / 3, 50_001: 0.5} if classes <= 20 else {20_001: 0.5, 50_001: 0.5}
    before = count_steps(choose_epochs, 1, classes, batch_size)
    for rows in range(2, 60_000):
        steps = count_steps(choose_epochs, rows, classes, batch_size)
        assert steps >= math.floor((1 - allowed.get(rows, 0.2)) * before), rows
        before = steps


def test_a_row_more_takes_at_most_a_third_of_the_steps_that_refine_a_head() -> None:
    before = count_steps(choose_short_epochs, 77, 77, 32)
    for rows in range(78, 64 * 77 + 1):
        steps = count_steps(choose_short_epochs, rows, 77, 32)
        assert steps >= 0.66 * before, rows
        before = steps


@pytest.mark.parametrize(("classes", "batch_size"), [(2, 16), (77, 32)])
def test_there_are_enough_steps_wherever_ten_epochs_allow_it(classes: int, batch_size: int) -> None:
    for rows in range(1, 10_000):
        epochs = choose_epochs(rows, classes, batch_size)
        assert epochs == defaults.MAX_EPOCHS or count_steps(choose_epochs, rows, classes, batch_size) >= 150, rows
