"""JSON lines and JSON documents: values to the letter, hostile nesting refused."""

import json
import time
from pathlib import Path

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.data import ReadOptions, read_table, stream_tables
from textune.errors import DataError

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


def write(folder: Path, content: str | bytes, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, ReadOptions(**options))
    assert caught.value.hint
    assert path.name in caught.value.message
    return str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(st.fixed_dictionaries({"text": TEXT, "label": st.none() | TEXT}), min_size=1, max_size=8),
    ascii_only=st.booleans(),
)
def test_json_lines_come_back_to_the_letter(tmp_path, data, ascii_only):
    expected = [{key: value or None for key, value in row.items()} for row in data]
    lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in data)
    path = write(tmp_path, lines)
    assert read_table(path).arrow.to_pylist() == expected
    assert [row for piece in stream_tables(path, chunk_rows=2) for row in piece.arrow.to_pylist()] == expected
    document = write(tmp_path, json.dumps(data, ensure_ascii=ascii_only), "data.json")
    assert read_table(document).arrow.to_pylist() == expected


def test_numbers_words_and_nested_values_stay_as_written(tmp_path):
    path = write(
        tmp_path,
        '{"a": 1, "b": 1.0, "c": true, "d": null, "e": "null", "f": 1.10, "g": 1e5, "h": "001", "i": ""}\n'
        '{"a": [1, 2.50, "é"], "b": {"x": null, "y": [false]}, "c": ' + "9" * 5_000 + ', "d": "\\ud83e\\udd17"}\n',
    )
    first, second = read_table(path).arrow.to_pylist()
    assert first == {
        "a": "1", "b": "1.0", "c": "true", "d": None, "e": "null", "f": "1.10", "g": "1e5", "h": "001", "i": None,
    }  # fmt: skip
    assert second["a"] == '[1,2.50,"é"]'
    assert second["b"] == '{"x":null,"y":[false]}'
    assert second["c"] == "9" * 5_000
    assert second["d"] == "🤗"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "text": "b"}', "'text' appears twice"),
        ('{"text": {"k": 1, "k": 2}}', "'k' appears twice"),
        ('{"text": NaN}', "NaN"),
        ('{"text": -Infinity}', "Infinity"),
        ('["a", "b"]', "a list, not an object"),
        ('"a"', "a string, not an object"),
        ("17", "a number, not an object"),
        ("null", "null, not an object"),
        ('{"text": "a"', "is not valid JSON"),
        ('{"text": "a"} {"text": "b"}', "is not valid JSON"),
        ('{"text": "\\ud800"}', "surrogate"),
        ('{"text": "a\0b"}', "NUL"),
        ('{"text": ' + "[" * 100 + "]" * 100 + "}", "nested deeper"),
        ('{"text": ' + "[" * 2_000_000 + "]" * 2_000_000 + "}", "nested deeper"),
        ('{"a":' * 500_000 + "1" + "}" * 500_000, "nested deeper"),
        ("[" * 1_000_000, "nested deeper"),
    ],
)
def test_a_faulty_line_is_named_with_its_reason(tmp_path, line, reason):
    path = write(tmp_path, '{"text": "fine"}\n\n' + line + "\n")
    message = refused(path)
    assert "line 3" in message
    assert reason in message


