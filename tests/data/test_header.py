"""What may stand above a header: Excel's sep= line, comments, titles, blank lines; and tables without a header."""

import gzip

import pandas as pd
import pytest
import xlsxwriter

from textune.data import ReadOptions, choose_columns, read_table, stream_tables
from textune.errors import DataError

BODY = [("I loved it, really", "pos"), ("It was dull", "neg"), ("Fine", "pos"), ("Bad; very bad", "neg")]


def table_of(delimiter, names=("text", "label"), body=BODY):
    def line(cells):
        return delimiter.join(f'"{cell}"' if any(c in cell for c in ",;\t|") else cell for cell in cells)

    return "".join(line(cells) + "\n" for cells in (names, *body))


def read(folder, content, name="data.csv", **options):
    path = folder / name
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return read_table(path, ReadOptions(**options))


def cells(table):
    return [tuple(row.values()) for row in table.arrow.to_pylist()]


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.txt", "data.csv.gz"])
@pytest.mark.parametrize("names", [("text", "label"), ("Kommentar", "Marke")])
@pytest.mark.parametrize(
    ("line", "delimiter"),
    [
        ("sep=;", ";"),
        ("sep=,", ","),
        ("sep=\t", "\t"),
        ("sep=\\t", "\t"),
        ("sep=|", "|"),
        ('"sep=;"', ";"),
        ('"sep=,"', ","),
        ("SEP=;", ";"),
        ("sep=;\r", ";"),
        ("\ufeffsep=;", ";"),
        ('\ufeff"sep=;"', ";"),
        ("sep=;;;", ";"),
        ("sep=^", "^"),
    ],
)
def test_the_line_of_excel_is_honoured(tmp_path, line, delimiter, names, name):
    table = read(tmp_path, f"{line}\n{table_of(delimiter, names)}", name)
    assert table.columns == list(names) and cells(table) == BODY
    assert any("line 1 is Excel's" in note for note in table.notes)
    assert [t.columns for t in stream_tables(tmp_path / name)] == [list(names)]


def test_the_line_of_excel_in_utf_16_and_against_the_setting(tmp_path):
    assert cells(read(tmp_path, ("\ufeffsep=;\n" + table_of(";")).encode("utf-16-le"))) == BODY
    assert cells(read(tmp_path, "sep=,\n" + table_of(";"), delimiter=";")) == BODY


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "above",
    [
        ["# exported on 2024-01-01"],
        ["# exported, by me", "#", "# rows: 4"],
        ["Export of 2024-01-01"],
        ["Export of 2024-01-01", ""],
        ["Reviews, March 2024"],
        ["Reviews", "of March", "# by me", ""],
        ["   "],
        ["", "", "# a comment"],
        ["sep={}", "# a comment"],
        ["{}"],
        ["Export of 2024-01-01{}"],
    ],
)
def test_lines_above_the_header_are_skipped_and_named(tmp_path, above, delimiter):
    lines = [line.format(delimiter) for line in above]
    table = read(tmp_path, "".join(f"{line}\n" for line in lines) + table_of(delimiter))
    assert table.columns == ["text", "label"] and cells(table) == BODY
    for number, line in enumerate(lines, 1):
        if line.strip(delimiter + " ") and not line.startswith("sep="):
            assert any(note.startswith(f"line {number} was skipped") for note in table.notes), line


def test_faults_below_keep_the_numbers_of_their_lines(tmp_path):
    with pytest.raises(DataError, match=r"row 2 \(line 5\)"):
        read(tmp_path, "# by me\nExport\ntext,label\na,b\nc,d,e\n")


def test_a_title_above_unknown_names_is_refused_or_skipped(tmp_path):
    with pytest.raises(DataError, match="line 1\\) is a title, delete that line"):
        read(tmp_path, "Export of 2024-01-01\nKommentar,Marke\ngut,1\n")
    assert read(tmp_path, "Export of 2024-01-01,\nKommentar,Marke\ngut,1\n").columns == ["Kommentar", "Marke"]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("#,text,label\n1,a,b\n", ["#", "text", "label"]),
        ("# id,text,label\n1,a,b\n", ["# id", "text", "label"]),
        ("#,Kommentar,Marke\n1,a,b\n", ["#", "Kommentar", "Marke"]),
        ("#id,Kommentar,Marke\n1,,b\n2,a,c\n", ["#id", "Kommentar", "Marke"]),
        (",text\n1,a\n", ["column_1", "text"]),
        ('text\n"I like it, really"\n"text, label"\n', ["text"]),
        ("text,label\n# not a comment,pos\ntext,label\n", ["text", "label"]),
        ("title,topic\ntext,label\n", ["title", "topic"]),
    ],
)
def test_headers_that_only_look_like_something_else_stay(tmp_path, content, columns):
    assert read(tmp_path, content).columns == columns


def test_hash_tags_in_a_plain_file_are_texts(tmp_path):
    table = read(tmp_path, "#monday again\n\nwhy, oh why\n", "data.txt")
    assert table.arrow["text"].to_pylist() == ["#monday again", None, "why, oh why"]


@pytest.mark.parametrize(
    "above",
    [
        [["Export of 2024-01-01", None]],
        [["Export of 2024-01-01", None], [None, None]],
        [["# by me", None]],
        [["Reviews", "March"]],
        [[" ", None]],
    ],
)
def test_rows_above_the_header_of_a_sheet(tmp_path, above):
    path = tmp_path / "data.xlsx"
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate([*above, ("text", "label"), *BODY]):
            sheet.write_row(number, 0, row)
    table = read_table(path)
    assert table.columns == ["text", "label"] and cells(table) == BODY
    assert [note for note in table.notes if "row 1 was skipped" in note] or above[0][0] == " "


