"""The app in a real browser: from a training to a comparison, and what any visitor does."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest

import textune
from textune.app.jobs import FINISHED, find_state, list_jobs
from textune.app.options import PASSWORD, UPLOAD_MEGABYTES
from textune.data.fixes import read_fixes
from tiny import train_tiny, write_reviews

pytest.importorskip("streamlit")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
SECONDS = 60_000
"""How long a step may take on a busy machine, in milliseconds."""
SECRET = "open sesame & co"
SAMPLE = "60"
TEXTS = ["a warm and funny film", "a dull, slow story", "=1+1 is the best line of this film"]


class App:
    """`textune app` in a process of its own, in a folder, behind a password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "textune", "app", "--port", str(self.port)],
            cwd=self._folder, env=os.environ | {"OMP_NUM_THREADS": "1", PASSWORD: SECRET}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == self.url
        return self.process

    def kill(self) -> None:
        """Kill it as `kill -9` does, with its threads and whatever else is in its session."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """A folder with a finished run of embedded reviews, and a table whose texts and labels are hostile."""
    place = tmp_path_factory.mktemp("app")
    train_tiny("embedded:rotten_tomatoes", backbone, place / "runs" / "head", method="head", epochs=1, sample=SAMPLE)
    hostile = write_reviews(place / "hostile.csv", rows=40).read_text()
    hostile = hostile.replace("positive", '"<script>window.hit=1</script>"').replace(
        "negative", "**bold** [x](http://x)"
    )
    hostile = hostile.replace(" the ", " <img src=x onerror=window.hit=1> ")
    (place / "hostile.csv").write_text(hostile)
    return place


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[App]:
    app = App(folder)
    yield app
    if app.process.poll() is None:
        app.kill()
    for job in list_jobs(folder / "runs"):
        if find_state(job).live and job.pid is not None:
            os.kill(job.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


Visit = Callable[..., Any]


@pytest.fixture
def visit(app: App, browser: Any) -> Iterator[Visit]:
    """Return what opens a page as a new visitor does, who has no cookies and knows the password."""
    contexts, foreign = [], []

    def note(request: Any) -> None:
        if request.url.startswith("http") and "127.0.0.1" not in request.url:
            foreign.append(request.url)

    def open_page(address: str, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}} | options)
        contexts.append(context)
        context.set_default_timeout(SECONDS)
        page = context.new_page()
        page.on("request", note)
        page.goto(f"{app.url}/{address}")
        page.get_by_label("Password", exact=True).fill(SECRET)
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name=re.compile("^(?!textune)")).wait_for()
        page.wait_for_function("document.cookie.includes('textune_')")  # a slow browser sets it after the heading
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not foreign, "the app asks nobody else"


def go_to(page: Any, name: str) -> None:
    """Choose a page in the navigation."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, exact=True).wait_for()


# ---- one way through the app --------------------------------------------------------------------------------------


def start_training(page: Any, folder: Path, backbone: Path) -> Any:
    """Train on the embedded reviews by the form, and hold the training after some steps."""
    page.get_by_text("All other settings").click()
    values = {"sample": SAMPLE, "epochs": "15", "max_length": "32", "backbone": str(backbone)}
    for name, value in (values | {"Name of the run": "reviews"}).items():
        box = page.get_by_role("textbox", name=name, exact=True)
        box.fill(value)
        box.press("Enter")
    page.get_by_text(re.compile("epochs=15.*max_length=32.*sample=60.*backbone=.*name=reviews")).first.wait_for()
    page.get_by_role("button", name="Start training").click()
    page.get_by_role("button", name="Stop", exact=True).wait_for()
    (job,) = list_jobs(folder / "runs")
    log, until = job.run / "metrics.jsonl", time.monotonic() + SECONDS / 1000
    while not (log.is_file() and '"step"' in log.read_text()):
        assert find_state(job).live and time.monotonic() < until, job.log.read_text()
        time.sleep(0.01)
    os.kill(job.pid or 0, signal.SIGSTOP)
    assert find_state(job).live and "metrics" not in json.loads((job.run / "plan.json").read_text())
    return job


def type_a_text(page: Any, predictor: Any) -> None:
    """Have a typed text answered, and its words highlighted."""
    go_to(page, "Try")
    box = page.get_by_role("textbox", name="Text", exact=True)
    box.fill(TEXTS[0])
    box.press("Control+Enter")
    (answer,) = predictor.predict(TEXTS[:1])
    page.get_by_role("heading", name=answer, exact=True).wait_for()
    share = f"{predictor.predict_proba(TEXTS[:1]).max():.1%}"
    page.get_by_test_id("stHtml").get_by_text(share, exact=True).wait_for()
    page.get_by_text("Highlight words").click()
    page.locator("[data-testid=stHtml] span[title]", has_text="warm").first.wait_for()


def upload_and_download(page: Any, predictor: Any) -> None:
    """Classify a spreadsheet, see its rows, and read what comes back."""
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in (["text", "stars"], *zip(TEXTS, [5, 1, None], strict=True)):
        book.active.append(row)
    book.active["A4"].data_type = "s"  # a text, not a formula
    book.save(stream)
    go_to(page, "Batch")
    file = {"name": "new reviews.xlsx", "mimeType": "application/octet-stream", "buffer": stream.getvalue()}
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Classify 3 rows").click()
    page.get_by_text("3 of 3 rows").wait_for()
    answers = predictor.predict(TEXTS)
    table = page.get_by_test_id("stDataFrame").last
    cells = table.locator("canvas [role=gridcell]")  # which is drawn, and written for screen readers
    cells.get_by_text(TEXTS[2], exact=True).wait_for(state="attached")
    cells.get_by_text(answers[2], exact=True).first.wait_for(state="attached")
    assert page.get_by_label("Download as CSV").count() == 0, "a table's own button would export formulas"
    with page.expect_download() as started:
        page.get_by_role("button", name="Download Excel").click()
    assert started.value.suggested_filename == "new reviews.predicted.xlsx"
    header, *rows = openpyxl.load_workbook(io.BytesIO(started.value.path().read_bytes())).active.iter_rows()
    assert [cell.value for cell in header] == ["text", "stars", "label", "probability"]
    assert [row[0].value for row in rows] == TEXTS and {row[0].data_type for row in rows} == {"s"}
    assert [row[1].value for row in rows] == [5, 1, None] and [row[2].value for row in rows] == answers
    assert [row[3].value for row in rows] == pytest.approx(predictor.predict_proba(TEXTS).max(1), abs=1e-6)


