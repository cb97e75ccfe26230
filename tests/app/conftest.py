"""What every test of the app needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Put main module and environment back: Streamlit leaves a page there, which processes started later would run."""
    before, environment = sys.modules["__main__"], dict(os.environ)
    yield
    sys.modules["__main__"] = before
    os.environ.clear()
    os.environ.update(environment)
