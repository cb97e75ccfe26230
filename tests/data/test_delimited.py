"""CSV, TSV and text files: exact cells, and every fault named with its row."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.data import ReadOptions, Table, read_table, stream_tables
from textune.errors import DataError

CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


def write(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(table: Table) -> list[dict[str, str | None]]:
    return table.arrow.to_pylist()


def refused(folder: Path, content: str | bytes, name: str = "data.csv", **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_table(write(folder, content, name), ReadOptions(**options))
    assert caught.value.hint
    assert name in caught.value.message
    return str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_comes_back_to_the_letter(tmp_path, data, delimiter, ending):
    buffer = io.StringIO(newline="")
    # the module leaves a lone CR unquoted unless the line ends hold one
    quoting = csv.QUOTE_MINIMAL if ending == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerows([("text", "label", "other"), *data])
    path = write(tmp_path, buffer.getvalue())
    table = read_table(path, ReadOptions(delimiter=delimiter))
    assert [tuple(row.values()) for row in rows(table)] == [tuple(cell or None for cell in row) for row in data]
    pieces = list(stream_tables(path, ReadOptions(delimiter=delimiter), chunk_rows=3))
    assert [row for piece in pieces for row in rows(piece)] == rows(table)
    assert [piece.first_row for piece in pieces] == list(range(1, len(data) + 1, 3))


def test_words_that_look_like_values_stay_text(tmp_path):
    words = ["NA", "null", "None", "001", "1.0", "true", "nan", "NaN", "1e5", "-0", " spaced ", "🤗 é", "=1+1"]
    path = write(tmp_path, "text,label\n" + "".join(f"{w},{w}\n" for w in words))
    assert [row["label"] for row in rows(read_table(path))] == words


@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le"])
def test_a_second_byte_order_mark_is_no_part_of_a_name(tmp_path, codec):
    table = read_table(write(tmp_path, "\ufeff\ufefftext,label\na,b\n".encode(codec)))
    assert rows(table) == [{"text": "a", "label": "b"}]


def test_an_empty_cell_is_missing_and_quoted_newlines_stay(tmp_path):
    path = write(tmp_path, 'text,label\r\n"a\nb\r\nc\rd",\r\n"say ""hi""",x\r\n')
    assert rows(read_table(path)) == [
        {"text": "a\nb\r\nc\rd", "label": None},
        {"text": 'say "hi"', "label": "x"},
    ]


@pytest.mark.parametrize(
    ("content", "where", "reason"),
    [
        ("text,label\na,b\nc,d,e\n", "row 2 (line 3)", "3 fields, but the header has 2"),
        ("text,label\na,b\nc\n", "row 2 (line 3)", "1 field, but the header has 2"),
        ('text,label\n"a\nb",c\nd\n', "row 2 (line 4)", "1 field"),
        ('text,label\na,b\n"c,d\ne,f\n', "row 2 (line 3)", "a quote is opened and never closed"),
        ('text,label\n"a"b,c\n', "row 1 (line 2)", "text follows a closing quote"),
        ("text,label\na,b\nc\rd,e\n", "row 2 (line 3)", "bare carriage return"),
        ("text,label\ra,b\rc,d\r", "header (line 1)", "bare carriage return"),
        ("text,label\na,b\nc\0d,e\n", "row 2 (line 3)", "NUL"),
        ("text,label\na,b\nc,d\0", "row 2 (line 3)", "NUL"),
        ("text,label\nfine,b\nhalf \xed\xa0\x80,e\n".encode("latin-1"), "line 3", "surrogate"),
        ("text,label\n" + "a" * 1_000_001 + ",b\n", "row 1", "longer than 1,000,000 characters"),
        ("text,label\na,b\n" + "x" * 20_000_000 + "\n", "row 2", "longer than"),
        ('text,label\na,b\n"' + "x,y\n" * 300_000, "row 2", "longer than 1,000,000 characters"),
    ],
)
def test_a_faulty_row_is_named_with_its_reason(tmp_path, content, where, reason):
    message = refused(tmp_path, content)
    assert where in message
    assert reason in message


