"""Class names as texts: when they count, how they are joined to the rows, and that no figure is measured on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.backbones import load_classifier, resolve_backbone
from textune.backbones.pooling import MEAN, Pooling
from textune.config import LongText, build_config
from textune.config.defaults import NAMES_UP_TO, choose_training
from textune.engine import Precision, open_engine
from textune.errors import ConfigError
from textune.progress import Silent
from textune.run.out_of_fold import predict_out_of_fold
from textune.run.prepare import prepare
from textune.tasks.multi_label import MultiLabel
from textune.tasks.single_label import SoftmaxLoss
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import EncodedSplit
from textune.training.head import Network, start_head
from textune.training.names import add_names, encode_names, tell_apart
from textune.training.probe import Probe, solve_probe
from tiny import GOOD, as_words, call_textune, make_rows, settings_for

Array = np.ndarray[Any, Any]


# --- whether names tell rows apart


@given(st.integers(2, 20), st.integers(1, 5), st.integers(0, 999))
@settings(max_examples=60)
def test_names_among_their_rows_tell_them_apart_and_swapped_names_do_not(classes: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    centres = 10 * np.linalg.qr(random.normal(size=(40, 40)))[0][:classes]
    targets = random.permutation(np.repeat(np.arange(classes), rows))
    features = centres[targets] + 0.1 * random.normal(size=(len(targets), 40)) + 7
    names = 0.3 * centres + 0.01 * random.normal(size=centres.shape) - 4  # short texts lie elsewhere
    assert tell_apart(names, features, targets)
    assert not tell_apart(np.roll(names, 1, 0), features, targets)


def test_names_that_are_all_alike_tell_nothing() -> None:
    features, targets = np.random.default_rng(0).normal(size=(20, 8)), np.arange(20) % 2
    assert not tell_apart(np.ones((2, 8)), features, targets)


def test_a_frequent_class_alone_is_not_enough() -> None:
    targets = np.array([0] * 18 + [1] * 2)
    features = np.where(targets == 0, 1.0, 0.9)[:, None] * np.ones(4)  # all near the first name
    names = np.stack([np.ones(4), -np.ones(4)])
    assert tell_apart(names, features, targets), "the middle is that of the classes, not of the rows"
    assert not tell_apart(names[::-1], features, targets)


def test_a_class_without_rows_has_a_name_all_the_same() -> None:
    features = np.eye(3)[[0, 0, 2]]
    assert tell_apart(np.eye(3), features, np.array([0, 0, 2]))


# --- joined to the rows


@pytest.mark.parametrize("form", [LongText(), LongText("window", overlap=2), LongText("head_tail")])
def test_names_follow_the_rows(form: LongText, backbones: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(backbones["bert"])
    texts = [text for text, _ in make_rows(6, 3)] + ["a very long story " * 10]
    rows = EncodedSplit(encode_texts(tokenizer, texts, None, 12, form), np.arange(7) % 2, np.arange(7))
    names = encode_names(tokenizer, ("good film", "bad"), 12)
    joined = add_names(rows, names)
    assert len(joined) == 9 and joined.targets.tolist() == [*(np.arange(7) % 2), 0, 1]
    for part, inside in ((rows, np.arange(7)), (names, np.arange(7, 9))):
        found = joined.take(inside).tokens
        for i in range(len(part)):
            one, other = part.tokens.take(np.array([i])), found.take(np.array([i]))
            assert np.array_equal(one.ids, other.ids) and np.array_equal(one.offsets, other.offsets)
            assert np.array_equal(one.full_lengths, other.full_lengths)


# --- in the regression


def make_features(rows: int = 60, classes: int = 3) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(3)
    centres, targets = random.normal(size=(classes, 10)), np.arange(rows) % classes
    return (centres[targets] + random.normal(size=(rows, 10))).astype(np.float32), targets, centres.astype(np.float32)


def test_every_fold_learns_from_names_and_none_is_judged_by_them() -> None:
    features, targets, names = make_features()
    both, all_targets = np.concatenate([features, names]), np.concatenate([targets, np.arange(3)])
    probe = solve_probe(both, all_targets, 3, SoftmaxLoss(), 0, names=3)
    assert probe.names == 3 and sorted(probe.rows) == list(range(60)) and len(probe.out_of_fold) == 60
    plain = solve_probe(features, targets, 3, SoftmaxLoss(), 0)
    assert plain.names == 0 and not np.allclose(plain.out_of_fold, probe.out_of_fold)
    fixed = solve_probe(both, all_targets, 3, SoftmaxLoss(), 0, names=3, strength=0.1)
    again = solve_probe(both, all_targets, 3, SoftmaxLoss(), 0, strength=0.1)
    assert np.array_equal(fixed.weight, again.weight), "a name weighs as much as a row"


def test_the_head_is_solved_on_rows_and_names(backbones: dict[str, Path]) -> None:
    backbone = resolve_backbone(str(backbones["bert"]))
    model, _ = load_classifier(backbone, ("a", "b"), pooling=Pooling(MEAN))
    engine, _ = open_engine(model, Precision("fp32", "test"), backbone.family)
    network, tokenizer = Network(engine, backbone.family, 2, backbone.padding), load_tokenizer(backbone.folder)
    texts, values = zip(*make_rows(12, 2), strict=True)
    targets = np.array([value != values[0] for value in values], np.int64)
    rows = EncodedSplit(encode_texts(tokenizer, texts, None, 32), targets, np.arange(12))
    one, other, alike = (encode_names(tokenizer, n, 32) for n in (texts[:2], texts[1::-1], ("story", "story")))
    compute = network.compute_features
    telling = one if tell_apart(compute(one), compute(rows), targets) else other

    def solve(split: EncodedSplit, names: EncodedSplit | None = None) -> Probe:
        return start_head(network, split, SoftmaxLoss(), seed=0, strength=0.1, names=names)

    plain, named = solve(rows), solve(rows, telling)
    assert named.names == 2 and not np.allclose(named.weight, plain.weight)
    assert np.allclose(named.weight, solve(add_names(rows, telling)).weight, atol=1e-5)
    useless = solve(rows, alike)
    assert useless.names == 0 and np.array_equal(useless.weight, plain.weight)


# --- the rule, and what is refused


def decide(rows: int, classes: int, task: Any = None, **flat: Any) -> bool | None:
    extra = {} if task is None else {"task": task}
    config, _ = choose_training(build_config(flat), rows=rows, classes=classes, method_rate=1e-3, **extra)
    return config.training.learn_names


def test_names_count_where_rows_are_few() -> None:
    assert [decide(c * NAMES_UP_TO, c) for c in (2, 77)] == [True, True]
    assert [decide(c * NAMES_UP_TO + 1, c) for c in (2, 77)] == [None, None]
    assert decide(16, 2, learn_names=False) is False and decide(16_000, 2, learn_names=True) is True
    assert decide(16, 2, head_init="random") is decide(16, 2, MultiLabel.defaults) is None


@pytest.mark.parametrize(
    ("task", "flat", "words"),
    [(MultiLabel.defaults, {}, "several labels"), (None, {"head_init": "random"}, "starts random"),
     (None, {"init": "run"}, "comes from the run")],
)  # fmt: skip
def test_names_that_cannot_count_are_refused(task: Any, flat: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        decide(16, 2, task, learn_names=True, **flat)


def test_pairs_of_texts_have_no_names(work: Path, backbone: Path) -> None:
    lines = ["first,second,label", *(f"the film was {GOOD[i]},a story,{'ab'[i % 2]}" for i in range(8))] * 2
    (work / "pairs.csv").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    flat = settings_for(work / "pairs.csv", backbone, work / "r", text="first", text_pair="second")
    flat |= {"validation_fraction": 0, "test_fraction": 0}
    assert prepare(build_config(flat), Silent()).names is None
    with pytest.raises(ConfigError, match="pairs of texts"):
        prepare(build_config(flat | {"learn_names": True}), Silent())


# --- in a run


def write_named(path: Path, names: tuple[str, str]) -> Path:
    """Write rows of two classes that are called so."""
    lines = [f"{text},{names[label == make_rows(1, 2)[0][1]]}" for text, label in make_rows(40, 2)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


@pytest.mark.parametrize("contrast", [0, 2])
@pytest.mark.parametrize("telling", [True, False])
def test_a_run_says_whether_names_count(contrast: int, telling: bool, work: Path, backbone: Path) -> None:
    texts = [text for text, _ in make_rows(2, 2)]
    data = write_named(work / "few.csv", (texts[1], texts[0]) if telling else ("story 1", "story 1 1"))
    flat = settings_for(data, backbone, work / "r", validation_fraction=0, test_fraction=0.2, contrast_steps=contrast)
    flat["epochs"] = 0 if contrast else 1
    words = as_words(flat | ({} if telling else {"label_names": f"story 1={texts[1]},story 1 1={texts[0]}"}))
    shown = call_textune("train", *words, cwd=work)
    said = shown.stdout + shown.stderr
    assert "learn_names: true" in said
    assert ("and 2 class names in" in said) != ("class names are not learned" in said)
    assert ("and 2 class names in" in said) or not telling


def test_half_of_the_rows_learns_from_names_too(work: Path, backbone: Path) -> None:
    texts = [text for text, _ in make_rows(2, 2)]
    data = write_named(work / "few.csv", (texts[1], texts[0]))
    flat = settings_for(data, backbone, work / "r", epochs=1, validation_fraction=0, test_fraction=0.2)
    prepared = prepare(build_config(flat), Silent())
    assert prepared.calibrates_out_of_fold and prepared.names is not None and len(prepared.names) == 2
    logits = [predict_out_of_fold(each, work, Silent())[0] for each in (prepared, replace(prepared, names=None))]
    assert len(logits[0]) == len(prepared.train) and not np.allclose(logits[0], logits[1])
