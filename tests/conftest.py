"""What every test relies on: no network, a cache of its own, and tiny backbones built from configurations."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: later it has no effect
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Tiny models gain nothing from threads, and processes side by side would wait for each other's barriers.
os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("textune", deadline=None)  # a busy machine is slow now and then
settings.load_profile("textune")


@pytest.fixture(scope="session", autouse=True)
def textune_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps the tests out of the person's own cache."""
    place = tmp_path_factory.mktemp("cache")
    os.environ["TEXTUNE_CACHE"] = str(place)
    return place


@pytest.fixture(autouse=True)
def _unlinked_environment(monkeypatch: pytest.MonkeyPatch, textune_cache: Path) -> None:
    """Undoes what a test did to the variables that textune reads."""
    monkeypatch.setenv("TEXTUNE_CACHE", str(textune_cache))
    monkeypatch.delenv("HF_TOKEN", raising=False)