def test_the_fault_far_down_has_the_right_row(tmp_path):
    lines = [f"text {i},label\n" for i in range(50_000)]
    lines[41_234] = "broken\n"
    assert "row 41235 (line 41236)" in refused(tmp_path, "text,label\n" + "".join(lines))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("text,label\n", "no rows"),
        ("text,text\na,b\n", "'text' appears 2 times"),
    ],
)
def test_no_table_is_said_plainly(tmp_path, content, reason):
    assert reason in refused(tmp_path, content)
    with pytest.raises(DataError, match=reason):
        list(stream_tables(tmp_path / "data.csv"))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_delimiter_is_detected_and_said(tmp_path, delimiter):
    table = read_table(write(tmp_path, f"text{delimiter}label\nwell, yes{delimiter}1\n"))
    assert rows(table) == [{"text": "well, yes", "label": "1"}]
    assert any("delimiter" in note and "detected" in note for note in table.notes)


def test_an_unsure_delimiter_is_refused_with_the_setting(tmp_path):
    assert "delimiter=" in refused(tmp_path, "text;label|x\na;b|c\n")
    assert "delimiter" in refused(tmp_path, "text,label\na,b\n", delimiter=";;")


def test_a_tsv_with_plain_quotes_keeps_them(tmp_path):
    table = read_table(write(tmp_path, 'text\tlabel\n"He said so\t1\nan inch: 5" or 6"\t0\n', "mrpc.tsv"))
    assert [row["text"] for row in rows(table)] == ['"He said so', 'an inch: 5" or 6"']
    assert "quotes" in table.notes[0]
    quoted = read_table(write(tmp_path, 'text\tlabel\n"a\tb"\t1\n', "quoted.tsv"))
    assert rows(quoted) == [{"text": "a\tb", "label": "1"}]


def test_a_text_file_is_a_table_or_one_text_per_line(tmp_path):
    lines = read_table(write(tmp_path, 'Hello, you.\n"Oh" she said\n\nlast', "lines.txt"))
    assert [row["text"] for row in rows(lines)] == ["Hello, you.", '"Oh" she said', None, "last"]
    table = read_table(write(tmp_path, "label\ttext\nham\thi, you\n", "table.txt"))
    assert rows(table) == [{"label": "ham", "text": "hi, you"}]
    assert "row 1 (line 1): a bare carriage return" in refused(tmp_path, "good film\rbad film\r", "mac.txt")
    twice = read_table(write(tmp_path, "good\r\r\nbad\r\n", "twice.txt"))
    assert [row["text"] for row in rows(twice)] == ["good", "bad"]
    assert "label<TAB>text" in refused(tmp_path, "ham\tok\nspam\twin\n", "sms.txt")


@pytest.mark.parametrize(
    ("codec", "mark", "said"),
    [
        ("utf-8-sig", b"", "byte order mark"),
        ("utf-16-le", b"\xff\xfe", "UTF-16"),
        ("utf-16-be", b"\xfe\xff", "UTF-16"),
        ("utf-32-le", b"\xff\xfe\0\0", "UTF-32"),
    ],
)
def test_a_marked_encoding_is_read_and_said(tmp_path, codec, mark, said):
    path = write(tmp_path, mark + "text,label\nÜber 🤗,1\n".encode(codec))
    table = read_table(path)
    assert table.columns == ["text", "label"]
    assert rows(table)[0]["text"] == "Über 🤗"
    assert said in table.notes[0]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_unmarked_utf16_is_refused_with_the_setting(tmp_path, codec):
    content = "text,label\nplain words,1\n".encode(codec)
    assert f"encoding={codec}" in refused(tmp_path, content)
    assert rows(read_table(tmp_path / "data.csv", ReadOptions(encoding=codec)))[0]["text"] == "plain words"


def test_latin_1_is_guessed_and_said_or_refused_with_the_setting(tmp_path):
    german = "text,label\n" + "Schöne Grüße aus München,1\nDas war überhaupt nicht gut,0\n" * 20
    path = write(tmp_path, german.encode("latin-1"))
    table = read_table(path)
    assert rows(table)[0]["text"] == "Schöne Grüße aus München"
    assert "guessed" in table.notes[0]
    for text, codec in [("Un café très agréable", "latin-1"), ("żółć gęślą jaźń", "cp1250"), ("面白くない", "cp932")]:
        content = f"text,label\n{text},1\n".encode(codec)
        assert "encoding=" in refused(tmp_path, content)
        assert rows(read_table(tmp_path / "data.csv", ReadOptions(encoding=codec)))[0]["text"] == text


