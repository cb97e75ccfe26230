"""The app as a whole: its pages in their order, the password, and errors as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from textune.app import main
from textune.app.launch import SCRIPT
from textune.app.options import AppOptions, set_options

MAIN = str(SCRIPT)


@pytest.fixture(autouse=True)
def _options() -> Iterator[None]:
    set_options(AppOptions())
    yield
    set_options(AppOptions())


def test_pages_come_in_their_order(work: Path) -> None:
    assert [title for _, title, _, _ in main.PAGES] == ["Try", "Batch", "Train", "Runs", "Learn"]
    app = AppTest.from_file(MAIN, default_timeout=30).run()
    assert not app.exception and app.title[0].value == "Try"


def test_nothing_is_drawn_before_the_password(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.app.session._WRONG_SECONDS", 0.0)
    set_options(AppOptions(password="sesame"))
    app = AppTest.from_file(MAIN, default_timeout=30).run()
    assert [title.value for title in app.title] == ["textune"] and len(app.text_input) == 1
    app.text_input[0].set_value("sesam")
    app.button[0].click().run()
    assert [title.value for title in app.title] == ["textune"] and app.error[0].value == "The password is wrong."
    app.text_input[0].set_value("sesame")
    app.button[0].click().run()
    assert not app.exception and app.title[0].value == "Try"
