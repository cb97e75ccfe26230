"""A search over a model that writes: compared by the validation loss, and its winner answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import textune
from sweeps import sweep_tiny
from textune.errors import ConfigError
from textune.search.sweep import Sweep
from tiny import build_causal, write_prompts

WRITING: dict[str, Any] = {"task": "generation", "answer_rows": 2, "contrast_steps": None, "epochs": 1}
RATES = {"learning_rate": [1e-5, 1e-2]}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_causal(tmp_path_factory.mktemp("sweep") / "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("rows") / "prompts.jsonl")


@pytest.fixture(scope="module")
def found(llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep_tiny(data, llama, tmp_path_factory.mktemp("found") / "sweep", RATES, **WRITING)


def test_the_lowest_loss_wins_and_answers(found: Sweep) -> None:
    losses = [trial["scores"]["loss"] for trial in found.content["trials"]]
    winner = found.content["winner"]
    assert losses[1] < losses[0] and winner["settings"] == {"learning_rate": 1e-2}
    assert winner["scores"]["perplexity"] > 1 and winner["headline"]["name"] == "ROUGE-L"
    assert winner["loss"] == found.winner.metrics["models"]["tuned"]["loss"]
    page = found.report.read_text(encoding="utf-8")
    assert "best loss" in page and "most frequent" in page
    assert isinstance(textune.load(found.winner).predict("red 1"), str)


@pytest.mark.parametrize(
    ("space", "own", "told"),
    [
        (RATES, {"sweep_metric": "accuracy"}, "sweep.metric=accuracy: written answers have no such score"),
        ({"temperature": [0.5, 1.0]}, {}, "temperature cannot be searched: it changes how answers are written"),
        ({"packing": [True, False]}, {}, "packing cannot be searched: it changes where or how to compute"),
        ({"completion": ["prompt", "completion"]}, {}, "completion cannot be searched: it changes the rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    space: Any, own: Any, told: str, llama: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        sweep_tiny(data, llama, tmp_path / "sweep", space, **WRITING, **own)
    assert not (tmp_path / "sweep").exists()
