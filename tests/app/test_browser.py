"""The app in a real browser, end to end: train, reload, kill the app, find the training, mark a label, compare."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from textune.app.jobs import FINISHED, find_state, list_jobs
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


class App:
    """`textune app` in a process of its own, in a folder."""

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
            cwd=self._folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
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
def folder(tmp_path_factory: pytest.TempPathFactory, backbone: Path, reviews: Path) -> Path:
    """A folder with two finished runs of the same rows, and a table whose texts and labels are hostile."""
    place = tmp_path_factory.mktemp("app")
    for method in ("lora", "head"):
        train_tiny(reviews, backbone, place / "runs" / method, method=method, epochs=1)
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


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(SECONDS)
    page = context.new_page()
    page.foreign = []
    page.on("request", lambda request: page.foreign.append(request.url) if "127.0.0.1" not in request.url else None)
    yield page
    assert [url for url in page.foreign if url.startswith("http")] == [], "the app asks nobody else"
    context.close()


def test_a_training_survives_reload_and_kill_of_the_app(app: App, folder: Path, backbone: Path, page: Any) -> None:
    page.goto(f"{app.url}/train")
    page.get_by_text("All other settings").click()
    values = {
        "sample": "60",
        "epochs": "3",
        "max_length": "32",
        "backbone": str(backbone),
        "Name of the run": "reviews",
    }
    for name, value in values.items():
        box = page.get_by_role("textbox", name=name, exact=True)
        box.fill(value)
        box.press("Enter")
    page.get_by_text(re.compile("epochs=3.*max_length=32.*sample=60.*backbone=.*name=reviews")).first.wait_for()
    page.get_by_role("button", name="Start training").click()
    page.get_by_role("button", name="Stop", exact=True).wait_for()
    (job,) = list_jobs(folder / "runs")
    page.reload()
    page.get_by_role("heading", name="reviews", exact=True).wait_for()
    app.kill()
    assert find_state(job).live, "the training goes on without the app"
    app.start()
    page.goto(f"{app.url}/train")
    page.get_by_role("heading", name="reviews", exact=True).wait_for()
    page.get_by_role("button", name="See it on the page Runs").wait_for(timeout=4 * SECONDS)
    assert find_state(job).kind == FINISHED
    page.get_by_role("button", name="See it on the page Runs").click()
    page.get_by_role("heading", name="Runs", exact=True).wait_for()
    report = page.frame_locator("iframe").frame_locator("iframe")
    report.get_by_text("Comparison with baselines").wait_for()


def test_a_label_is_marked_and_two_runs_are_compared(app: App, folder: Path, page: Any) -> None:
    page.goto(f"{app.url}/runs?run=head")
    page.get_by_role("radio", name="Labels").or_(page.get_by_text("Labels", exact=True)).first.click()
    page.get_by_role("button", name=re.compile("Wrong: it is")).first.click()
    page.get_by_text("1 label marked").wait_for()
    assert len(read_fixes(folder / "runs" / "head-review.csv").rows) == 1
    page.goto(f"{app.url}/runs?run=head&run=lora")
    page.get_by_text("textune compare runs/").first.wait_for()
    page.get_by_text("The whole comparison as a page").wait_for()
    assert page.locator("[data-testid=stVegaLiteChart]").count() >= 1


def test_hostile_texts_and_labels_do_nothing(app: App, folder: Path, page: Any) -> None:
    page.goto(f"{app.url}/train")
    if page.get_by_text("Train another").count() or list_jobs(folder / "runs"):
        page.get_by_text("Train another").click()
    page.get_by_text("A file on this machine").click()
    page.get_by_role("textbox", name="Path").fill("hostile.csv")
    page.get_by_role("textbox", name="Path").press("Enter")
    page.get_by_text("textune train hostile.csv").first.wait_for()
    page.get_by_role("button", name="Check the data").click()
    page.get_by_text("Checks", exact=True).wait_for()
    page.get_by_text("<script>window.hit=1</script>").first.wait_for()
    assert page.evaluate("window.hit") is None
    assert page.locator("a[href^='http://x']").count() == 0 and page.locator("strong", has_text="bold").count() == 0


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_the_theme_is_the_systems(
    width: int, scheme: str, app: App, browser: Any
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    for address in ("train", "runs"):
        page.goto(f"{app.url}/{address}", timeout=SECONDS)
        page.locator("h1").first.wait_for(timeout=SECONDS)
        time.sleep(0.5)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        color = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        light = sum(map(int, re.findall(r"\d+", color)[:3])) > 3 * 128
        assert light is (scheme == "light"), color
    context.close()


def test_the_form_can_be_filled_by_keyboard(app: App, folder: Path, page: Any) -> None:
    page.goto(f"{app.url}/runs")
    box = page.get_by_role("combobox").first
    box.wait_for()
    box.focus()
    box.press_sequentially("lora")
    box.press("Enter")
    page.get_by_role("heading", name="lora", exact=True).wait_for()