@pytest.mark.parametrize("source", ["csv", "tsv", "xlsx", "frame", "parquet"])
@pytest.mark.parametrize("numbers", [False, True])
def test_a_table_without_a_header_is_refused(tmp_path, source, numbers):
    body = [(f"{text} {i}", str(int(label == "pos")) if numbers else label) for i in range(5) for text, label in BODY]
    frame = pd.DataFrame(body[1:], columns=list(body[0]))
    path = tmp_path / f"data.{source}"
    if source == "frame":
        path = frame
    elif source == "parquet":
        frame.to_parquet(path)
    elif source == "xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if source == "tsv" else ",")
    with pytest.raises(DataError, match="has no header") as caught:
        choose_columns(read_table(path))
    assert "add a first line with column names" in str(caught.value)
    assert choose_columns(read_table(path), text=body[0][0], label=body[0][1]).label == body[0][1]


def test_a_first_row_whose_label_is_also_a_usual_name_is_refused(tmp_path):
    path = tmp_path / "sms.csv"
    path.write_text(
        "".join(f"{text} {i},{label}\n" for i in range(5) for text, label in [("won", "spam"), ("hi", "ham")])
    )
    with pytest.raises(DataError, match="has no header"):
        choose_columns(read_table(path))


def test_columns_numbered_by_pandas_are_names():
    frame = pd.DataFrame([(f"{text} {i}", int(label == "pos")) for i in range(5) for text, label in BODY])
    assert choose_columns(read_table(frame)).label == "1"


PROSE = [
    ["My card has not arrived", "Can I reach you by phone, email, or chat?", "What is my balance"],
    ["My card has not arrived", "Can I reach you by phone, email, or chat?"],
    ["Hello", "text, label, and more", "Bye; see you"],
    ["Hello", "by email; topic; text", "Bye"],
    ["# not a comment", "email, topic", "text, label"],
    ["A title, it seems", "text, label", "one, two, three"],
    ["Hi", "email|topic", "Bye"],
    ["Please call, text, or write", "I liked it", "Bad, really bad"],
    ["first", "", "the message, or the review", "last"],
]


@pytest.mark.parametrize("lines", PROSE, ids=[lines[0] for lines in PROSE])
def test_every_line_of_a_plain_file_is_a_text(tmp_path, lines):
    table = read(tmp_path, "".join(f"{line}\n" for line in lines), "data.txt")
    assert table.arrow["text"].to_pylist() == [line or None for line in lines]
    assert not any("skipped" in note for note in table.notes)


def test_a_ragged_table_in_a_plain_file_is_named_not_read_as_texts(tmp_path):
    with pytest.raises(DataError, match=r"row 2 \(line 3\): 4 fields, but the header has 3"):
        read(tmp_path, "id,text,label\n1,fine,pos\n2,good, very good,pos\n", "data.txt")


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("comments,\ngreat film,pos\nbad film,neg\nfine film,pos\n", ["comments", "column_2"]),
        (",kind,words\n0,spam,email\n1,spam,offer\n2,ham,lunch\n", ["column_1", "kind", "words"]),
        ("id\n1,text,spam\n2,other,spam\n", None),
    ],
)
def test_no_row_whose_cells_recur_takes_the_place_of_the_header(tmp_path, content, columns):
    if columns is None:
        with pytest.raises(DataError, match="the header has 1"):
            read(tmp_path, content)
        return
    assert read(tmp_path, content).columns == columns


WORDS = [
    ("word", "kind"), ("hello", "greeting"), ("email", "topic"), ("bye", "greeting")
]  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "tsv", "txt;", "xlsx"])
@pytest.mark.parametrize("body", [WORDS[1:], [WORDS[2], *WORDS[1:]], [("review", "class"), ("message", "tag")]])
@pytest.mark.parametrize("names", [("word", "kind"), ("#id", "kind"), ("Reviews", "March")])
def test_a_row_of_names_is_no_header_below_one_as_wide(tmp_path, names, body, form):
    rows = [names, *body, *body]
    if form == "xlsx":
        with xlsxwriter.Workbook(str(tmp_path / "data.xlsx")) as book:
            sheet = book.add_worksheet()
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
        table = read_table(tmp_path / "data.xlsx")
    else:
        delimiter = {"csv": ",", "tsv": "\t", "txt;": ";"}[form]
        options = {"delimiter": delimiter} if form == "txt;" else {}
        content = "".join(delimiter.join(row) + "\n" for row in rows)
        table = read(tmp_path, content, f"data.{form[:3]}", **options)
    assert table.columns == list(names) and cells(table) == rows[1:]
    assert not any("skipped" in note for note in table.notes)


def test_a_single_column_keeps_its_header_whatever_its_texts_name(tmp_path):
    with pytest.raises(DataError, match=r"row 1 \(line 2\): 3 fields, but the header has 1"):
        read(tmp_path, "comment\nCan I reach you by phone, email, or topic?\nok\n")
    table = read(tmp_path, 'comment\n"By phone, email, or topic?"\nok\n')
    assert table.columns == ["comment"] and cells(table) == [("By phone, email, or topic?",), ("ok",)]


def test_a_title_above_cells_of_several_lines_is_skipped(tmp_path):
    table = read(tmp_path, 'Export of March\nid,text,label\n1,"a\nb",pos\n2,c,neg\n')
    assert table.columns == ["id", "text", "label"] and cells(table)[0] == ("1", "a\nb", "pos")
