"""Classification without tuning: the same answers as by hand, at every door, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from textune.engine.label_likelihood import LabelScorer
from textune.engine.precision import Precision
from textune.errors import ConfigError, DataError, ModelError
from textune.inference.zero_shot import ZeroShot
from textune.tokens.choices import DEFAULT_TEMPLATE
from tiny import build_causal, call_here

LABELS = ("good", "bad film", "so so")
TEXTS = ["a lovely story", "the scene was dull"]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_causal(tmp_path_factory.mktemp("causal") / "tiny-causal")


@pytest.fixture(scope="module")
def zero_shot(causal: Path) -> ZeroShot:
    return ZeroShot.open(str(causal), LABELS, template="{text}:", precision="fp32", device="cpu")


def score_by_hand(folder: Path, text: str, label: str) -> float:
    """Return the mean log-likelihood of a label's tokens, with transformers alone."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    prompt = tokenizer(f"{text}:").input_ids[:-1]  # without the end of the text
    whole = tokenizer(f"{text}: {label}").input_ids[:-1]
    assert whole[: len(prompt)] == prompt
    with torch.no_grad():
        shares = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return float(np.mean([shares[i - 1, whole[i]].item() for i in range(len(prompt), len(whole))]))


def test_scores_are_length_normalised_likelihoods(causal: Path, zero_shot: ZeroShot) -> None:
    expected = np.array([[score_by_hand(causal, text, label) for label in LABELS] for text in TEXTS])
    assert np.abs(zero_shot.predict_logits(TEXTS) - expected).max() < 1e-5
    shares = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    assert np.abs(zero_shot.predict_proba(TEXTS) - shares).max() < 1e-5
    assert zero_shot.predict(TEXTS) == [LABELS[i] for i in expected.argmax(1)]
    assert zero_shot.predict(TEXTS[0]) == zero_shot.predict(TEXTS)[0]
    assert "zero-shot" in repr(zero_shot) and zero_shot.labels == LABELS


KINDS = {
    "one token": ("a", "b", "c"),
    "one and many tokens": ("x", "a label of many tokens"),
    "one begins like another": ("good", "good film", "good film indeed"),
    "they end alike": ("spam", "no spam", "not spam"),
    "they differ in one token": ("cost", "cast", "cut"),
    "they hold the same tokens": ("ab", "ba", "abba"),
}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma"])
def test_labels_of_every_kind_are_scored_as_by_a_plain_loop(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build_causal(tmp_path / family, family)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: tokenizer)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda _: model)
    expected = {kind: [score_by_hand(folder, "a text", label) for label in labels] for kind, labels in KINDS.items()}
    monkeypatch.undo()
    for kind, labels in KINDS.items():
        opened = ZeroShot.open(str(folder), labels, template="{text}:", precision="fp32", device="cpu")
        assert np.abs(opened.predict_logits(["a text"])[0] - expected[kind]).max() < 1e-5, kind
        shown = opened.classify(["a text"])[0]
        assert shown.label == labels[int(np.argmax(expected[kind]))] and set(shown.probabilities) == set(labels)
        assert sum(shown.probabilities.values()) == pytest.approx(1), kind


def test_a_longer_label_is_not_less_likely_for_its_length(causal: Path) -> None:
    """A model that finds every token equally likely finds every label equally likely; the first is then given."""
    model = transformers.AutoModelForCausalLM.from_pretrained(str(causal)).eval()
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    scorer = LabelScorer(model, [[7], [9, 11, 12], [7, 30]], Precision("fp32", "as set"))
    scores = scorer.score([[5, 6], [8, 9, 10, 11]])
    assert scores == pytest.approx(-np.log(200)) and np.ptp(scores) < 1e-6


def test_a_tie_goes_to_the_label_that_was_named_first(zero_shot: ZeroShot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabelScorer, "score", lambda _, prompts: np.full((len(prompts), len(LABELS)), -1.5))
    assert zero_shot.predict(TEXTS) == [LABELS[0]] * 2
    assert zero_shot.predict_proba(TEXTS) == pytest.approx(1 / len(LABELS))


