"""The app as a whole: its pages in their order, and errors as sentences."""

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
