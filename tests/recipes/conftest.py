"""The recipes' command, and the tiny models and tables of the core's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "core")]


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> folder of a tiny random model, of every architecture that a recipe names."""
    from tiny import build_backbone

    place = tmp_path_factory.mktemp("backbones")
    return {family: build_backbone(family, place / f"tiny-{family}") for family in ("bert", "distilbert", "llama")}


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 40 easy reviews: text, label (negative, positive), number."""
    from tiny import write_reviews

    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", rows=40)
