"""Uploads that should fail, on both pages that take them: a sentence is seen, and nothing is left behind."""

from __future__ import annotations

import gzip
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from textune.app.options import AppOptions, set_options
from textune.app.private import jobs_folder
from textune.run import Run

SCRIPT = b"<script>PLANT</script>"

REFUSED: dict[str, tuple[str, bytes, str]] = {
    "empty": ("reviews.csv", b"", "reviews.csv: the file is empty"),
    "only a header": ("reviews.csv", b"text,label\n", "has no rows"),
    "binary": ("reviews.csv", bytes(range(256)) * 40, "reviews.csv"),
    "100 MB": ("reviews.csv", b"text,label\n" + b"x" * (100 * 2**20), "reviews.csv: is larger than 50 MB"),
    "picture": ("photo.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "photo.png: not a kind of table that textune reads"),
    "picture named as a table": ("photo.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, "photo.csv"),
    "pickle": ("model.pkl", b"\x80\x04}.", "model.pkl: not a kind of table that textune reads"),
    "no spreadsheet": ("reviews.xlsx", b"PK\x03\x04 nothing", "reviews.xlsx: damaged, or not a spreadsheet"),
    "locked spreadsheet": ("reviews.xlsx", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "reviews.xlsx: is password-protected"),
    "no parquet": ("reviews.parquet", b"PAR1 nothing", "reviews.parquet"),
    "broken JSON": ("reviews.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"),
    "ragged rows": ("reviews.csv", b"text,label\na,b\nc,d,e,f\n", "reviews.csv"),
    "open quote": ("reviews.csv", b'text,label\n"a,b\n', "reviews.csv"),
    "two columns of a name": ("reviews.csv", b"text,text\na,b\n", "text"),
    "huge cell": ("reviews.csv", b'text,label\n"' + b"x" * 1_100_000 + b'",b\n', "longer than 1,000,000 characters"),
    "not packed": ("reviews.csv.gz", b"text,label\na,b\n", "reviews.csv.gz"),
    "bomb": ("reviews.csv.gz", gzip.compress(b"text,label\n" + b"a" * 300_000_000, 9), "reviews.csv.gz"),
    "script in the name": ("<script>PLANT</script>.csv", b"", "the file is empty"),
}
"""What is wrong: the file's name, its content, and what is said of it."""


def draw_page(page: str) -> None:
    import importlib

    from textune.app.session import guard_page

    with guard_page():
        importlib.import_module(f"textune.app.pages.{page}").draw()


@pytest.fixture(autouse=True)
def place(finished: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a run; when the test ends, no upload may be left in it or in the folder for temporary files."""
    set_options(AppOptions())
    shutil.copytree(finished.folder, work / "runs" / "first")
    temporary = work / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield work
    set_options(AppOptions())


def list_left(place: Path) -> list[Path]:
    """Return the uploads that are left on the disk."""
    left = [*(place / "temporary").rglob("*"), *(jobs_folder(place / "runs") / ".uploads").rglob("*")]
    return [path for path in left if path.is_file()]


def upload(page: str, name: str, content: bytes) -> AppTest:
    """Upload a file to a page and return what is seen."""
    app = AppTest.from_function(draw_page, args=(page,), default_timeout=120).run()
    if page == "train":
        app.radio(key="source kind").set_value("Upload").run()
    app.file_uploader[0].set_value((name, content, "text/csv")).run()
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


def read(app: AppTest, *kinds: str) -> str:
    """Return what a person reads in boxes of these kinds."""
    found = [str(element.value) for kind in kinds for element in getattr(app, kind)]
    return "\n".join(found).replace("\\", "").replace("\u2060", "")


@pytest.mark.parametrize("page", ["batch", "train"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_file_gets_a_sentence(kind: str, page: str, place: Path) -> None:
    name, content, words = REFUSED[kind]
    app = upload(page, name, content)
    message = read(app, "error")
    assert len(app.error) == 1 and words in message, message
    assert "bug" not in message and "Traceback" not in message and str(place) not in message
    assert not [button for button in app.button if button.key in ("start", "batch classify")], "nothing can be started"
    assert not list_left(place)
    app.run()  # any other click says the same
    assert read(app, "error") == message and not list_left(place)


UNSUITABLE = {
    "other columns": (b"words\n" + b"".join(b"film %d\n" % i for i in range(20)), "label"),
    "one label": (b"text,label\n" + b"".join(b"film %d,good\n" % i for i in range(20)), "only the label 'good'"),
    "too few rows": (b"text,label\na,x\nb,y\n", "too few to train on"),
    "no labels": (b"text,label\n" + b"".join(b"film %d,\n" % i for i in range(20)), "no column looks like a label"),
}
"""Tables that can be read and not be trained on: their content, and a word of what is said."""


@pytest.mark.parametrize("kind", UNSUITABLE)
def test_a_table_that_cannot_be_trained_on_gets_a_sentence(kind: str, place: Path) -> None:
    content, words = UNSUITABLE[kind]
    app = upload("train", "reviews.csv", content)
    assert not app.error and len(list_left(place)) == 1
    app.button(key="check").click().run()
    message = read(app, "error")
    assert not app.exception and len(app.error) == 1 and words in message, message
    assert "bug" not in message and "Traceback" not in message and str(place) not in message
    app.file_uploader[0].set_value(None).run()
    assert not list_left(place), "taking the file away removes it"


def test_a_table_of_other_columns_is_asked_about(place: Path) -> None:
    app = upload("batch", "reviews.csv", UNSUITABLE["other columns"][0])
    assert "trained on the column" in read(app, "warning") and not app.error and not app.metric
    assert not list_left(place)


@pytest.mark.parametrize("page", ["batch", "train"])
def test_formulas_and_scripts_are_only_text(page: str, place: Path) -> None:
    rows = b"".join(b"=1+1 good %d,%s\n" % (i, (SCRIPT, b"y")[i % 2]) for i in range(10))
    app = upload(page, "reviews.csv", b"text,label\n" + rows)
    assert not app.error and app.dataframe[0].value["text"].iloc[0] == "=1+1 good 0"
    assert app.dataframe[0].value["label"].iloc[0] == SCRIPT.decode()
    drawn = [*app.markdown, *app.caption, *app.info, *app.warning]
    assert not [element for element in drawn if "PLANT" in element.value] and not app.get("html")


LATIN = "text,label\n" + "caf\xe9 good film %d,a\nbad \x81 film %d,b\n" * 8
LINES = [f'{{"text": "caf\xe9 \x81 {i}", "label": "{"ab"[i % 2]}"}}' for i in range(16)]
ODD: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "undetected encoding": ("l.csv", (LATIN % tuple(range(16))).encode("latin-1"), {"encoding": "latin-1"}),
    "in .tab": ("l.tab", (LATIN % tuple(range(16))).replace(",", "\t").encode("latin-1"), {"encoding": "latin-1"}),
    "in .jsonl": ("l.jsonl", "\n".join(LINES).encode("latin-1"), {"encoding": "latin-1"}),
    "in .json": ("l.json", f"[{', '.join(LINES)}]".encode("latin-1"), {"encoding": "latin-1"}),
    "packed": ("l.csv.gz", gzip.compress((LATIN % tuple(range(16))).encode("latin-1")), {"encoding": "latin-1"}),
    "undetected delimiter": ("s.csv", b"text~label\n" + b"good, x~a\nbad, y~b\n" * 8, {"delimiter": "~"}),
}
"""Tables that need a setting to be read: the file's name, its content, and the setting."""


@pytest.mark.parametrize("page", ["batch", "train", "train by path"])
@pytest.mark.parametrize("kind", ODD)
def test_a_setting_that_a_table_needs_can_be_filled_in(kind: str, page: str, place: Path) -> None:
    name, content, settings = ODD[kind]
    if page == "train by path":
        (place / name).write_bytes(content)
        app = AppTest.from_function(draw_page, args=("train",), default_timeout=120).run()
        app.radio(key="source kind").set_value("A file on this machine").run()
        app.text_input(key="path").set_value(name).run()
    else:
        app = upload(page, name, content)
    assert not app.exception and (app.error or app.dataframe[0].value.shape[1] == 1)
    for setting, value in settings.items():
        app.text_input(key=f"{'batch' if page == 'batch' else 'set'} {setting}").set_value(value).run()
    assert not app.exception and not app.error, read(app, "error")
    assert list(app.dataframe[0].value.columns) == ["text", "label"]
    if page != "batch":
        written = shlex.split(app.code[0].value)
        assert {f"{setting}={value}" for setting, value in settings.items()} <= set(written)
        app.button(key="check").click().run()
        assert not app.error, read(app, "error")
    if page == "train":
        app.file_uploader[0].set_value(None).run()


@pytest.mark.parametrize("page", ["batch", "train"])
def test_a_setting_that_does_not_exist_gets_a_sentence(page: str, place: Path) -> None:
    app = upload(page, "a.csv", b"text,label\na,b\nc,d\n")
    app.text_input(key=f"{'batch' if page == 'batch' else 'set'} encoding").set_value("nonsense").run()
    assert not app.exception and "unknown encoding 'nonsense'" in read(app, "error")
    (reading,) = (part for part in app.expander if part.label == "How the file is read")
    assert reading.proto.expanded, "what is filled in, perhaps for the file before, is seen"
    if page == "train":
        app.file_uploader[0].set_value(None).run()
    assert not list_left(place)
