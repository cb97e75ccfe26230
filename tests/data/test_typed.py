"""Columns with cells of several types: none of them becomes another, whatever stands next to it."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from textune.data import ReadOptions, stream_kept
from textune.data.cells import as_text, cell_text
from textune.data.typed import settle_types, typed_array

DAY = datetime.date(2024, 3, 1)
WHEN = datetime.datetime(2024, 3, 2, 9, 15)
CLOCK = datetime.time(12, 30)
SPAN = datetime.timedelta(hours=30)
MIXED = {
    "number and flag": [0.5, True, None],
    "flag and number": [True, 0.5, 1],
    "flag and whole number": [1, True, 0, False],
    "whole and other numbers": [1, 2.5, None, 3],
    "numbers of any size": [2**60, 0.5],
    "dates and a number": [DAY, 45000, WHEN],
    "number and dates": [45000, DAY],
    "dates and a text": ["soon", DAY, None],
    "times of day and a date": [CLOCK, DAY],
    "duration and a number": [SPAN, 30],
    "text and number": ["007", 7],
}


@pytest.mark.parametrize("cells", MIXED.values(), ids=MIXED)
def test_no_cell_becomes_another_type(cells):
    column = typed_array(cells, str)
    assert [(type(cell), cell) for cell in column.to_pylist()] == [(type(cell), cell) for cell in cells]
    text, _ = as_text(pa.table({"x": column}), "table")
    assert text["x"].to_pylist() == [cell_text(cell) for cell in cells], "both ways of reading spell a cell alike"


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, None, 2**60], pa.int64()),
        ([0.5, float("nan")], pa.float64()),
        ([np.float32(0.5), 2.5], pa.float64()),
        ([np.int64(1), 2], pa.int64()),
        ([True, None, np.bool_(False)], pa.bool_()),
        ([DAY, None], pa.date32()),
        ([WHEN, pd.NaT], pa.timestamp("s")),
        ([WHEN.replace(microsecond=5)], pa.timestamp("us")),
        ([CLOCK], pa.time32("s")),
        ([CLOCK.replace(microsecond=5)], pa.time64("us")),
        ([SPAN, None], pa.duration("us")),
        (["a", pd.NA, None, float("nan")], pa.string()),
        ([None, None], pa.null()),
        ([["a"], None], pa.list_(pa.string())),
        ([{"a": 1}], pa.struct([("a", pa.int64())])),
        ([DAY, ["a"]], pa.large_string()),
        ([2**70, 1], pa.large_string()),
        ([2**70, "a"], pa.large_string()),
        ([decimal.Decimal("1.10"), 2], pa.large_string()),
    ],
)
def test_a_type_that_all_cells_have_is_the_columns(cells, kind):
    assert typed_array(cells, str).type == kind


@pytest.mark.parametrize("cells", [[DAY, WHEN], [WHEN, DAY, None]])
def test_dates_among_times_are_at_midnight(cells):
    midnight = datetime.datetime(2024, 3, 1)
    assert typed_array(cells, str).to_pylist() == [midnight if cell == DAY else cell for cell in cells]


def test_times_are_spelled_as_in_the_sheet():
    text, _ = as_text(pa.table([typed_array([cell], str) for cell in (WHEN, CLOCK, SPAN)], names=["a", "b", "c"]), "t")
    assert text.to_pylist() == [{"a": "2024-03-02 09:15:00", "b": "12:30:00", "c": "1 day, 6:00:00"}]


def test_one_type_is_found_where_one_is_needed():
    cells = {"number": [1, 2.5, None], "wide": [2**60, 0.5, None], "other": [1, True, DAY], "same": [1, 2, 3]}
    table = settle_types(pa.table({name: typed_array(column, str) for name, column in cells.items()}))
    assert table.schema.types == [pa.float64(), pa.large_string(), pa.large_string(), pa.int64()]
    assert table["number"].to_pylist() == [1.0, 2.5, None]
    assert table["wide"].to_pylist() == [str(2**60), "0.5", None]
    assert table["other"].to_pylist() == ["1", "true", "2024-03-01"]


@pytest.mark.parametrize("form", ["rows", "frame"])
def test_rows_and_frames_keep_their_cells(form):
    cells = [0.5, True, 1, DAY]
    source = [{"text": "a", "x": cell} for cell in cells]
    if form == "frame":
        source = pd.DataFrame({"text": ["a"] * len(cells), "x": pd.Series(cells, dtype=object)})
    kept = [cell for piece in stream_kept(source, ReadOptions(), 3) for cell in piece.cells["x"].to_pylist()]
    assert [(type(cell), cell) for cell in kept] == [(type(cell), cell) for cell in cells]
