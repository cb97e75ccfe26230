"""What a prediction copies stays what it was: values, types, keys and cells, from every source to every output."""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.bundle import TextColumns
from textune.config.long_text import LongText
from textune.data import stream_kept
from textune.data.source import ReadOptions
from textune.errors import DataError
from textune.inference import files as filing
from textune.inference.files import predict_file
from textune.inference.long_texts import LongTexts
from textune.tasks import build_task

ADDED = ["label", "probability"]
ZONE = datetime.timezone(datetime.timedelta(hours=2))
WHEN = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)


class Always:
    """A predictor that finds every text positive."""

    labels = ("negative", "positive")
    task = build_task("single_label")
    long_texts = LongTexts(512, LongText())
    manifest = SimpleNamespace(columns=TextColumns(("text",), None, " ", "label"), is_tuned=True)

    def answer_texts(self, texts: Any, pairs: Any = None, start: int = 0) -> Any:
        return ["positive"] * len(texts), np.array([[0.25, 0.75]] * len(texts))


ALWAYS: Any = Always()

ARROW: dict[str, pa.Array] = {
    "text": pa.array(["a good film", "", None, "ein schöner Film \U0001f600"]),
    "int8": pa.array([1, None, -3, 4], pa.int8()),
    "uint64": pa.array([2**64 - 1, 0, None, 2**53 + 1], pa.uint64()),
    "int64": pa.array([2**53 + 1, -(2**63), 2**63 - 1, None]),
    "float32": pa.array([1.1, None, float("nan"), 3.0], pa.float32()),
    "float64": pa.array([0.1, 1e300, None, float("inf")]),
    "ok": pa.array([True, False, None, True]),
    "none": pa.nulls(4),
    "day": pa.array([datetime.date(2024, 1, 2), None] * 2),
    "plain_time": pa.array([WHEN, None, WHEN, WHEN], pa.timestamp("us")),
    "nanoseconds": pa.array([1, 1_700_000_000_123_456_789, None, 3], pa.timestamp("ns")),
    "zoned": pa.array([WHEN.replace(tzinfo=ZONE), None] * 2, pa.timestamp("us", "Europe/Berlin")),
    "clock": pa.array([datetime.time(1, 2, 3), None] * 2, pa.time64("us")),
    "span": pa.array([datetime.timedelta(days=1), None] * 2, pa.duration("us")),
    "price": pa.array([decimal.Decimal("12.50"), None] * 2, pa.decimal128(20, 2)),
    "colour": pa.array(["red", None, "blue", "red"]).dictionary_encode(),
    "list": pa.array([[1, 2], [], None, [None]], pa.list_(pa.int64())),
    "fixed": pa.array([[1.0, 2.0], None] * 2, pa.list_(pa.float32(), 2)),
    "meta": pa.array([{"a": 1, "b": {"c": [WHEN]}}, None, {"a": None, "b": None}, {"a": 2, "b": {"c": None}}]),
    "map": pa.array([[("a", 1)], None] * 2, pa.map_(pa.string(), pa.int64())),
    "007": pa.array(["007", "", None, "NA"]),
}
BYTES = {"raw": pa.array([b"\xff\x00", b"", None, b"text"]), "image": pa.array([{"bytes": b"\xff", "path": "a"}] * 4)}


@pytest.fixture(params=[5_000, 2], ids=["at once", "in pieces"], autouse=True)
def rows_per_piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filing, "_ROWS_PER_PIECE", request.param)


def predict(source: Any, output: Path) -> Path:
    predict_file(ALWAYS, source, output)
    return output