FOREIGN = {
    "cp932": "良い映画です。とても面白かった", "euc_jp": "良い映画です。とても面白かった",
    "cp949": "좋은 영화입니다 정말 재미있었다", "gb18030": "很好的电影，非常有趣", "big5": "很好的電影，非常有趣",
    "koi8_r": "хороший фильм, понравился", "cp1251": "хороший фильм, понравился",
    "cp1253": "καλή ταινία, πολύ ωραία", "cp1255": "סרט טוב מאוד ומהנה",
    "cp1256": "فيلم جيد جدا وممتع", "cp1254": "çok güzel bir film, şahane", "cp1257": "labai geras filmas, žmonės",
}  # fmt: skip


@pytest.mark.parametrize(
    "english", ["", "a plain sentence before it: ", "x" * 200 + ", "], ids=["alone", "mixed", "late"]
)
@pytest.mark.parametrize("codec", FOREIGN)
def test_a_reading_that_is_right_is_among_those_shown(tmp_path, codec, english):
    words = FOREIGN[codec][:7]  # short enough for bytes of two to be shown whole
    content = ("text\tlabel\n" + "".join(f"{english}{FOREIGN[codec]}\t{i % 2}\n" for i in range(40))).encode(codec)
    try:
        assert words in rows(read_table(write(tmp_path, content, "data.tsv")))[0]["text"]
    except DataError as error:
        assert words in error.message and f"as {codec}" in error.message
        assert "\n" not in error.message.rstrip("\n")


def test_one_damaged_byte_in_utf8_is_named_not_guessed(tmp_path):
    content = "text,label\n" + "très déçu, é\n" * 30
    message = refused(tmp_path, content.encode() + b"bad \xe9 byte,1\n")
    assert "line 32" in message and "0xe9" in message


def test_an_unknown_encoding_is_refused(tmp_path):
    assert "did you mean 'latin-1'" in refused(tmp_path, "text,label\na,b\n", encoding="latin-l")
    assert "unknown encoding" in refused(tmp_path, "text,label\na,b\n", encoding="base64")


def test_unnamed_columns_get_names_and_blank_lines_are_told(tmp_path):
    table = read_table(write(tmp_path, ",text,label\n0,a,x\n\n1,b,y\n"))
    assert table.columns == ["column_1", "text", "label"]
    assert len(table) == 2
    assert any("blank line" in note for note in table.notes)


def test_gzip_is_read_and_a_bomb_is_not(tmp_path):
    packed = tmp_path / "data.csv.gz"
    packed.write_bytes(gzip.compress(b"text,label\na,b\n"))
    assert rows(read_table(packed)) == [{"text": "a", "label": "b"}]
    with gzip.open(packed, "wb", compresslevel=6) as stream:
        stream.write(b"text,label\n")
        for _ in range(80):
            stream.write(b"x" * 2**20)
    with pytest.raises(DataError, match="times its size"):
        read_table(packed)
    packed.write_bytes(gzip.compress(b"text,label\na,b\n")[:-6])
    with pytest.raises(DataError, match="damaged"):
        read_table(packed)


def test_rows_and_bytes_are_capped(tmp_path):
    content = "text,label\n" + "abc,x\n" * 1_000
    assert "more than 999 rows" in refused(tmp_path, content, max_rows=999)
    assert "GiB" in refused(tmp_path, content, max_bytes=2_000)


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    path = write(tmp_path, "text,label\na,b\nc,d\n")
    same = write(tmp_path, 'text;label\r\n"a";b\r\nc;d\r\n', "same.csv")
    other = write(tmp_path, "text,label\nab,\nc,d\n", "other.csv")
    prints = [read_table(p).fingerprint for p in (path, same, other)]
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 64


def test_a_hundred_thousand_rows_take_seconds(tmp_path):
    import time

    path = write(tmp_path, "text,label\n" + '"Some words, and some more of them to read",positive\n' * 100_000)
    start = time.process_time()
    assert len(read_table(path)) == 100_000
    assert time.process_time() - start < 5


