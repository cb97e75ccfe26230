"""A search over a model that writes: compared by the validation loss, and its winner answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import textune
from sweeps import sweep_tiny
from textune.errors import ConfigError
from textune.search.settings import read_sweep
from textune.search.sweep import Sweep, resume_sweep
from tiny import WORDS, build_causal, make_prompts, write_prompts

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
        ({"method": ["lora", "prompt"]}, {}, "method prompt does not support task=generation"),
        ({"completion": ["prompt", "completion"]}, {}, "completion cannot be searched: it changes the rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    space: Any, own: Any, told: str, llama: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        sweep_tiny(data, llama, tmp_path / "sweep", space, **WRITING, **own)
    assert not (tmp_path / "sweep").exists()


# ---- several tokenizers ---------------------------------------------------------------------------------------------


def merge_words(folder: Path) -> Path:
    """Give the tokenizer of a tiny model one token for each of the words that are answered."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    ids, merges = content["model"]["vocab"], []
    free = sorted((token for token, i in ids.items() if i > 5 and not token.isascii()), key=ids.__getitem__)[:-1]
    for word in WORDS:
        for end in range(2, len(word) + 1):
            ids[word[:end]] = ids.pop(free.pop(0))
            merges.append([word[: end - 1], word[end - 1]])
    content["model"]["merges"] = merges
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def measure_by_hand(folder: Path, rows: list[dict[str, str]]) -> tuple[float, float]:
    """Return loss per token and bits per byte of the answers, with transformers alone."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    nats, tokens, size = 0.0, 0, 0
    for row in rows:
        prompt = tokenizer(f"{row['prompt']}\n").input_ids[:-1]
        answer = [*tokenizer(row["completion"], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        with torch.no_grad():
            shares = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        nats -= sum(float(shares[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))
        tokens, size = tokens + len(answer), size + len(row["completion"].encode())
    return nats / tokens, nats / size / math.log(2)


@pytest.fixture(scope="module")
def two(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"bytes": llama, "words": merge_words(build_causal(tmp_path_factory.mktemp("two") / "words", seed=3))}


def test_backbones_with_other_tokenizers_are_compared_by_bits_per_byte(
    two: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    rows = make_prompts(60)[44:]
    (tmp_path / "validation.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    space = {"backbone": [str(folder) for folder in two.values()], "learning_rate": [1e-6]}
    settings = WRITING | {"validation": str(tmp_path / "validation.jsonl"), "validation_fraction": None}
    found = sweep_tiny(data, two["bytes"], tmp_path / "sweep", space, method="full", **settings)
    for trial, folder in zip(found.content["trials"], two.values(), strict=True):
        loss, bits = measure_by_hand(folder, rows)
        assert trial["scores"]["loss"] == pytest.approx(loss, rel=1e-3), "it hardly moved"
        assert trial["scores"]["bits_per_byte"] == pytest.approx(bits, rel=1e-3)
    first, second = (trial["scores"] for trial in found.content["trials"])
    assert first["loss"] < second["loss"] and first["bits_per_byte"] > second["bits_per_byte"], "the test can tell"
    assert found.content["winner"]["settings"]["backbone"] == str(two["words"])
    assert found.content["selection"]["metric"] == "bits_per_byte" == found.content["regret"]["metric"]
    assert f"best bits per byte ({second['bits_per_byte']:.4f})" in found.report.read_text(encoding="utf-8")
    assert read_sweep(found.folder)[1].space.dimensions, "what is stored can be read, so that the search can resume"
    assert resume_sweep(found.folder).content == found.content


@pytest.mark.parametrize("setting", ["backbone", "max_length"])
def test_losses_over_other_tokens_are_not_compared(
    setting: str, two: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    values = {"backbone": [str(folder) for folder in two.values()], "max_length": [20, 40]}[setting]
    with pytest.raises(ConfigError, match=f"several {setting} values have losses over other tokens") as caught:
        sweep_tiny(data, two["bytes"], tmp_path / "sweep", {setting: values}, **WRITING, sweep_metric="loss")
    assert "bits per byte" in (caught.value.hint or "") and not (tmp_path / "sweep").exists()


def test_a_trial_that_cuts_answers_says_so(llama: Path, data: Path, tmp_path: Path) -> None:
    found = sweep_tiny(data, llama, tmp_path / "sweep", {"max_length": [5, 40]}, **WRITING)
    short, long = found.content["trials"]
    assert any("validation answers are cut to max_length=5" in warning for warning in short["warnings"])
    assert not long["warnings"] and found.content["selection"]["metric"] == "bits_per_byte"