def test_labels_of_the_same_tokens_are_refused(causal: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(causal, tmp_path / "uncased")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8")) | {"normalizer": {"type": "Lowercase"}}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match="the labels 'Spam' and 'spam' are the same tokens to this model"):
        ZeroShot.open(str(folder), ("Spam", "ham", "spam"), template="{text}:")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("red,blue", "must be a list of strings"),
        ([1, 2], "must be a list of strings"),
        ([], "at least two labels are needed"),
        (["red"], "at least two labels are needed"),
        (["red", " "], "none of them empty"),
        (["red", "red "], "'red' is there twice"),
    ],
)
def test_labels_that_are_no_choice_are_refused(labels: Any, message: str, causal: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ZeroShot.open(str(causal), labels)


def test_a_text_answers_alike_alone_and_among_others(zero_shot: ZeroShot) -> None:
    many = [*TEXTS, "x", "the film " * 9]
    together = zero_shot.predict_proba(many)
    alone = np.stack([zero_shot.predict_proba([text])[0] for text in many])
    assert np.abs(together - alone).max() < 1e-6
    with pytest.raises(DataError):
        zero_shot.predict([" "])
    with pytest.raises(DataError, match="text 2: contains a lone surrogate"):
        zero_shot.predict(["a", "a\ud800"])


def test_long_texts_are_cut_to_the_positions_of_the_model(causal: Path, zero_shot: ZeroShot) -> None:
    assert zero_shot.manifest.max_length == 64
    prompt = zero_shot.encode_prompts(["the film " * 40])[0]
    assert len(prompt) + 1 + len("bad film") <= 64 and prompt[-1] == zero_shot.encode_prompts(["x"])[0][-1]


def test_models_that_cannot_are_refused(backbones: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="encoders"):
        ZeroShot.open(str(backbones["bert"]), LABELS)
    with pytest.raises(ModelError, match="no output layer"):
        ZeroShot.open(str(backbones["llama"]), LABELS)


def test_the_command_classifies_texts(causal: Path, zero_shot: ZeroShot, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--zero-shot", "good, bad film, so so", "--template", "{text}:", "precision=fp32", "--json")
    code, out, err = call_here(capsys, "predict", str(causal), *TEXTS, *words)
    assert code == 0, err
    found = json.loads(out)["predictions"]
    assert [p["label"] for p in found] == zero_shot.predict(TEXTS)
    assert found[0]["probabilities"] == pytest.approx(zero_shot.classify(TEXTS)[0].probabilities)


def test_the_command_classifies_a_file(
    causal: Path, zero_shot: ZeroShot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "texts.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("review", "number"), *((text, i) for i, text in enumerate(TEXTS))])
    words = ("--zero-shot", ",".join(LABELS), "--template", "{text}:", "precision=fp32")
    code, _, err = call_here(capsys, "predict", str(causal), str(tmp_path / "texts.csv"), *words)
    assert code == 3 and "no column 'text'" in err and "text=review" in err
    code, _, err = call_here(capsys, "predict", str(causal), str(tmp_path / "texts.csv"), "text=review", *words)
    assert code == 0, err
    with (tmp_path / "texts.predicted.csv").open(newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == zero_shot.predict(TEXTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--zero-shot", "good"), "at least two labels"),
        (("--zero-shot", "good,good"), "there twice"),
        (("--zero-shot", "good,bad", "--template", "{text}"), "words after"),
        (("--zero-shot", "good,bad", "backbone=minilm"), "RUN names the model"),
        (("--zero-shot", "good,bad", "max_length=8"), "max_length="),
        (("--zero-shot", "good,bad", "epochs=3"), "not a setting of predict"),
        (("--template", "{text}:"), "only applies with --zero-shot"),
    ],
)
def test_what_makes_no_sense_is_refused(
    causal: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    code, out, err = call_here(capsys, "predict", str(causal), "a text", *words)
    assert code == ConfigError.exit_code and message in err and not out


def test_the_default_template_asks_for_a_label() -> None:
    assert DEFAULT_TEMPLATE.format(text="x", labels="a, b").endswith("Label:")


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"precision": "fp8"}, "fp8"), ({"device": "tpu"}, "tpu"), ({"max_length": 0}, "at least 1")],
)
def test_odd_settings_are_refused_in_python(causal: Path, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ZeroShot.open(str(causal), ("good", "bad"), **setting)