LABELS = ("pos", "neg")


def stray_table(delimiter, at=((1, 3), (6, 9)), rows=12, first="text"):
    """A table of short rows in which some texts begin with a quote and later ones end with one, and its rows."""
    opened, closed = {start for start, _ in at}, {end for _, end in at}
    texts = ['"' * (i in opened) + f"a film {i}" + '"' * (i in closed) for i in range(rows)]
    data = [(text, LABELS[i % 2]) for i, text in enumerate(texts)]
    names = ("text", "label")
    if first == "label":
        data, names = [row[::-1] for row in data], names[::-1]
    elif first == "id":
        data, names = [(str(i), *row) for i, row in enumerate(data)], ("id", *names)
    return "".join(delimiter.join(row) + "\n" for row in (names, *data)), data


@pytest.mark.parametrize("first", ["text", "label", "id"])
@pytest.mark.parametrize("at", [[(1, 3)], [(1, 3), (6, 9)], [(0, 1)], [(0, 11)], [(2, 10)]])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_stray_quotes_swallow_no_rows_of_a_tsv(tmp_path, at, first, ending):
    content, data = stray_table("\t", at, first=first)
    table = read_table(write(tmp_path, content.replace("\n", ending), "data.tsv"))
    assert [tuple(row.values()) for row in rows(table)] == data
    assert any("quotes are read as plain characters" in note for note in table.notes)
    pieces = list(stream_tables(tmp_path / "data.tsv", chunk_rows=5))
    assert [row for piece in pieces for row in rows(piece)] == rows(table)


@pytest.mark.parametrize("first", ["text", "label", "id"])
@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize(
    ("at", "row", "lines"),
    [([(1, 3)], 2, "2 lines below it, which are rows"), ([(4, 5)], 5, "line below it, which is a row of its own"),
     ([(1, 10)], 2, "9 lines below it, which are rows")],
)  # fmt: skip
def test_stray_quotes_that_swallow_rows_of_a_csv_are_named(tmp_path, at, row, lines, delimiter, first):
    content, _ = stray_table(delimiter, at, first=first)
    message = refused(tmp_path, content)
    assert f"row {row} (line {row + 1}): a quote is opened" in message and lines in message
    assert f"row {row} (line {row + 3})" in refused(tmp_path, f"# by me\n\n{content}")


def test_stray_quotes_are_found_beside_quoted_cells(tmp_path):
    content, _ = stray_table(",", [(3, 5)])
    quoted = content + '"one, two",pos\n"of\ntwo lines",neg\n'
    assert "row 4 (line 5): a quote is opened" in refused(tmp_path, quoted)


def test_lines_that_could_be_rows_are_told_where_nothing_shows_what_they_are(tmp_path):
    table = read_table(write(tmp_path, 'text,score\n"Start,1.5\nmiddle,2.5\nend",3.5\nlast,4.5\n'))
    assert len(table) == 2
    assert any("row 1 (line 2) has a quoted cell of 3 lines" in note for note in table.notes)


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "text",
    ["Line one\nline two", "Hello, world\nbye", "a; b\nc; d", "a\tb\nc\td", 'He said "no"\nand left', "x\n\ny", "\n",
     "Dear all, this\nis my review, pos\nneg, and more", "one | two\nthree"],
)  # fmt: skip
def test_quoted_cells_of_several_lines_stay(tmp_path, text, delimiter, quoting):
    buffer = io.StringIO(newline="")
    data = [(text, "pos"), ("short", "neg"), (text + "!", "neg"), ("of a line", "pos")]
    csv.writer(buffer, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerows([("text", "label"), *data])
    table = read_table(write(tmp_path, buffer.getvalue()), ReadOptions(delimiter=delimiter))
    assert [tuple(row.values()) for row in rows(table)] == data


def test_a_single_column_of_quoted_cells_stays(tmp_path):
    table = read_table(write(tmp_path, 'text\n"of\nthree\nlines"\nshort\n'))
    assert [row["text"] for row in rows(table)] == ["of\nthree\nlines", "short"]