def test_a_faulty_cell_of_a_document_is_named_by_its_row(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('[\n{"text": "fine"},\n\n{"text": "\\ud800"}]')
    with pytest.raises(DataError, match="row 2: contains a lone surrogate"):
        read_table(path)


def test_brackets_inside_strings_are_no_nesting(tmp_path):
    path = write(tmp_path, json.dumps({"text": "[{" * 500 + '"' + "\\" * 7 + "["}) + "\n")
    assert read_table(path).arrow.to_pylist()[0]["text"] == "[{" * 500 + '"' + "\\" * 7 + "["


def test_an_unclosed_string_of_escapes_ends_soon(tmp_path):
    start = time.process_time()
    refused(write(tmp_path, '{"a": ' + "[],[]," * 40 + '"' + '\\"' * 1_000_000))
    assert time.process_time() - start < 3


def test_keys_that_come_late_are_columns_from_the_start_when_streamed(tmp_path):
    path = write(tmp_path, '{"text": "a"}\n{"text": "b", "label": "x"}\n')
    pieces = list(stream_tables(path, chunk_rows=1))
    assert [piece.columns for piece in pieces] == [["text", "label"], ["text", "label"]]
    assert read_table(path).arrow.to_pylist()[0] == {"text": "a", "label": None}


@pytest.mark.parametrize(
    "document",
    [
        '[{"text": "a", "label": 1}, {"text": "b", "label": 2}]',
        '{"data": [{"text": "a", "label": 1}, {"text": "b", "label": 2}]}',
        '{"version": "2", "data": [{"text": "a", "label": 1}, {"text": "b", "label": 2}]}',
        '{"text": ["a", "b"], "label": [1, 2]}',
        '{"text": "a", "label": 1}\n{"text": "b", "label": 2}\n',
    ],
)
def test_the_shapes_of_a_json_document(tmp_path, document):
    table = read_table(write(tmp_path, document, "data.json"))
    assert table.arrow.to_pylist() == [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "empty"),
        ("17", "not a table"),
        ('{"text": "a", "n": 1}', "not a table"),
        ('["a"]', "row 1"),
        ('{"text": ["a"], "label": []}', "differ in length"),
        ("[" * 100_000, "nested deeper"),
        ('[{"text": 1}', "Expecting"),
        ("[]", "no rows"),
    ],
)
def test_a_document_that_is_no_table_is_refused(tmp_path, document, reason):
    assert reason in refused(write(tmp_path, document, "data.json"))


def test_a_long_document_on_one_line_is_read(tmp_path):
    row = {"text": "x" * 900_000}
    path = write(tmp_path, json.dumps([row] * 20), "data.json")
    assert len(read_table(path)) == 20
    assert "longer than 1,000" in refused(path, max_cell_chars=1_000)
    assert "line 1" in refused(write(tmp_path, json.dumps({"text": "x" * 20_000_000})))


def test_utf16_json_is_read(tmp_path):
    path = write(tmp_path, b"\xff\xfe" + '{"text": "Ü"}\n'.encode("utf-16-le"))
    assert read_table(path).arrow.to_pylist() == [{"text": "Ü"}]


@pytest.mark.parametrize("orient", ["columns", "index", "records", "split", "table"])
def test_what_pandas_writes_is_read(tmp_path, orient):
    frame = pandas.DataFrame({"text": ["a film", "1", "x"], "label": ["good", "bad", None]})
    path = tmp_path / "rows.json"
    frame.to_json(path, orient=orient)
    rows = [{k: v for k, v in row.items() if k != "index"} for row in read_table(path).arrow.to_pylist()]
    assert rows == [
        {"text": "a film", "label": "good"}, {"text": "1", "label": "bad"}, {"text": "x", "label": None},
    ]  # fmt: skip


def test_two_columns_and_two_rows_are_no_two_lists(tmp_path):
    path = write(tmp_path, '{"columns": ["text", "label"], "data": [["a", "x"], ["b", "y"]]}', "rows.json")
    assert read_table(path).arrow.to_pylist() == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"columns": ["text", "label"], "data": [["a", "x"], ["b"]]}', "row 2: 1 cell, but there are 2 columns"),
        ('{"columns": ["text", "text"], "data": [["a", "x"]]}', "the column name 'text' appears 2 times"),
        ('{"a": {"x": 1}, "b": {"y": 2}}', "contains an object, not a table"),
        ('{"a": {}, "b": {}}', "contains an object, not a table"),
        ('[["a", "x"], ["b", "y"]]', "row 1: contains a list, not an object"),
    ],
)
def test_objects_that_hold_no_table_are_refused(tmp_path, content, told):
    assert told in refused(write(tmp_path, content, "rows.json"))
