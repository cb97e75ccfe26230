"""What every test of the app needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Put the main module back: Streamlit leaves a page there, and processes that tests start later would run it."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before
