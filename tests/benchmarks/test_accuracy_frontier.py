"""A finished cell of the accuracy frontier gets the rivals that it lacks, on its own rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT / "benchmarks") not in sys.path:
    sys.path.append(str(ROOT / "benchmarks"))

import accuracy_frontier  # noqa: E402  (from benchmarks)
import right_rows  # noqa: E402


def read_cell() -> dict[str, Any]:
    """Return a recorded cell of the built-in data."""
    cells = json.loads((ROOT / "results" / "accuracy_frontier.json").read_text(encoding="utf-8"))["cells"]
    found = [cell for cell in cells if (cell["data"], cell["size"], cell["draw"]) == ("rotten_tomatoes", "8c", 1)]
    return dict(found[0])


@pytest.mark.slow
def test_a_cell_gets_what_it_lacks(tmp_path: Path) -> None:
    whole = read_cell()
    assert not accuracy_frontier.lacks_rivals(whole)
    scores = {key: value for key, value in whole["scores"].items() if key != "embeddings"}
    cell = whole | {"scores": scores, "right": {"textune": whole["right"]["textune"]}}
    assert accuracy_frontier.lacks_rivals(cell)
    accuracy_frontier.complete_cell(cell, tmp_path)
    assert not accuracy_frontier.lacks_rivals(cell)
    for rival in ("tfidf", "embeddings"):  # precision and threads may change a row or two
        assert cell["scores"][rival] == pytest.approx(whole["scores"][rival], abs=0.004)
        right = right_rows.unpack(cell["right"][rival], cell["test_rows"])
        assert right.mean() == pytest.approx(cell["scores"][rival])
        assert (right == right_rows.unpack(whole["right"][rival], cell["test_rows"])).mean() > 0.99


def test_rows_that_are_not_the_cells_are_refused(tmp_path: Path) -> None:
    cell = read_cell()
    cell = cell | {"right": {}, "scores": cell["scores"] | {"tfidf": cell["scores"]["tfidf"] + 0.1}}
    with pytest.raises(SystemExit, match=r"rotten_tomatoes 8c 1: TF-IDF reaches"):
        accuracy_frontier.complete_cell(cell, tmp_path)
