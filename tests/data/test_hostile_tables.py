"""Small files that would take gigabytes or hours, names and values that are no text, and folders of many files."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from textune.data import ReadOptions, read_table, stream_tables
from textune.data.kept import find_types, stream_kept
from textune.data.parquet import _dictionary_size
from textune.data.saved import _unpacked_size
from textune.errors import DataError


def refused(source: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_table(source, ReadOptions(**options))
    return str(caught.value)


@pytest.mark.parametrize(
    "sheet", ["<a>" + "<c " * 300_000, "<a>" + 't="s" ' * 200_000, "<a>" + '<c "' * 200_000, "<a>" + "<c '\"" * 200_000]
)
def test_a_sheet_of_tags_without_an_end_is_refused_at_once(tmp_path: Path, sheet: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", "<sst><si><t>a</t></si></sst>")
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    refused(tmp_path / "a.xlsx")  # a search from each tag to the end takes hours


def test_rows_of_one_long_value_are_read_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sizes = tmp_path / "a.parquet", []
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_024, np.int32)), pa.array(["x" * 900_000]))
    pq.write_table(pa.table({"text": text, "label": ["a"] * 1_024}), path, compression="zstd", store_schema=False)
    group = pq.ParquetFile(path).metadata.row_group(0)
    assert _dictionary_size(path, group) == 900_004  # the length, then the text
    batches = pq.ParquetFile.iter_batches

    def watch(file: pq.ParquetFile, *arguments: Any, **named: Any) -> Any:
        for batch in batches(file, *arguments, **named):
            sizes.append(batch.nbytes)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watch)
    assert "times its size" in refused(path)
    assert max(sizes) < 100_000_000


def test_usual_dictionaries_are_read_in_large_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["some text", "another"] * 3_000, "label": ["a", "b"] * 3_000}), path)
    assert _dictionary_size(path, pq.ParquetFile(path).metadata.row_group(0)) == 9 + 7 + 2 * 4
    assert read_table(path).arrow.num_rows == 6_000


def save_stream(folder: Path, batch: pa.RecordBatch, copies: int = 1, compression: str | None = None) -> Path:
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    options = ipc.IpcWriteOptions(compression=compression)
    with (
        pa.OSFile(str(folder / "data.arrow"), "wb") as out,
        ipc.new_stream(out, batch.schema, options=options) as writer,
    ):
        for _ in range(copies):
            writer.write_batch(batch)
    return folder


def test_a_compressed_saved_data_set_is_measured_before_it_is_unpacked(tmp_path: Path) -> None:
    many = pa.record_batch({"text": pa.array(["x" * 100_000] * 600), "label": pa.array(["a", "b"] * 300)})
    bomb = save_stream(tmp_path / "bomb", many, copies=20, compression="zstd")
    assert _unpacked_size(bomb / "data.arrow") == pytest.approx(20 * many.nbytes, rel=0.01)
    assert "times its size" in refused(bomb)
    few = pa.record_batch(
        {"text": pa.array(["one", "two"] * 50), "label": pa.array(["a", "b"] * 50).dictionary_encode()}
    )
    for compression in (None, "zstd", "lz4"):
        assert read_table(save_stream(tmp_path / f"{compression}", few, compression=compression)).arrow.num_rows == 100


def test_the_row_of_bytes_is_counted_over_all_batches(tmp_path: Path) -> None:
    fine = pa.record_batch({"text": pa.array([b"fine"] * 1_000), "label": pa.array(["a"] * 1_000)})
    folder = save_stream(tmp_path / "saved", fine, copies=2)
    odd = pa.record_batch({"text": pa.array([b"fine"] * 4 + [b"\xff\xfe"]), "label": pa.array(["a"] * 5)})
    with pa.OSFile(str(folder / "more.arrow"), "wb") as out, ipc.new_stream(out, odd.schema) as writer:
        writer.write_batch(odd)
    files = [{"filename": name} for name in ("data.arrow", "more.arrow")]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    assert "row 2005" in refused(folder)


def write_classes(folder: Path, **encodings: str) -> Path:
    for label, encoding in encodings.items():
        (folder / label).mkdir(parents=True)
        for number in range(3):
            text = f"Это хорошая книга, и мне она очень понравилась {number}"
            (folder / label / f"{number}.txt").write_bytes(text.encode(encoding))
    return folder


def test_guessed_encodings_of_a_folder_are_said(tmp_path: Path) -> None:
    notes = read_table(write_classes(tmp_path / "guessed", pos="cp1251", neg="cp1251")).notes
    assert any("6 files read as cp1251 (guessed" in note for note in notes)
    notes = read_table(write_classes(tmp_path / "marked", pos="utf-16", neg="utf-8")).notes
    assert any("3 files read as UTF-16" in note for note in notes)
    message = refused(write_classes(tmp_path / "mixed", pos="cp1251", neg="koi8_r"))
    assert "neg/0.txt" in message and "pos/0.txt" in message and "by a guess" in message


def test_every_split_that_is_not_read_is_named_with_its_setting(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    for name in ("train", "dev", "test"):
        (folder / f"{name}.csv").write_text(f"text,label\n{name} one,a\n{name} two,b\n")
    notes = read_table(folder).notes
    for file, setting in (("dev.csv", "validation"), ("test.csv", "test")):
        assert f"{file} is not read; to use it, add {setting}='{folder}#{setting}'" in notes
        assert read_table(f"{folder}#{setting}").arrow["text"][0].as_py() == f"{file[:-4]} one"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251", "utf-16-be"])
@pytest.mark.parametrize("written", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_followed_and_said(tmp_path: Path, encoding: str, written: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nCafé très bon,a\nmauvais,b\n".encode(written))
    table = read_table(path, ReadOptions(encoding=encoding))
    assert table.arrow["text"][0].as_py() == "Café très bon"
    assert any(f"not as encoding={encoding}" in note for note in table.notes)


@pytest.mark.parametrize("name", ["\ud83d", "a \ud83d", "\0row"])
def test_a_name_that_is_no_text_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    rows = [{"text": "one", "label": "a"}, {"text": "two", "label": "b", name: 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    message = refused(tmp_path / "a.jsonl")
    assert "line 2" in message and "a column name contains" in message
    assert "a column name" in refused(rows)
    if "\0" in name:  # pandas itself has no names with surrogates
        assert "a column name" in refused(pd.DataFrame(rows))


@pytest.mark.parametrize(
    "odd",
    [
        pa.array([2**62, 0], pa.duration("s")),
        pa.array([[2**62], []], pa.list_(pa.timestamp("s"))),
        pa.array([{"at": 2**62}, None], pa.struct([("at", pa.timestamp("us"))])),
    ],
    ids=["duration", "list", "struct"],
)
def test_times_that_no_calendar_has_are_refused_with_their_column(odd: pa.Array) -> None:
    assert "column 'took'" in refused(pa.table({"text": ["a", "b"], "label": ["x", "y"], "took": odd}))


def test_a_damaged_footer_is_a_fault_of_the_file_also_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"] * 99, "label": ["x", "y"] * 99}), path)
    content = path.read_bytes()
    path.write_bytes(content[:-200] + b"\x55" * 150 + content[-50:])
    for read in (read_table, lambda source: list(stream_tables(source))):
        with pytest.raises(DataError):
            read(path)


def test_a_number_of_thousands_of_digits_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": ' + "1" * 5_000 + '}\n{"text": "b", "n": 7}\n')
    kinds = find_types(stream_kept(tmp_path / "a.jsonl", ReadOptions(), 1_000))
    assert pa.types.is_large_string(kinds.field("n").type) or pa.types.is_string(kinds.field("n").type)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_called_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "not a regular file" in refused(tmp_path / "pipe.csv")


def test_bytes_inside_a_list_are_found_with_their_row() -> None:
    message = refused(pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"], "more": [["a"], [b"\xff"]]}))
    assert "row 2" in message and "contains bytes" in message
