"""The pages Train and Runs: their states, what they do, and that a hostile text or label is never more than text."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from textune.app import jobs, main
from textune.app.launch import SCRIPT
from textune.app.marks import read_marks
from textune.app.options import AppOptions, set_options
from textune.app.session import list_run_folders
from textune.app.uploads import remove_upload, store_upload
from textune.cli.output import gather_settings
from textune.config import build_config
from textune.data.fixes import FixedRows
from textune.errors import BundleError
from textune.run import Run
from textune.run.tables import prepare_data
from tiny import make_rows, train_tiny, write_reviews

PLANT = "PLANT"
LABELS = {
    "negative": "<b>PLANT</b> [x](http://PLANT.example)",
    "positive": "**PLANT** :red[PLANT] <script>PLANT()</script>",
}
TEXT = "<img src=x onerror=PLANT()> [PLANT](http://x) `PLANT` $PLANT$"
READ_AS_MARKDOWN = (
    "markdown",
    "caption",
    "error",
    "warning",
    "info",
    "success",
    "header",
    "subheader",
    "title",
    "exception",
)
WIDGETS = (
    "button",
    "checkbox",
    "multiselect",
    "number_input",
    "radio",
    "selectbox",
    "text_input",
    "toggle",
    "text_area",
)


@pytest.fixture(autouse=True)
def _options() -> Iterator[None]:
    set_options(AppOptions())
    yield
    set_options(AppOptions())


def open_page(page: str) -> AppTest:
    """Return a page of the app, drawn."""
    app = AppTest.from_function(_draw, args=(page,), default_timeout=120).run()
    check(app)
    return app


def _draw(page: str) -> None:
    import importlib

    importlib.import_module(f"textune.app.pages.{page}").draw()


def check(app: AppTest) -> AppTest:
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


def read(app: AppTest, kind: str) -> str:
    return "\n".join(str(element.value) for element in getattr(app, kind))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Run:
    """A run whose texts, labels and columns hold what a browser or Markdown would act on."""
    place = tmp_path_factory.mktemp("hostile")
    with (place / "reviews.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label", "<u>PLANT</u>"))
        for at, (text, label) in enumerate(make_rows(60)):
            other = {"negative": "positive", "positive": "negative"}[label] if at % 6 == 0 else label
            writer.writerow((f"{text} {TEXT}", LABELS[other], "<i>PLANT</i>" if at % 2 else "*PLANT*"))
    return train_tiny(place / "reviews.csv", backbone, place / "hostile", epochs=1, test_fraction=0.4)


@pytest.fixture
def runs(finished: Run, hostile: Run, work: Path) -> Path:
    """A folder `runs` with two finished runs and one that was interrupted."""
    for run, name in ((finished, "easy"), (hostile, "hostile")):
        shutil.copytree(run.folder, work / "runs" / name)
    (work / "runs" / "half").mkdir()
    for name in ("plan.json", "config.yaml", "metrics.jsonl"):
        shutil.copy(finished.folder / name, work / "runs" / "half" / name)
    return work / "runs"


def list_markdown(app: AppTest) -> Iterator[tuple[str, str]]:
    """Yield every text of a page that Streamlit reads as Markdown: bodies, labels, helps and options."""
    for kind in READ_AS_MARKDOWN:
        yield from ((kind, str(element.value)) for element in getattr(app, kind))
    for kind in WIDGETS:
        for element in getattr(app, kind):
            yield kind, str(element.label)
            yield kind, str(getattr(element, "help", "") or "")
            if kind == "radio":
                yield from ((kind, option) for option in element.options)


def assert_plain(app: AppTest) -> int:
    """Check that no planted text means anything to a Markdown reader; return how many there were."""
    parser = (
        pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    )
    planted = 0
    for kind, text in list_markdown(app):
        if PLANT not in text:
            continue
        planted += 1
        tokens = [token for block in parser.parse(text) for token in (block, *(block.children or ()))]
        kinds = {token.type for token in tokens} - {
            "paragraph_open",
            "paragraph_close",
            "inline",
            "text",
            "hardbreak",
            "softbreak",
        }
        assert not kinds, f"{kind}: {text}"
        assert ":red[" not in text and "http:" not in text.replace("http\u2060", ""), f"{kind}: {text}"
    return planted


def test_no_runs_and_no_trainings_are_said(work: Path) -> None:
    assert "There is no run yet" in read(open_page("runs"), "info")
    app = open_page("train")
    assert "Start training" in [button.label for button in app.button]
    assert "textune train embedded:rotten_tomatoes method=lora" in read(app, "code")


@pytest.mark.parametrize("part", ["Report", "Curves", "Errors", "Labels", "Export", "Delete"])
def test_hostile_texts_and_labels_are_only_text(part: str, runs: Path) -> None:
    app = open_page("runs")
    app.multiselect[0].set_value(["runs/hostile"])
    app.session_state["part runs/hostile"] = part
    check(app.run())
    assert not app.error
    found = assert_plain(app)
    assert found or part != "Labels"


def test_hostile_data_are_only_text_on_train(hostile: Run, work: Path) -> None:
    data = Path(str(hostile.folder.parent)) / "reviews.csv"
    app = open_page("train")
    app.radio[0].set_value("A file on this machine").run()
    app.text_input(key="path").set_value(str(data)).run()
    check(app)
    assert "<u>PLANT</u>" in app.multiselect(key="set text").options
    next(button for button in app.button if button.key == "check").click().run()
    assert not read(check(app), "error") and PLANT in read(app, "code")
    app.text_input(key="set epochs").set_value("<b>PLANT</b> [x](http://PLANT.example)").run()
    assert "PLANT" in read(check(app), "error")
    assert assert_plain(app) > 0


def test_an_interrupted_run_says_how_it_goes_on(runs: Path) -> None:
    app = open_page("runs")
    app.multiselect[0].set_value(["runs/half"]).run()
    assert "interrupted" in read(check(app), "info")


def test_two_runs_of_other_rows_are_told_apart_in_words(runs: Path) -> None:
    app = open_page("runs")
    app.multiselect[0].set_value(["runs/easy", "runs/hostile"]).run()
    assert "were not measured on the same rows" in read(check(app), "warning").replace("\\", "")


def test_runs_of_the_same_rows_are_compared(backbone: Path, reviews: Path, runs: Path) -> None:
    train_tiny(reviews, backbone, Path("runs/head"), method="head")
    app = open_page("runs")
    app.multiselect[0].set_value(["runs/easy", "runs/head"]).run()
    check(app)
    assert not read(app, "error") and not app.warning and len(app.dataframe) >= 2
    assert "textune compare runs/easy runs/head" in read(app, "code")


def test_one_click_marks_a_label_and_another_takes_it_back(runs: Path) -> None:
    app = open_page("runs")
    app.multiselect[0].set_value(["runs/hostile"])
    app.session_state["part runs/hostile"] = "Labels"
    check(app.run())
    next(button for button in app.button if str(button.key).startswith("mark ")).click().run()
    assert len(read_marks(runs / "hostile-review.csv")) == 1
    assert "1 label marked" in read(check(app), "success").replace("\\", "")
    assert "fixes=runs/hostile-review.csv" in read(app, "code")
    next(button for button in app.button if str(button.key).startswith("undo ")).click().run()
    assert read_marks(runs / "hostile-review.csv") == {} and not check(app).success


def train_on_signs(backbone: Path, place: Path, signs: tuple[str, str], **settings: Any) -> Run:
    """Train on labels that could also remove a row, a few of each wrong."""
    words = {"negative": signs, "positive": signs[::-1]}
    with (place / "signs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        for at, (text, label) in enumerate(make_rows(120)):
            writer.writerow((text, words[label][at % 15 == 0]))
    settings |= {"method": "full", "epochs": 12, "learning_rate": 3e-3, "pooling": "mean", "test_fraction": 0.5}
    return train_tiny(place / "signs.csv", backbone, place / "runs" / "signs", **settings)


def open_labels(run: str) -> AppTest:
    app = open_page("runs")
    app.multiselect[0].set_value([run])
    app.session_state[f"part {run}"] = "Labels"
    return check(app.run())


def test_a_row_is_taken_out_by_a_word_that_is_no_label(backbone: Path, work: Path) -> None:
    train_on_signs(backbone, work, ("-", "+"))
    app = open_labels("runs/signs")
    next(button for button in app.button if str(button.key).startswith("drop ")).click().run()
    assert list(read_marks(work / "runs" / "signs-review.csv").values()) == ["drop"]
    assert "the row is taken out" in read(check(app), "markdown")
    fixed = fix_rows(read(app, "code"))
    assert (fixed.changed, fixed.removed) == (0, 1)
    next(button for button in app.button if str(button.key).startswith("undo ")).click().run()
    next(button for button in app.button if "it is '-'" in button.label.replace("\\", "")).click().run()
    assert list(read_marks(work / "runs" / "signs-review.csv").values()) == ["-"]
    assert "the row is taken out" not in read(check(app), "markdown")
    fixed = fix_rows(read(app, "code"))
    assert (fixed.changed, fixed.removed) == (1, 0)


def fix_rows(command: str) -> FixedRows:
    """Return what the review file of a command does to the rows."""
    _, _, settings, *words = shlex.split(command)
    fixed = prepare_data(build_config(gather_settings(words, settings))).fixed
    assert fixed is not None
    return fixed


def test_no_row_is_taken_out_where_every_word_for_it_is_a_label(backbone: Path, work: Path) -> None:
    run = train_on_signs(backbone, work, ("-", "drop"), labels="-=minus,drop=gone")
    assert run.find_errors().labels == ("minus", "gone", "-", "drop"), "a review file takes names and values"
    keys = [str(button.key) for button in open_labels("runs/signs").button]
    assert [key for key in keys if key.startswith("mark ")] and not [key for key in keys if key.startswith("drop ")]


def test_labels_say_what_a_new_training_lacks_and_which_marks_are_not_its_own(runs: Path) -> None:
    folder = runs / "hostile"
    for name in ("plan.json", "config.yaml"):
        content = (folder / name).read_text()
        (folder / name).write_text(content.replace("reviews.csv", "uploaded.csv"))
    app = open_page("runs")
    app.multiselect[0].set_value(["runs/hostile"])
    app.session_state["part runs/hostile"] = "Labels"
    check(app.run())
    next(button for button in app.button if str(button.key).startswith("mark ")).click().run()
    assert "uploaded.csv no longer exists" in read(check(app), "warning").replace("\\", "")
    assert "data=PATH" in read(app, "code")
    review = runs / "hostile-review.csv"
    marked = list(csv.DictReader(review.open(newline="")))
    with review.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, marked[0].keys())
        writer.writeheader()
        writer.writerows(row | {"key": "t0123456789abcdef"} for row in marked)
    check(app.run())
    assert "1 mark is about other texts" in read(app, "warning") and not app.code and not app.success
    assert not [button for button in app.button if str(button.key).startswith("undo ")]


def test_a_run_is_deleted_by_its_name_alone(runs: Path) -> None:
    app = open_page("runs")
    app.multiselect[0].set_value(["runs/easy"])
    app.session_state["part runs/easy"] = "Delete"
    check(app.run())
    next(button for button in app.button if button.label == "Delete").click().run()
    assert "type the name easy" in read(check(app), "error").replace("\\", "") and (runs / "easy").is_dir()
    app.text_input[0].set_value("easy")
    next(button for button in app.button if button.label == "Delete").click().run()
    assert not (runs / "easy").exists() and "was deleted" in read(check(app), "success")


def test_a_training_is_started_watched_and_stopped(backbone: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import signal, time; signal.signal(2, signal.SIG_IGN); print('rows: 1', flush=True); time.sleep(60)"
    sleeper = [sys.executable, "-c", code]
    start = jobs.start_process
    monkeypatch.setattr(jobs, "start_process", lambda words, log, env: start(sleeper, log, env))
    write_reviews(work / "reviews.csv", rows=20)
    app = open_page("train")
    app.radio[0].set_value("A file on this machine").run()
    app.text_input(key="path").set_value("reviews.csv").run()
    app.text_input(key="set epochs").set_value("2")
    app.text_input(key="run name").set_value("it").run()
    assert "textune train reviews.csv method=lora epochs=2 name=it" in read(check(app), "code")
    app.button(key="start").click().run()
    (job,) = jobs.list_jobs("runs")
    try:
        assert job.words == ("train", "reviews.csv", "method=lora", "epochs=2", "name=it")
        assert "Stop" in [button.label for button in check(app).button]
        other = open_page("train")  # another tab, or the page loaded again
        assert "Stop" in [button.label for button in other.button]
        while "rows" not in jobs.read_tail(job.log):
            time.sleep(0.05)
        other.button(key="stop").click().run()
        assert jobs.read_job("it", "runs").stops == 1
        assert "Stop at once" in [button.label for button in other.button]
        assert "stop" not in [button.key for button in other.button], "the second click of two meets no button"
        app.button(key="stop").click().run()  # on a page drawn before that
        assert jobs.read_job("it", "runs").stops == 1 and not app.exception
    finally:
        jobs.send_signal(job.pid or 0, job.start, 9)


def test_the_command_of_a_training_says_that_its_upload_is_gone(work: Path) -> None:
    path = store_upload("mine.csv", b"text,label\na,b\n", "runs")
    job = jobs.Job("it", "runs", ("train", str(path)), stops=1, upload=str(path))
    job.folder.mkdir(parents=True)
    (job.folder / "job.json").write_text(json.dumps(asdict(job)))
    assert "Its table was an upload" not in read(open_page("train"), "caption")
    remove_upload(path, "runs")
    app = open_page("train")
    assert str(path) in read(app, "code") and "Its table was an upload" in read(app, "caption")


FAILURES = {
    "textune's own": (BundleError("runs/it: is being trained", hint="stop it"), "runs/it: is being trained"),
    "the system's": (PermissionError(13, "Permission denied", "runs/it"), "runs/it: permission denied"),
    "a bug": (ZeroDivisionError("division by zero"), "this is a bug in textune: ZeroDivisionError"),
}


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("button", ["forget", "resume", "start", "mark"])
def test_a_button_that_fails_says_so_on_the_page(
    button: str, kind: str, hostile: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, words = FAILURES[kind]

    def fail(*arguments: Any) -> Any:
        raise error

    places = {
        "forget": "watching.forget_job",
        "resume": "watching.resume_job",
        "start": "pages.train.start_job",
        "mark": "run_view.mark_row",
    }
    monkeypatch.setattr(f"textune.app.{places[button]}", fail)
    if button == "mark":
        shutil.copytree(hostile.folder, work / "runs" / "it")
        app = open_page("runs")
        app.multiselect[0].set_value(["runs/it"])
        app.session_state["part runs/it"] = "Labels"
        check(app.run())
    else:
        if button != "start":
            (work / "runs" / "it" / "checkpoints").mkdir(parents=True)
            for name in ("plan.json", "config.yaml"):
                shutil.copy(hostile.folder / name, work / "runs" / "it")
            job = jobs.Job("it", "runs", ("train",), stops=1)
            job.folder.mkdir(parents=True)
            (job.folder / "job.json").write_text(json.dumps(asdict(job)))
        app = open_page("train")
    next(one for one in app.button if str(one.key).startswith(button)).click().run()
    assert words in read(check(app), "error").replace("\\", "")
    assert words not in read(check(app.run()), "error").replace("\\", ""), "it is said once"


@pytest.mark.parametrize("place", ["runs", "train"])
def test_try_it_opens_that_very_run(place: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = list_run_folders()[-1]  # not the first, which the page chooses by itself
    monkeypatch.setattr("streamlit.switch_page", lambda page: None)
    app = AppTest.from_function(_draw, args=(place,), default_timeout=120)
    app.session_state["pages"] = {"try": "the page Try"}
    app.session_state["chosen runs"] = [str(chosen)]
    if place == "train":
        job = jobs.Job(chosen.name, "runs", ("train",))
        job.folder.mkdir(parents=True)
        (job.folder / "job.json").write_text(json.dumps(asdict(job)))
    app.run()
    next(button for button in check(app).button if button.label == "Try it").click().run()
    page = AppTest.from_function(_draw, args=("try_text",), default_timeout=60)
    for key in ("try runs", "try versions run"):
        page.session_state[key] = app.session_state[key]
    page.run()
    assert check(page).multiselect(key="try runs").value == [str(chosen)]
    page.segmented_control(key="try form").set_value("Two versions").run()
    assert check(page).selectbox(key="try versions run").value == str(chosen)


def test_every_page_is_drawn_by_the_app(runs: Path) -> None:
    app = AppTest.from_file(str(SCRIPT), default_timeout=60).run()
    check(app)
    for _, title, _, address in main.PAGES:
        assert title and address == address.lower()


def test_an_error_on_a_page_is_a_sentence(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(main, "PAGES", ((fail, "Try", ":material/edit_note:", "try"),))
    app = AppTest.from_file(str(SCRIPT), default_timeout=60).run()
    assert "this is a bug in textune: ZeroDivisionError" in read(check(app), "error").replace("\\", "")
