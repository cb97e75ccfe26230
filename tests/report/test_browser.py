"""Reports in a real browser: tables sort by mouse and keyboard, nothing overflows, and all opens in under a second."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports import HOSTILE, hostile_report, make_comparison, make_report
from textune.report import render_report
from textune.report.comparison_page import render_comparison

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
MANY = tuple(f"class {i}" for i in range(1000))
PAGES = {
    "few": lambda: render_report(make_report()),
    "30 classes": lambda: render_report(make_report(labels=MANY[:30])),
    "many": lambda: render_report(make_report(labels=MANY)),
    "hostile": lambda: render_report(hostile_report()),
    "comparison": lambda: render_comparison(make_comparison(), "0.2.0"),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pages")
    for name, build in PAGES.items():
        (place / f"{name}.html").write_text(build(), encoding="utf-8")
    return place


def open_page(browser: Any, path: Path, **options: Any) -> Any:
    """Open a page; whatever the browser complains of fails the test."""
    page = browser.new_page(**options)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append("a dialog opened"))
    page.goto(path.as_uri())
    assert not complaints
    return page


def read_column(page: Any, table: str, column: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr > :nth-child({column})").all()
    return [cell.evaluate("cell => cell.childNodes[0].textContent") for cell in cells]


def test_tables_sort_by_click_and_by_key(browser: Any, folder: Path) -> None:
    page = open_page(browser, folder / "30 classes.html")
    table, scores = "h2#classes + div table", []
    header = page.locator(f"{table} thead th:nth-child(4)")
    assert header.get_attribute("aria-sort") == "none"

    def read() -> list[float]:
        return [float(cell.rstrip("%")) for cell in read_column(page, table, 4)]

    scores = read()
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending" and read() == sorted(scores, reverse=True)
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending" and read() == sorted(scores)
    page.keyboard.press("Space")
    assert header.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # the first column, of names
    names = read_column(page, table, 1)
    assert names == sorted(names, key=str.lower)
    assert header.get_attribute("aria-sort") == "none"
    assert page.locator(f"{table} thead [aria-sort=ascending]").count() == 1
    assert page.locator(f"{table} thead button").all_inner_texts()[:2] == ["class", "F1"]


def test_cells_without_a_value_come_last_and_rounded_ends_in_order(browser: Any, tmp_path: Path) -> None:
    cells = ("0.5%", "–", "&lt;0.1%", "100%", "&gt;99.9%", "0%", "1,234%", "−3.0%", "+2.0%")
    rows = "".join(f'<tr><th scope="row">r</th><td class="n">{c}</td></tr>' for c in cells)
    made = render_report(make_report()).replace(
        "<h2 id=", f'<table id="t"><thead><tr><th>a</th><th>b</th></tr></thead><tbody>{rows}</tbody></table><h2 id=', 1
    )
    (tmp_path / "page.html").write_text(made, encoding="utf-8")
    page = open_page(browser, tmp_path / "page.html")
    page.locator("#t thead button").last.click()
    down = ["1,234%", "100%", ">99.9%", "+2.0%", "0.5%", "<0.1%", "0%", "−3.0%"]
    assert read_column(page, "#t", 2) == [*down, "–"]
    page.locator("#t thead button").last.click()
    assert read_column(page, "#t", 2) == [*down[::-1], "–"]


def test_times_sort_by_their_seconds(browser: Any, folder: Path) -> None:
    page = open_page(browser, folder / "few.html")
    page.locator("h2#comparison + div table thead th:last-child button").click()
    assert read_column(page, "h2#comparison + div table", 7) == ["2 min 05 s", "3.0 s", "0.4 s", "–"]


def test_without_the_script_the_page_reads_the_same(browser: Any, folder: Path) -> None:
    for name in PAGES:
        with_script = open_page(browser, folder / f"{name}.html")
        without = open_page(browser, folder / f"{name}.html", java_script_enabled=False)
        assert without.locator("main").inner_text() == with_script.locator("main").inner_text()
        assert without.locator("th button").count() == 0


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_is_wider_than_its_window(browser: Any, folder: Path, width: int, theme: str) -> None:
    for name in PAGES:
        page = open_page(browser, folder / f"{name}.html", viewport={"width": width, "height": 800}, color_scheme=theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_hostile_text_runs_nothing_and_is_shown(browser: Any, folder: Path) -> None:
    page = open_page(browser, folder / "hostile.html")
    assert "<script>alert('x')</script>" in HOSTILE
    assert "<script>alert('x')</script>" in page.locator("main").inner_text()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None, "the page's policy lets no other script run"


def test_a_page_of_a_thousand_classes_opens_in_under_a_second(browser: Any, folder: Path) -> None:
    page = open_page(browser, folder / "many.html")
    timing = "performance.getEntriesByType('navigation')[0]"
    assert page.evaluate(f"{timing}.loadEventEnd - {timing}.startTime") < 1000


def test_the_keyboard_reaches_the_results_first(browser: Any, folder: Path) -> None:
    page = open_page(browser, folder / "few.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
