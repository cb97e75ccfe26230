"""The page Batch: uploads of every kind, their refusals in words, and results as `textune predict` writes them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

import textune
import tiny
from textune.app import batch_files
from textune.app.answers import answer_text
from textune.app.batch_files import (
    Choice,
    Form,
    Shown,
    Upload,
    check_upload,
    classify_upload,
    read_start,
    store_briefly,
)
from textune.app.loading import Loaded
from textune.app.options import UPLOAD_MEGABYTES, AppOptions, set_options
from textune.app.session import describe_error
from textune.app.uploads import find_ending
from textune.errors import TextuneError
from textune.inference import generation
from textune.inference.files import FileForm, list_writable, predict_file
from textune.inference.writers import choose_ending
from textune.run import Run

PLANTED = "<script>alert(1)</script> **bold** <img src=x onerror=alert(1)>"
ROWS = [{"text": "a good film", "note": "=1+1"}, {"text": "", "note": PLANTED}, {"text": "bad bad", "note": "x"}]


def write_csv(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def write_lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_parquet(rows: list[dict[str, str]]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def write_excel(rows: list[dict[str, str]]) -> bytes:
    import xlsxwriter

    stream = io.BytesIO()
    book = xlsxwriter.Workbook(stream, {"strings_to_formulas": False})
    sheet = book.add_worksheet()
    for i, line in enumerate([list(rows[0]), *(list(row.values()) for row in rows)]):
        for j, cell in enumerate(line):
            sheet.write_string(i, j, cell)
    book.close()
    return stream.getvalue()


KINDS: dict[str, tuple[str, Callable[[list[dict[str, str]]], bytes]]] = {
    "reviews.csv": (".csv", write_csv),
    "reviews.tsv": (".tsv", lambda rows: write_csv(rows, "\t")),
    "reviews.jsonl": (".jsonl", write_lines),
    "reviews.json": (".jsonl", lambda rows: json.dumps(rows).encode()),
    "reviews.parquet": (".parquet", write_parquet),
    "reviews.xlsx": (".xlsx", write_excel),
    "Überblick #1 (März).CSV": (".csv", write_csv),
    "reviews.csv.gz": (".csv", lambda rows: gzip.compress(write_csv(rows))),
}


def unpack(content: bytes, ending: str) -> object:
    """Return the bytes of a result, or of the files in a spreadsheet but the one that tells the time."""
    if ending != ".xlsx":
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "docProps/core.xml"}


@pytest.fixture(scope="module")
def loaded(finished: Run) -> Loaded:
    return Loaded(textune.load(finished))


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Uploads go to a place of the test, which must be empty at its end."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield
    assert not [path for path in place.iterdir() if not path.name.startswith("torchinductor")]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_classified_as_by_the_command(name: str, loaded: Loaded, tmp_path: Path) -> None:
    ending, write = KINDS[name]
    upload = Upload(name, write(ROWS))
    assert choose_ending(find_ending(name)) == ending
    start = read_start(upload)
    assert start.columns == ("text", "note") and len(start.rows) == 3
    checks = check_upload(upload, loaded.predictor, Choice(("text",)))
    assert (checks.rows, checks.without_text) == (3, 1)
    result = classify_upload(loaded, upload, Choice(("text",)), Form(ending, probabilities=True))
    (tmp_path / "file").mkdir()
    path = tmp_path / "file" / f"x{'.csv.gz' if name.endswith('.gz') else Path(name).suffix.lower()}"
    path.write_bytes(write(ROWS))
    other = predict_file(loaded.predictor, path, tmp_path / f"out{ending}", form=FileForm(("text",), None, True))
    assert unpack(result.content, ending) == unpack((tmp_path / f"out{ending}").read_bytes(), ending)
    assert (result.rows, result.without_text, result.label_counts) == (3, 1, other.label_counts)
    assert result.name.endswith(f".predicted{ending}") and result.name.startswith(name[:4])
    assert len(result.shown) == 3 and result.shown.answers[1] == () and len(result.shown.answers[0]) == 1


def test_formulas_are_as_safe_as_those_of_the_command(loaded: Loaded) -> None:
    formulas = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "\tx"]
    rows = [{"text": f"good {i}", "note": formula} for i, formula in enumerate(formulas)]
    result = classify_upload(loaded, Upload("a.csv", write_csv(rows)), Choice(("text",)), Form(".csv"))
    cells = [row["note"] for row in csv.DictReader(io.StringIO(result.content.decode()))]
    assert cells == ["'" + formula for formula in formulas] and result.escaped_cells == len(formulas)


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "empty": ("reviews.csv", b"", "reviews.csv: the file is empty"),
    "only a header": ("reviews.csv", b"text,label\n", "has no rows"),
    "binary": ("reviews.csv", bytes(range(256)) * 40, "reviews.csv"),
    "a picture": ("photo.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "not a kind of table that textune reads"),
    "a pickle": ("model.pkl", b"\x80\x04}.", "not a kind of table that textune reads"),
    "too large": ("big.csv", b"text\n" + b"x" * (UPLOAD_MEGABYTES * 2**20), "is larger than 50 MB"),
    "not a parquet": ("reviews.parquet", b"PAR1 nothing", "reviews.parquet"),
    "not an excel": ("reviews.xlsx", b"PK nothing", "reviews.xlsx"),
    "broken json": ("reviews.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"),
    "ragged": ("reviews.csv", b"text,label\na,b\nc,d,e,f\n", "reviews.csv"),
    "two columns of a name": ("reviews.csv", b"text,text\na,b\n", "text"),
    "a huge cell": ("reviews.csv", b'text\n"' + b"x" * 1_100_000 + b'"\n', "longer than 1,000,000 characters"),
    "packed rubbish": ("reviews.csv.gz", b"\x1f\x8b rubbish", "reviews.csv.gz"),
    "a name without a stem": (".csv", b"text\na\n", "not a kind of table that textune reads"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_gets_the_readers_words(kind: str, loaded: Loaded) -> None:
    name, content, words = REFUSED[kind]
    upload, choice = Upload(name, content), Choice(("text",))
    with pytest.raises(TextuneError) as refused:
        read_start(upload)
        check_upload(upload, loaded.predictor, choice)
        classify_upload(loaded, upload, choice, Form(".csv"))
    message = describe_error(refused.value)
    assert words in message and "bug" not in message and tempfile.gettempdir() not in message


@pytest.mark.parametrize(
    "name", ["../../up.csv", "C:\\folder\\up.csv", "/etc/up.csv", "a\0b.csv", "n" * 300 + ".csv", "..csv"]
)
def test_a_name_leads_nowhere(name: str, loaded: Loaded) -> None:
    with store_briefly(Upload(name, b"text\na\n")) as path:
        assert path.parent.parent == Path(tempfile.gettempdir()) and path.is_file()
        assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
    assert not path.parent.exists()


def test_a_stopped_upload_leaves_nothing(loaded: Loaded) -> None:
    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify_upload(loaded, Upload("a.csv", write_csv(ROWS)), Choice(("text",)), Form(".csv"), stop)


def test_many_rows_are_classified_in_turns(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_files, "_ROWS_IN_TURN", 7)
    monkeypatch.setattr(batch_files, "MOST_SHOWN", 10)
    rows = [{"text": text} for text, _ in tiny.make_rows(30)]
    steps: list[int] = []

    def advance(count: int) -> None:
        assert not loaded.lock.locked(), "others have their turn"
        steps.append(count)

    result = classify_upload(loaded, Upload("a.csv", write_csv(rows)), Choice(("text",)), Form(".csv"), advance)
    assert steps == [7, 7, 7, 7, 2] and result.rows == 30 and len(result.shown) == 10
    answers = [row["label"] for row in csv.DictReader(io.StringIO(result.content.decode()))]
    assert answers == loaded.predictor.predict([row["text"] for row in rows])


def test_a_model_that_writes_does_so_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_ROWS_PER_BATCH", 3)
    backbone, data = tiny.build_causal(tmp_path / "llama"), tiny.write_prompts(tmp_path / "prompts.jsonl", 24)
    options = {"task": "generation", "answer_rows": 2, "epochs": 1, "contrast_steps": None}
    limits = {"max_new_tokens": 4, "max_length": 48, "temperature": 1.0}
    loaded = Loaded(textune.load(tiny.train_tiny(data, backbone, tmp_path / "run", **options, **limits)))
    steps: list[int] = []
    write = type(loaded.predictor.generator).write

    def write_alone(*arguments: Any, **named: Any) -> Any:
        assert loaded.lock.locked(), "nobody else uses the model meanwhile"
        return write(*arguments, **named)

    def advance(count: int) -> None:
        assert not loaded.lock.locked(), "others have their turn"
        steps.append(count)

    prompts = [f"{tiny.WORDS[i % 4]} {'x' * (i % 5)}" for i in range(8)]
    assert answer_text(loaded.predictor, "red " * 40).note.startswith("The prompt lost its beginning: ")
    assert "beginning" not in answer_text(loaded.predictor, "red").note
    wanted = [answer.text for answer in loaded.predictor.generate(prompts)]
    monkeypatch.setattr(type(loaded.predictor.generator), "write", write_alone)
    upload = Upload("a.jsonl", write_lines([{"prompt": prompt} for prompt in prompts]))
    result = classify_upload(loaded, upload, Choice(("prompt",)), Form(".jsonl"), advance)
    assert steps == [3, 3, 2]
    rows = [json.loads(line) for line in result.content.decode().splitlines()]
    assert [row["prompt"] for row in rows] == prompts
    assert [row["answer"] for row in rows] == wanted, "sampled as in one go"


def test_filters_choose_rows() -> None:
    columns = {"text": ["One", "two", "three"], "label": ["a", "b", ""]}
    shown = Shown(columns, (("a",), ("b", "a"), ()), np.array([0.9, 0.6, np.nan]))
    assert shown.filter((), 1.0, "").tolist() == [0, 1, 2]
    assert shown.filter(["a"], 1.0, "").tolist() == [0, 1]
    assert shown.filter(["a"], 0.7, "").tolist() == [1]
    assert shown.filter((), 1.0, " ONE").tolist() == [0]
    assert shown.filter(["c"], 1.0, "").tolist() == []


@pytest.mark.parametrize("ending", list_writable())
def test_several_labels_and_labels_like_formulas(ending: str, tmp_path: Path, backbone: Path) -> None:
    names = {"positive": "=good, or so", "negative": PLANTED}
    lines = [
        (text, names[label] if i % 3 else "|".join(names.values()))
        for i, (text, label) in enumerate(tiny.make_rows(30))
    ]
    path = tmp_path / "tags.csv"
    path.write_bytes(write_csv([{"text": text, "label": label} for text, label in lines]))
    run = tiny.train_tiny(path, backbone, tmp_path / "run", task="multi_label", epochs=1, threshold=0.3)
    loaded = Loaded(textune.load(run, backbone=str(backbone)))
    upload = Upload("tags.csv", write_csv([{"text": text} for text, _ in lines]))
    result = classify_upload(loaded, upload, Choice(("text",)), Form(ending))
    assert list(result.shown.answers) == loaded.predictor.predict([text for text, _ in lines])


@pytest.mark.parametrize("ending", list_writable())
def test_rows_without_text_are_shown_whatever_is_downloaded(ending: str, loaded: Loaded) -> None:
    upload = Upload("reviews.csv", b'text\na good film\n""\nbad bad\n""\n')
    result = classify_upload(loaded, upload, Choice(("text",)), Form(ending, probabilities=True))
    shown = result.shown
    assert result.rows == len(shown) == 4
    assert shown.columns["text"] == ["a good film", "", "bad bad", ""] and shown.columns["label"][1::2] == ["", ""]
    assert [len(answer) for answer in shown.answers] == [1, 0, 1, 0]
    assert np.isnan(shown.probabilities).tolist() == [False, True, False, True]


# ---- the page ---------------------------------------------------------------------------------------------------


def draw_page() -> None:
    from textune.app.pages.batch import draw
    from textune.app.session import guard_page

    with guard_page():
        draw()


@pytest.fixture
def app(finished: Run, work: Path) -> Iterator[AppTest]:
    set_options(AppOptions())
    shutil.copytree(finished.folder, work / "runs" / "first")
    app = AppTest.from_function(draw_page, default_timeout=60).run()
    assert not app.exception
    yield app
    set_options(AppOptions())


def upload(app: AppTest, name: str, content: bytes) -> AppTest:
    app.file_uploader[0].set_value((name, content, "text/csv")).run()
    assert not app.exception
    return app


def find_button(app: AppTest, words: str) -> Any:
    return next(button for button in app.button if words in button.label)


def test_an_empty_folder_says_what_to_do(work: Path) -> None:
    app = AppTest.from_function(draw_page, default_timeout=60).run()
    assert not app.exception and "no finished run" in app.info[0].value and not app.file_uploader


def test_from_the_upload_to_the_result(app: AppTest) -> None:
    assert "column of texts" in app.info[0].value
    upload(app, "reviews.csv", write_csv(ROWS))
    assert [metric.value for metric in app.metric][:2] == ["3", "1"]
    assert "no text" in app.warning[0].value
    find_button(app, "Classify 3 rows").click().run()
    assert not app.exception and not app.error
    assert app.dataframe[1].value["note"].iloc[0] == "'=1+1"
    assert "3 of 3 rows" in [caption.value for caption in app.caption]
    app.text_input(key="batch words").set_value("bad bad").run()
    assert len(app.dataframe[1].value) == 1
    app.text_input(key="batch words").set_value("nothing like it").run()
    assert any("No row passes" in info.value for info in app.info)
    app.toggle(key="batch each").set_value(True).run()
    assert any("choices before" in warning.value for warning in app.warning)
    app.file_uploader[0].set_value(None).run()
    assert "batch result" not in app.session_state


def test_texts_that_were_cut_are_told(app: AppTest) -> None:
    """Notes that the page already shows are not repeated."""
    upload(app, "reviews.csv", write_csv([{"text": "good " * 600}, {"text": "bad"}]))
    find_button(app, "Classify 2 rows").click().run()
    told = [info.value for info in app.info]
    assert len(told) == len(set(told)) and sum("1 of 2 texts is longer than max" in one for one in told) == 1


def test_other_column_names_are_asked_for(app: AppTest) -> None:
    upload(app, "reviews.csv", write_csv([{"words": "a good film", "more": "x"}]))
    assert "trained on the column" in app.warning[0].value and not app.metric
    app.multiselect[0].set_value(["words"]).run()
    assert not app.exception and app.metric[0].value == "1"


def test_an_odd_delimiter_and_encoding_can_be_named(app: AppTest) -> None:
    odd = write_csv([{"text": "a café, a film", "note": "x"}], "|").decode().encode("utf-16-le")
    upload(app, "reviews.csv", odd)
    assert app.error or "trained on the column" in app.warning[0].value
    app.text_input(key="batch delimiter").set_value("|").run()
    app.text_input(key="batch encoding").set_value("utf-16-le").run()
    assert not app.exception and not app.error and app.metric[0].value == "1"
    assert app.dataframe[0].value["text"].iloc[0] == "a café, a film"
    find_button(app, "Classify 1 row").click().run()
    assert not app.exception and not app.error and len(app.dataframe[1].value) == 1
    app.text_input(key="batch delimiter").set_value("xx").run()
    assert "is not a single character" in app.error[0].value and not app.metric
    upload(app, "reviews.jsonl", write_lines(ROWS))
    assert not [field for field in app.text_input if field.key == "batch delimiter"]


@pytest.mark.parametrize("kind", ["empty", "binary", "a picture", "broken json", "not an excel"])
def test_a_bad_file_is_an_error_in_words(kind: str, app: AppTest) -> None:
    name, content, _ = REFUSED[kind]
    upload(app, name, content)
    assert len(app.error) == 1 and not app.metric and "bug" not in app.error[0].value


def test_nothing_planted_is_drawn_as_markup(app: AppTest) -> None:
    upload(app, f"{PLANTED}.csv".replace("/", ""), write_csv([{"text": PLANTED, PLANTED: PLANTED}]))
    find_button(app, "Classify").click().run()
    assert not app.exception and not app.error
    drawn = [*app.markdown, *app.caption, *app.info, *app.warning]
    assert not any("<script" in element.value for element in drawn)
    assert not any("<script" in element.proto.body for element in app.get("html"))


def test_a_pair_without_its_second_text_has_no_text(backbone: Path, tmp_path: Path) -> None:
    rows = tiny.make_rows(24)
    lines = [f"{text},film {i},{label}\n" for i, (text, label) in enumerate(rows)]
    (tmp_path / "pairs.csv").write_text("first,second,label\n" + "".join(lines), encoding="utf-8")
    options = {"text": "first", "text_pair": "second", "epochs": 1}
    run = tiny.train_tiny(tmp_path / "pairs.csv", backbone, tmp_path / "run", **options)
    loaded = Loaded(textune.load(run, backbone=str(backbone)))
    cells = [("good", "a"), ("good", "b"), ("good", "b"), ("good", " "), ("", "a")]
    upload = Upload("pairs.csv", write_csv([{"first": one, "second": two} for one, two in cells]))
    choice = Choice(("first",), "second")
    checks = check_upload(upload, loaded.predictor, choice)
    assert (checks.rows, checks.without_text, checks.repeated) == (5, 2, 1)
    assert classify_upload(loaded, upload, choice, Form(".csv")).without_text == 2
