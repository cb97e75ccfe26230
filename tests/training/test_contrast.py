"""Contrastive tuning: balanced batches, classes that move apart, nothing else touched, the same every time."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.backbones import load_classifier, resolve_backbone
from textune.backbones.families import Family
from textune.backbones.pooling import MEAN, Pooling
from textune.config import build_config
from textune.config.defaults import FEW_ROWS_PER_CLASS, choose_training
from textune.engine import Engine, Precision, open_engine
from textune.errors import ConfigError, TrainingError
from textune.files import read_json_lines
from textune.methods import Rates, resolve
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run import resume
from textune.tasks.multi_label import MultiLabel
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import EncodedSplit
from textune.training import contrast
from textune.training.contrast import (
    RATE_FACTOR,
    ROWS_PER_STEP,
    draw_batches,
    limit_rows,
    measure_pairs,
    tune_by_contrast,
)
from textune.training.head import Network, find_shift, straighten_hidden_layer
from tiny import StopAt, hash_weights, make_rows, train_tiny

Array = np.ndarray[Any, Any]


@given(st.lists(st.integers(1, 60), min_size=2, max_size=40), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=60)
def test_batches_are_balanced_and_the_same_for_the_same_seed(counts: list[int], steps: int, seed: int) -> None:
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    batches = list(draw_batches(targets, steps, seed))
    assert len(batches) == steps
    classes = min(len(counts), ROWS_PER_STEP // 2)
    for rows in batches:
        assert len(set(rows.tolist())) == len(rows) <= ROWS_PER_STEP and 0 <= rows.min() <= rows.max() < len(targets)
        found, drawn = np.unique(targets[rows], return_counts=True)
        assert len(found) == classes
        assert drawn.tolist() == [min(counts[c], ROWS_PER_STEP // classes) for c in found]
    again = list(draw_batches(targets, steps, seed))
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_another_seed_draws_other_rows() -> None:
    targets = np.arange(200) % 4
    one, other = (np.concatenate(list(draw_batches(targets, 3, seed))) for seed in (1, 2))
    assert not np.array_equal(one, other)
    assert len(set(one.tolist())) > ROWS_PER_STEP, "the steps of one seed differ, too"


def test_rare_classes_have_their_turn() -> None:
    targets = np.repeat(np.arange(40), 5)
    seen = set(targets[np.concatenate(list(draw_batches(targets, 20, 0)))].tolist())
    assert seen == set(range(40))


@given(st.lists(st.integers(1, 60), min_size=40, max_size=80), st.integers(1, 1500), st.integers(0, 99))
@settings(max_examples=60)
def test_a_step_on_long_texts_has_fewer_rows(sizes: list[int], most: int, seed: int) -> None:
    lengths, targets = np.asarray(sizes), np.arange(len(sizes)) % 2
    for rows in draw_batches(targets, 3, seed):
        fewer = limit_rows(rows, lengths, most)
        assert np.array_equal(fewer, rows[: len(fewer)]) and len(fewer) >= 4
        assert len(fewer) == 4 or lengths[fewer].max() * len(fewer) <= most
        following = rows[: len(fewer) + 1]
        assert len(fewer) == len(rows) or lengths[following].max() * len(following) > most, "no row was left out idly"
        counts = np.bincount(targets[fewer])
        assert counts.max() - counts.min() <= 2


def test_rows_that_are_left_out_for_memory_leave_pairs_of_one_class() -> None:
    targets, lengths = np.arange(200) % 16, np.full(200, 512)
    for rows in draw_batches(targets, 5, 0):
        fewer = targets[limit_rows(rows, lengths, 16 * 512)]
        assert len(fewer) > len(set(fewer.tolist())), "else every step only drives texts apart"


def test_pairs_are_right_where_classes_are_orthogonal() -> None:
    targets = torch.tensor([0, 1, 0, 2, 2, 1])
    directions = torch.eye(4)[targets] * torch.tensor([1.0, 5.0, 0.1, 2.0, 3.0, 7.0])[:, None]
    assert float(measure_pairs(directions, targets)) == pytest.approx(0, abs=1e-12)
    assert float(measure_pairs(torch.ones(6, 4), targets)) == pytest.approx(0.5), "all alike: one kind is all wrong"
    assert float(measure_pairs(torch.eye(6), targets)) == pytest.approx(0.5), "all orthogonal: the other kind"
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert float(measure_pairs(opposite, torch.tensor([0, 0]))) == pytest.approx(4)
    assert float(measure_pairs(opposite, torch.tensor([0, 1]))) == pytest.approx(1)


@given(st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=40)
def test_pairs_of_both_kinds_count_the_same(rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    features, targets = random.normal(size=(rows, 5)).astype(np.float32), random.integers(0, 3, rows)
    wrong: dict[bool, list[float]] = {}
    for i in range(rows):
        for j in range(i):
            cosine = features[i] @ features[j] / np.linalg.norm(features[i]) / np.linalg.norm(features[j])
            same = bool(targets[i] == targets[j])
            wrong.setdefault(same, []).append((cosine - same) ** 2)
    expected = np.mean([np.mean(errors) for errors in wrong.values()])
    found = measure_pairs(torch.from_numpy(features), torch.from_numpy(targets))
    assert float(found) == pytest.approx(expected, abs=1e-5)


class Tuned:
    """A tiny model with LoRA, some texts, and what tuning by contrast needs."""

    def __init__(self, folder: Path, engine: str = "auto", *, straight: bool = False) -> None:
        backbone = resolve_backbone(str(folder))
        torch.manual_seed(0)
        model, new = load_classifier(backbone, ("c0", "c1", "c2"), pooling=Pooling(MEAN))
        method = resolve("lora", {})
        if straight:
            straighten_hidden_layer(model, backbone.family, new)
        model = method.apply(model, backbone.family, new)
        self.engine: Engine = open_engine(model, Precision("fp32", "test"), backbone.family, wanted=engine)[0]
        self.family: Family = backbone.family
        self.network = Network(self.engine, self.family, 3, backbone.padding)
        texts, values = zip(*make_rows(45, 3), strict=True)
        targets = np.unique(values, return_inverse=True)[1].astype(np.int64)
        self.split = EncodedSplit(encode_texts(load_tokenizer(folder), texts, None, 32), targets, np.arange(45))
        self.groups = method.param_groups(self.engine, self.family, Rates(4e-3, 4e-3, 0.0))
        self.calls = 0

    def tune(self, steps: int = 12, seed: int = 0, max_tokens: int = 10**6) -> None:
        def advance() -> None:
            self.calls += 1

        tune_by_contrast(
            self.network, self.groups, self.split, steps=steps, seed=seed, max_tokens=max_tokens, advance=advance
        )

    def gap(self) -> float:
        """How much nearer rows of one class are than others, in cosines."""
        features = self.network.compute_features(self.split)
        directions = features / np.linalg.norm(features, axis=1, keepdims=True)
        cosines, targets = directions @ directions.T, self.split.targets
        same = targets[:, None] == targets
        return float(cosines[same & ~np.eye(len(targets), dtype=bool)].mean() - cosines[~same].mean())

    def head(self) -> torch.nn.Module:
        parent, name = self.network.find_output_layer()
        layer: torch.nn.Module = getattr(parent, name)
        return layer

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.engine.model.named_parameters()}


@pytest.mark.parametrize(("family", "engine"), [("bert", "lean"), ("distilbert", "lean"), ("mpnet", "reference")])
def test_classes_move_apart_and_nothing_else_does(family: str, engine: str, backbones: dict[str, Path]) -> None:
    tuned = Tuned(backbones[family], engine)
    head, weights, gap, groups = tuned.head(), tuned.weights(), tuned.gap(), [dict(g) for g in tuned.groups]
    logits = tuned.network.compute_features(tuned.split)
    tuned.tune()
    assert tuned.gap() > gap + 0.05
    assert tuned.head() is head and tuned.calls == 12 and tuned.engine.training
    assert not np.allclose(tuned.network.compute_features(tuned.split), logits)
    moved = {name for name, value in tuned.weights().items() if not torch.equal(value, weights[name])}
    assert moved and all("lora_" in name for name in moved), "neither a frozen weight nor the head"
    assert [dict(g) for g in tuned.groups] == groups, "the rates of training are as they were"
    left = [name for name, p in tuned.engine.model.named_parameters() if p.grad is not None and bool(p.grad.any())]
    assert not left, "the first step of training would add these gradients to its own"


@pytest.mark.parametrize("family", ["distilbert", "electra", "deberta-v2"])
def test_a_straightened_hidden_layer_hides_no_class_from_another(family: str, backbones: dict[str, Path]) -> None:
    """What the layer adds to every feature would make all texts alike, and contrast would only push them apart."""
    tuned = Tuned(backbones[family], straight=True)
    assert find_shift(tuned.network) == 4.0
    tuned.tune(24)
    features = tuned.network.compute_features(tuned.split)
    directions = features - features.mean(0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cosines, same = directions @ directions.T, tuned.split.targets[:, None] == tuned.split.targets
    assert cosines[same & ~np.eye(len(same), dtype=bool)].mean() - cosines[~same].mean() > 1.2  # else 1.0 to 1.15
    with torch.no_grad():
        for name, parameter in tuned.engine.model.named_parameters():
            parameter += 0.01 * (tuned.family.hidden_layer[0].rpartition(".")[2] in name)
    assert find_shift(tuned.network) == 0.0, "a layer that was trained is not straight any more"


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "gpt2"])
def test_other_heads_shift_nothing(family: str, backbones: dict[str, Path]) -> None:
    assert find_shift(Tuned(backbones[family], straight=True).network) == 0.0


def test_the_same_seed_gives_the_same_weights(backbones: dict[str, Path]) -> None:
    found = []
    for seed in (5, 5, 6):
        tuned = Tuned(backbones["distilbert"])
        tuned.tune(3, seed)
        found.append(tuned.weights())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert not all(torch.equal(value, found[2][name]) for name, value in found[0].items())


def test_the_first_step_is_taken_at_the_scaled_rate(backbones: dict[str, Path]) -> None:
    tuned = Tuned(backbones["distilbert"])
    before = tuned.weights()
    tuned.tune(1)  # AdamW's first step is as long as the rate
    largest = max(float((value - before[name]).abs().max()) for name, value in tuned.weights().items())
    assert largest == pytest.approx(RATE_FACTOR * 4e-3, rel=0.01)


def test_a_loss_that_is_not_finite_stops_it_and_leaves_the_head_in_place(backbones: dict[str, Path]) -> None:
    tuned = Tuned(backbones["bert"])
    head = tuned.head()
    with torch.no_grad():
        next(p for n, p in tuned.engine.model.named_parameters() if "lora_A" in n).fill_(float("nan"))
    with pytest.raises(TrainingError, match="contrastive loss became nan at step 1") as caught:
        tuned.tune()
    assert "contrast_steps=0" in str(caught.value.hint)
    assert tuned.head() is head and tuned.calls == 0


@pytest.mark.parametrize(("family", "engine"), [("bert", "lean"), ("mpnet", "reference"), ("gpt2", "reference")])
def test_rows_that_fit_into_no_pass_are_read_in_several(
    family: str, engine: str, backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    several, passes = Tuned(backbones[family], engine), list[int]()
    several.engine.register_forward_pre_hook(lambda _, given: passes.append(len(given[0].targets)))
    several.tune(3, max_tokens=24)
    assert max(passes) < 4 and len(passes) > 6, "four rows of some 10 tokens each do not fit"
    monkeypatch.setattr(contrast, "split_micro_batches", lambda rows, *_: [rows])
    one = Tuned(backbones[family], engine)
    one.tune(3, max_tokens=24)
    found, wanted = several.weights(), one.weights()
    assert all(torch.allclose(value, wanted[name], atol=2e-5) for name, value in found.items())


def test_passes_are_halved_where_memory_runs_out(backbones: dict[str, Path]) -> None:
    short, enough = Tuned(backbones["bert"]), Tuned(backbones["bert"])
    failed = list[int]()

    def refuse(_: Any, given: Any) -> None:
        if len(given[0].targets) > 10:
            failed.append(len(given[0].targets))
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = short.engine.register_forward_pre_hook(refuse)
    short.tune(3)
    assert failed and len(failed) < 5, "what suffices for one step is kept for the next"
    enough.tune(3)
    found, wanted = short.weights(), enough.weights()
    assert all(torch.allclose(value, wanted[name], atol=2e-5) for name, value in found.items())
    handle.remove()
    short.engine.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(TrainingError, match="memory ran out on a single text"):
        short.tune(1)


FEW: dict[str, Any] = {"epochs": None, "validation_fraction": 0.0, "pooling": "mean"}


def steps_of(run: Path) -> int:
    return sum(line["kind"] == "step" for line in read_json_lines(run / "metrics.jsonl"))


def test_a_run_of_few_rows_is_the_same_twice(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    said = StopAt()
    one = train_tiny(reviews, backbone, tmp_path / "one", said, contrast_steps=4, **FEW)
    two = train_tiny(reviews, backbone, tmp_path / "two", contrast_steps=4, **FEW)
    assert hash_weights(one.folder) == hash_weights(two.folder) != {}
    assert any(line.startswith("contrast: 4 steps") for line in said.said)
    assert any("C 0.01, set after contrast" in line for line in said.said)
    assert steps_of(one.folder) == 0, "the head is solved, and nothing is trained after it"
    none = train_tiny(reviews, backbone, tmp_path / "none", contrast_steps=0, **(FEW | {"epochs": 0}))
    assert hash_weights(none.folder) != hash_weights(one.folder)


def test_what_is_trained_after_contrast_goes_on_exactly(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    settings = FEW | {"epochs": 1, "contrast_steps": 3, "checkpoint_every_steps": 1}
    whole = train_tiny(reviews, backbone, tmp_path / "whole", **settings)
    folder = tmp_path / "run"
    with pytest.raises(RunInterrupted):
        train_tiny(reviews, backbone, folder, StopAt(2, signal.SIGINT), **settings)
    said = StopAt()
    resume(folder, progress=said)
    assert any("resuming at step 2" in line for line in said.said)
    assert not any(line.startswith("contrast:") for line in said.said)
    assert hash_weights(folder) == hash_weights(whole.folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "head"}, "trains nothing below the head"),
        ({"head_init": "random"}, "needs head_init=probe"),
        ({"task": MultiLabel.defaults}, "several"),
    ],
)
def test_contrast_is_refused_where_it_has_no_meaning(
    settings: dict[str, Any], words: str, reviews: Path, backbone: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train_tiny(reviews, backbone, tmp_path / "run", Silent(), contrast_steps=4, **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "classes", "settings", "expected"),
    [
        (FEW_ROWS_PER_CLASS * 2, 2, {}, True),
        (FEW_ROWS_PER_CLASS * 2 + 1, 2, {}, False),
        (100, 21, {}, False),
        (100, 20, {}, True),
        (100, 2, {"head_init": "random"}, False),
        (100, 2, {"contrast_steps": 0}, False),
    ],
)
def test_few_rows_of_few_classes_are_tuned_by_contrast(
    rows: int, classes: int, settings: dict[str, Any], expected: bool
) -> None:
    decided, _ = choose_training(build_config(settings), rows=rows, classes=classes, method_rate=1e-3)
    assert bool(decided.training.contrast_steps) == expected
    assert (decided.training.epochs == 0) == expected
    for other in ({"task": MultiLabel.defaults}, {"solved": True}):
        options: dict[str, Any] = {"rows": rows, "classes": classes, "method_rate": 1e-3} | other
        assert not choose_training(build_config(settings), **options)[0].training.contrast_steps