def mark_and_compare(page: Any, folder: Path) -> None:
    """Mark a wrong label of the run, and compare it with the other run."""
    go_to(page, "Runs")
    choose_run(page, "reviews")
    page.get_by_role("radio", name="Labels").or_(page.get_by_text("Labels", exact=True)).first.click()
    page.get_by_role("button", name=re.compile("Wrong: it is")).first.click()
    page.get_by_text("1 label marked").wait_for()
    assert len(read_fixes(folder / "runs" / "reviews-review.csv").rows) == 1
    choose_run(page, "head")
    page.get_by_text("textune compare runs/").first.wait_for()
    page.get_by_text("The whole comparison as a page").wait_for()
    assert page.locator("[data-testid=stVegaLiteChart]").count() >= 1


def choose_run(page: Any, name: str) -> None:
    """Choose a run by keyboard alone."""
    box = page.get_by_role("combobox").first
    box.wait_for()
    box.focus()
    box.press_sequentially(name, delay=50)
    box.press("ArrowDown")
    box.press("Enter")
    box.press("Escape")  # while the list is open, the rest of the page is hidden from those who hear it


def test_from_a_training_to_a_comparison(app: App, folder: Path, backbone: Path, visit: Visit) -> None:
    page = visit("train")
    job = start_training(page, folder, backbone)
    page.reload()  # the password is not asked again
    page.get_by_role("heading", name="reviews", exact=True).wait_for()
    assert SECRET not in page.url and SECRET not in json.dumps(page.context.storage_state())
    page.context.close()
    app.kill()
    assert find_state(job).live, "the training goes on without the app and without a browser"
    app.start()
    page = visit("train")
    page.get_by_text(re.compile(r"step \d+, epoch")).wait_for()
    os.kill(job.pid, signal.SIGCONT)
    page.get_by_role("button", name="See it on the page Runs").wait_for(timeout=4 * SECONDS)
    assert find_state(job).kind == FINISHED
    predictor = textune.load(job.run, backbone=str(backbone))
    type_a_text(page, predictor)
    upload_and_download(page, predictor)
    mark_and_compare(page, folder)
    page.goto(f"{app.url}/runs?run=reviews")
    report = page.frame_locator("iframe").frame_locator("iframe")
    report.get_by_text("Comparison with baselines").wait_for()
    page.goto(f"{app.url}/runs?run=head")
    page.get_by_role("button", name="Try it").click()
    page.get_by_test_id("stMultiSelect").get_by_text("head", exact=True).wait_for()  # not the newest


# ---- what any visitor may do --------------------------------------------------------------------------------------


def test_uploads_that_are_refused_get_a_sentence(visit: Visit, tmp_path: Path) -> None:
    """What the browser itself does with a file; all other kinds are in `test_bad_uploads`."""
    page = visit("batch")
    with (tmp_path / "large.csv").open("wb") as stream:
        stream.truncate(2 * UPLOAD_MEGABYTES * 2**20)
    page.locator("input[type=file]").set_input_files(tmp_path / "large.csv")
    page.get_by_text(re.compile(rf"{UPLOAD_MEGABYTES}(\.0)? ?MB or smaller")).wait_for()
    page.locator("input[type=file]").set_input_files(
        {"name": "<img src=x onerror=window.hit=1>.csv", "mimeType": "text/csv", "buffer": bytes(range(256)) * 4}
    )
    page.get_by_test_id("stAlert").get_by_text("onerror=window.hit=1").wait_for()
    assert page.evaluate("window.hit") is None
    assert "Traceback" not in page.locator("body").inner_text()


def test_hostile_texts_and_labels_do_nothing(folder: Path, visit: Visit) -> None:
    page = visit("train")
    if page.get_by_text("Train another").count() or list_jobs(folder / "runs"):
        page.get_by_text("Train another").click()
    page.get_by_text("A file on this machine").click()
    page.get_by_role("textbox", name="Path").fill("hostile.csv")
    page.get_by_role("textbox", name="Path").press("Enter")
    page.get_by_text("textune train hostile.csv").first.wait_for()
    page.get_by_role("button", name="Check the data").click()
    page.get_by_text("Checks", exact=True).wait_for()
    page.locator("code", has_text="<script>window.hit=1</script>").first.wait_for()
    assert page.evaluate("window.hit") is None
    assert page.locator("a[href^='http://x']").count() == 0 and page.locator("strong", has_text="bold").count() == 0


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_the_theme_is_the_systems(
    width: int, scheme: str, app: App, visit: Visit
) -> None:
    page = visit("train", viewport={"width": width, "height": 900}, color_scheme=scheme)
    for title in ("Train", "Runs"):
        if title != "Train":
            page.goto(f"{app.url}/{title.lower()}")
            page.get_by_role("heading", name=title, exact=True).wait_for()
        time.sleep(0.5)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        color = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        light = sum(map(int, re.findall(r"\d+", color)[:3])) > 3 * 128
        assert light is (scheme == "light"), color