def parse_lines(path: Path) -> list[Any]:
    """Return every object as its pairs in order, numbers as they are spelled."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(li, object_pairs_hook=list, parse_int=str, parse_float=str) for li in lines]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_parquet_keeps_every_type(suffix: str, tmp_path: Path) -> None:
    schema = pa.table(ARROW | BYTES).schema.with_metadata({"pandas": "{}", "mine": "kept"})
    table = pa.table(ARROW | BYTES, schema=schema)
    source: Any = table
    if suffix == "parquet":
        source = tmp_path / "in.parquet"
        pq.write_table(table, source, row_group_size=3)
        table = pq.read_table(source)
    found = pq.read_table(predict(source, tmp_path / "out.parquet"))
    assert found.column_names == [*table.column_names, *ADDED]
    kept = found.select(table.column_names)
    for name in table.column_names:
        assert kept.schema.field(name).equals(table.schema.field(name)), name
        assert repr(kept[name].to_pylist()) == repr(table[name].to_pylist()), name
    assert kept.schema.metadata[b"mine"] == b"kept"
    assert found["label"].to_pylist() == ["positive", None, None, "positive"]


def test_json_lines_of_parquet_have_the_values(tmp_path: Path) -> None:
    pq.write_table(pa.table(ARROW), tmp_path / "in.parquet")
    rows = [dict(row) for row in parse_lines(predict(tmp_path / "in.parquet", tmp_path / "out.jsonl"))]
    assert [list(row) for row in rows] == [[*ARROW, *ADDED]] * 4
    expected = {
        "uint64": [str(2**64 - 1), "0", None, str(2**53 + 1)], "int64": [str(2**53 + 1), str(-(2**63)),
        str(2**63 - 1), None], "float64": ["0.1", "1e+300", None, None], "ok": [True, False, None, True],
        "none": [None] * 4, "price": ["12.50", None] * 2, "colour": ["red", None, "blue", "red"],
        "list": [["1", "2"], [], None, [None]], "day": ["2024-01-02", None] * 2, "007": ["007", "", None, "NA"],
    }  # fmt: skip
    for name, values in expected.items():
        assert [row[name] for row in rows] == values, name
    assert rows[0]["meta"] == [("a", "1"), ("b", [("c", [WHEN.isoformat()])])] or rows[0]["meta"][0] == ("a", "1")


@pytest.mark.parametrize("name", list(BYTES))
@pytest.mark.parametrize("target", ["out.csv", "out.tsv", "out.jsonl", "out.xlsx"])
def test_bytes_are_refused_where_only_text_fits(name: str, target: str, tmp_path: Path) -> None:
    table = pa.table({"text": ARROW["text"], name: BYTES[name]})
    with pytest.raises(DataError, match=rf"column '{name}'.*\n.*Parquet|column '{name}'.*UTF-8"):
        predict(table, tmp_path / target)
    assert not list(tmp_path.iterdir())


def test_bytes_as_the_text_itself_name_their_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2: column 'text' contains bytes that are not UTF-8"):
        predict(pa.table({"text": [b"good", b"\xff"]}), tmp_path / "out.parquet")


LINES = [
    '{"id": 9007199254740993, "text": "a good film", "price": 1.10, "big": 123456789012345678901234567890}',
    '{"text": "ein schöner \\ud83d\\ude00", "id": 2, "ok": true, "meta": {"z": [1, {"y": null}], "a": 1E5}, "e": {}}',
    '{"text": "", "id": -0.0, "none": null, "tags": ["x", 1, null, []], "label": "007"}',
    "{}",
    '{"label": 3, "text": "fine", "id": "7", "meta": "now a text", "price": null, "price\\u0000": 1}',
]
"""Keys in another order, missing, null and new; types that change from line to line."""


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_lines_keep_every_row(ending: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(ending.join(LINES).encode(encoding))
    found = parse_lines(predict(tmp_path / "in.jsonl", tmp_path / "out.jsonl"))
    expected = [json.loads(line, object_pairs_hook=list, parse_int=str, parse_float=str) for line in LINES]
    assert [row[:-2] for row in found] == expected
    assert [[name for name, _ in row[-2:]] for row in found] == [["predicted_label", "probability"]] * 5
    (tmp_path / "in.json").write_text(f"[{', '.join(LINES)}]", encoding="utf-8")
    assert parse_lines(predict(tmp_path / "in.json", tmp_path / "again.jsonl")) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ROWS = st.lists(st.dictionaries(st.sampled_from("uvwxyz"), JSON).map(lambda row: {"text": "good"} | row), min_size=1)


@given(rows=ROWS)
def test_any_json_passes_through(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("rows")
    (place / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = predict(place / "in.jsonl", place / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [{k: v for k, v in json.loads(line).items() if k not in ADDED} for line in lines] == rows
    table = pq.read_table(predict(place / "in.jsonl", place / "out.parquet"))
    assert table.num_rows == len(rows) and set(table.column_names) >= {"text", *ADDED}
    for name in table.column_names[:-2]:
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values} - {type(None)}
        if kinds in ({bool}, {str}) or (kinds == {int} and all(abs(v) < 2**63 for v in values if v is not None)):
            assert table[name].to_pylist() == values


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None, 3], "int64", None),
        ([1, 2.5, None], "double", [1.0, 2.5, None]),
        ([2**53 + 1, 2**62], "int64", None),
        ([2**53 + 1, 2.5], "large_string", [str(2**53 + 1), "2.5"]),
        ([2**64, 1], "large_string", [str(2**64), "1"]),
        ([1, "a"], "large_string", ["1", "a"]),
        ([True, 1], "large_string", ["true", "1"]),
        ([None, None], "null", None),
        ([[1], [2.5], []], "list<element: double>", [[1.0], [2.5], []]),
        ([{"a": 1}, {"b": "x"}], "struct<a: int64, b: large_string>", [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        ([{"a": 1}, {"a": "x"}], "large_string", ['{"a": 1}', '{"a": "x"}']),
        ([{}, {"a": 1}], "struct<a: int64>", [{"a": None}, {"a": 1}]),
        ([{}, {}], "large_string", ["{}", "{}"]),
        ([[1], "x", None], "large_string", ["[1]", "x", None]),
        (["007", "1"], "large_string", None),
    ],
)
def test_parquet_of_json_has_one_type(values: list[Any], kind: str, expected: Any, tmp_path: Path) -> None:
    rows = [{"text": "good", "v": value} for value in (*values, None, None, *values)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = pq.read_table(predict(tmp_path / "in.jsonl", tmp_path / "out.parquet"))
    assert str(table.schema.field("v").type) == kind
    expected = values if expected is None else expected
    assert table["v"].to_pylist() == [*expected, None, None, *expected]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_cells_stay_to_the_letter(suffix: str, tmp_path: Path) -> None:
    cells = ["007", "1.10", " x ", "", "NA", "null", "1e5", "é\U0001f600", 'a "quote"', "a\nb", "a,b\tc", "True", "½"]
    delimiter = "\t" if suffix == ".tsv" else ","
    with (tmp_path / f"in{suffix}").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([["text", "cell"], *(["good", cell] for cell in cells)])
    with predict(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream, delimiter=delimiter)
    assert header == ["text", "cell", *ADDED] and [row[1] for row in rows] == cells
    table = pq.read_table(predict(tmp_path / f"in{suffix}", tmp_path / "out.parquet"))
    assert table["cell"].to_pylist() == [cell or None for cell in cells]


def test_spreadsheets_keep_numbers_and_dates(tmp_path: Path) -> None:
    columns = {"text": ["good", "bad"], "n": [1, 2], "x": [1.0, 2.5], "ok": [True, False],
               "day": [datetime.date(2024, 1, 2), None], "when": [WHEN.replace(microsecond=0), None],
               "code": ["007", None]}  # fmt: skip
    pl.DataFrame(columns).write_excel(tmp_path / "in.xlsx")
    table = pq.read_table(predict(tmp_path / "in.xlsx", tmp_path / "out.parquet"))
    kinds = {name: str(table.schema.field(name).type) for name in columns}
    assert (kinds["n"], kinds["x"], kinds["ok"], kinds["code"]) == ("int64", "double", "bool", "string")
    assert kinds["day"].startswith(("date", "timestamp")) and kinds["when"].startswith("timestamp")
    rows = [dict(row) for row in parse_lines(predict(tmp_path / "in.xlsx", tmp_path / "out.jsonl"))]
    assert [(row["n"], row["x"], row["ok"], row["code"]) for row in rows] == [
        ("1", "1", True, "007"), ("2", "2.5", False, None)]  # fmt: skip
    assert rows[0]["day"].startswith("2024-01-02") and rows[0]["when"].startswith("2024-05-06 07:08:09")


@pytest.mark.parametrize("library", ["pandas", "polars", "records"])
def test_frames_keep_their_types(library: str, tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": ["good", "bad"], "n": [1, 2], "x": [1.5, None], "ok": [True, False],
                                     "when": [WHEN, WHEN], "tags": [["a"], []], "mixed": ["a", "b"]}  # fmt: skip
    sources: dict[str, Any] = {
        "pandas": pd.DataFrame(columns | {"mixed": [1, "b"]}, index=[7, 7]), "polars": pl.DataFrame(columns),
        "records": pl.DataFrame(columns).to_dicts(),
    }  # fmt: skip
    table = pq.read_table(predict(sources[library], tmp_path / "out.parquet"))
    kinds = [str(table.schema.field(name).type).partition("[")[0].partition("<")[0] for name in columns]
    assert kinds[1:5] == ["int64", "double", "bool", "timestamp"] and kinds[5] in ("list", "large_list")
    assert table["x"].to_pylist() == [1.5, None] and table["tags"].to_pylist() == [["a"], []]
    assert table["mixed"].to_pylist()[1] == "b"


def test_files_of_a_folder_may_differ_in_types(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["good"], "n": [1], "v": [1], "t": ["x"]}), folder / "a.parquet")
    pq.write_table(pa.table({"text": ["bad"], "n": [2.5], "v": ["x"], "new": [True]}), folder / "b.parquet")
    table = pq.read_table(predict(folder, tmp_path / "out.parquet"))
    assert table.drop_columns(ADDED).to_pylist() == [
        {"text": "good", "n": 1.0, "v": "1", "t": "x", "new": None},
        {"text": "bad", "n": 2.5, "v": "x", "t": None, "new": True},
    ]  # fmt: skip


@pytest.mark.parametrize("rows_per_piece", [100], indirect=True)
def test_memory_stays_flat(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        row = json.dumps({"text": "good " * 2_000, "meta": {"n": [1, 2]}}) + "\n"
        (tmp_path / "in.jsonl").write_text(row * rows, encoding="utf-8")
        tracemalloc.start()
        predict(tmp_path / "in.jsonl", tmp_path / "out.parquet")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most + pa.total_allocated_bytes()

    peak(300)
    assert peak(1_500) < 1.3 * peak(500)


def test_pieces_tell_their_rows(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n' * 5)
    pieces = list(stream_kept(tmp_path / "in.jsonl", ReadOptions(), 2))
    assert [(piece.first_row, len(piece), piece.columns) for piece in pieces] == [
        (1, 2, ["text"]), (3, 2, ["text"]), (5, 1, ["text"])]  # fmt: skip
