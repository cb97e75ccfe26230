"""Tiny backbones, tables and finished runs that the tests of the core share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import FAMILIES, build_backbone, train_tiny, write_reviews

from textune.run import Run


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices are slower on many threads, the more so on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> folder of a tiny random model with its tokenizer."""
    place = tmp_path_factory.mktemp("backbones")
    return {family: build_backbone(family, place / f"tiny-{family}") for family in FAMILIES}


@pytest.fixture(scope="session")
def backbone(backbones: dict[str, Path]) -> Path:
    """The smallest of them, where the family does not matter."""
    return backbones["distilbert"]


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 60 easy reviews: text, label (negative, positive), stars."""
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", rows=60)


@pytest.fixture(scope="session")
def few_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many as the shortest run needs that can be interrupted."""
    return write_reviews(tmp_path_factory.mktemp("few") / "reviews.csv", rows=20)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, backbone: Path, reviews: Path) -> Run:
    """One finished LoRA run. Tests that change a run copy it first."""
    return train_tiny(reviews, backbone, tmp_path_factory.mktemp("finished") / "reviews", epochs=4)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
