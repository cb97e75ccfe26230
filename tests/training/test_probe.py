"""The probe: it solves scikit-learn's regression, the model then gives its logits, and runs start from it."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from textune.backbones import load_classifier, resolve_backbone
from textune.backbones.families import families
from textune.backbones.pooling import FIRST, LAST, MEAN, Pooling
from textune.bundle import read_manifest
from textune.config import build_config
from textune.engine import Precision, open_engine, predict_logits
from textune.errors import ModelError, TrainingError
from textune.files import read_json_lines
from textune.methods import resolve
from textune.progress import Silent
from textune.run.fit import build_model
from textune.run.prepare import prepare
from textune.run.untuned import UntunedBackbone
from textune.tasks.binary_loss import BinaryCrossEntropy, SigmoidLoss
from textune.tasks.single_label import CrossEntropy, SoftmaxLoss
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import EncodedSplit
from textune.training.head import (
    Network,
    choose_rows,
    find_output_layer,
    find_shift,
    set_head,
    start_head,
    straighten_hidden_layer,
)
from textune.training.probe import (
    FOLDS,
    STRENGTH_UNJUDGED,
    STRENGTHS,
    Probe,
    _measure_scale,
    assign_folds,
    find_judged,
    measure_constant,
    solve_probe,
)
from tiny import BAD, FAMILIES, GOOD, StopAt, as_words, call_textune, hash_weights, make_rows, settings_for, train_tiny

Array = np.ndarray[Any, Any]
HIDDEN = [name for name in FAMILIES if families.get(name).hidden_layer[0]]


def make_features(classes: int, rows: int = 240, width: int = 12, seed: int = 0) -> tuple[Array, Array]:
    """Return features that hang together, of very different size and away from zero, and classes of unequal size."""
    random = np.random.default_rng(seed)
    shares = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    targets = random.choice(classes, rows, p=shares)
    centres = random.normal(size=(classes, width))
    features = (centres[targets] + 1.5 * random.normal(size=(rows, width))) @ random.normal(size=(width, width))
    return (features * np.geomspace(0.1, 30, width) + 5).astype(np.float32), targets.astype(np.int64)


def make_labels(labels: int = 3, rows: int = 240) -> tuple[Array, Array]:
    features, _ = make_features(2, rows)
    random = np.random.default_rng(1)
    scores = (features - features.mean(0)) / features.std(0) @ random.normal(size=(features.shape[1], labels))
    return features, (scores + random.normal(size=scores.shape) > 0.5).astype(np.float32)


def measure_scale(features: Array) -> tuple[Array, Array]:
    """What features are standardised by: their variance, and the median of all as if 500 rows had shown it."""
    exact = features.astype(np.float64)
    variance, rows = exact.var(0), len(features)
    return exact.mean(0), np.sqrt((500 * np.median(variance[variance > 0]) + rows * variance) / (500 + rows))


def standardise(features: Array) -> Array:
    mean, scale = measure_scale(features)
    return (features - mean) / scale


def fit_sklearn(features: Array, targets: Array, strength: float, **options: Any) -> LogisticRegression:
    weights = options.pop("sample_weight", None)
    model = LogisticRegression(C=strength, tol=1e-9, max_iter=20_000, **options)
    return model.fit(standardise(features), targets, sample_weight=weights)


def logits_of(probe: Probe, features: Array) -> Array:
    return features @ probe.weight.T.astype(np.float64) + probe.bias


def centre(logits: Array) -> Array:
    """Softmax ignores what is added to all classes alike."""
    return logits - logits.mean(1, keepdims=True)


def assert_close(found: Array, expected: Array, tolerance: float = 1e-3) -> None:
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("strength", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_five_classes_are_scikit_learns(weighted: bool, strength: float) -> None:
    features, targets = make_features(5)
    weights = np.array([3, 1, 0.5, 2, 1], np.float32) if weighted else None
    probe = solve_probe(features, targets, 5, SoftmaxLoss(weights=weights), 0, strength=strength)
    theirs = fit_sklearn(features, targets, strength, sample_weight=None if weights is None else weights[targets])
    assert_close(centre(logits_of(probe, features)), centre(theirs.decision_function(standardise(features))))
    plain = solve_probe(features, targets, 5, SoftmaxLoss(), 0, strength=strength)
    assert np.allclose(plain.weight, probe.weight) != weighted


@pytest.mark.parametrize("weighted", [False, True])
def test_two_classes_are_scikit_learns(weighted: bool) -> None:
    features, targets = make_features(2)
    weights = np.array([3, 1], np.float32) if weighted else None
    probe = solve_probe(features, targets, 2, SoftmaxLoss(weights=weights), 0, strength=0.02)
    # Two rows of weights of half the size are regularised half as much as scikit-learn's one.
    theirs = fit_sklearn(features, targets, 0.04, sample_weight=None if weights is None else weights[targets])
    logits = logits_of(probe, features)
    assert_close(logits[:, 1] - logits[:, 0], theirs.decision_function(standardise(features)))


@pytest.mark.parametrize("weighted", [False, True])
def test_several_labels_are_scikit_learns_one_by_one(weighted: bool) -> None:
    features, targets = make_labels()
    weights = np.array([[1, 4], [2, 1], [1, 1]], np.float32) if weighted else None
    logits = logits_of(solve_probe(features, targets, 3, SigmoidLoss(weights), 0, strength=0.05), features)
    for label in range(3):
        true = targets[:, label].astype(int)
        each = None if weights is None else weights[label][true]
        theirs = fit_sklearn(features, true, 0.05, sample_weight=each)
        assert_close(logits[:, label], theirs.decision_function(standardise(features)))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_the_solution_has_no_slope_in_the_loss_of_training(
    several: bool, smoothing: float, weighted: bool, intercept: bool
) -> None:
    features, targets = make_labels() if several else make_features(3)
    by_class = np.array([[1, 3], [2, 1], [1, 1]] if several else [3, 1, 0.5], np.float32) if weighted else None
    loss = (SigmoidLoss if several else SoftmaxLoss)(by_class, smoothing, intercept)
    strength = 0.01
    probe = solve_probe(features, targets, 3, loss, 0, strength=strength)
    mean, scale = measure_scale(features)
    mean = mean if intercept else np.zeros_like(mean)
    standard = torch.from_numpy((features - mean) / scale)
    exact = None if by_class is None else by_class.astype(np.float64)
    objective = (BinaryCrossEntropy if several else CrossEntropy)(smoothing, exact)

    def slope(weight: Array, bias: Array) -> Array:
        parameters = torch.tensor(np.column_stack([weight, bias]), dtype=torch.float64, requires_grad=True)
        logits = standard @ parameters[:, :-1].T + parameters[:, -1]
        total = objective.loss(logits, torch.from_numpy(targets)) * (3 if several else 1)  # it is a mean over labels
        (total + (parameters[:, :-1] ** 2).sum() / (2 * strength)).backward()
        assert parameters.grad is not None
        return parameters.grad.numpy() if intercept else parameters.grad.numpy()[:, :-1]

    found = slope(probe.weight * scale, probe.bias + probe.weight @ mean)
    assert np.abs(found).max() < 1e-3 * np.abs(slope(0 * probe.weight, 0 * probe.bias)).max()
    assert intercept or not probe.bias.any()
    other = solve_probe(features, targets, 3, dataclasses.replace(loss, smoothing=0.4), 0, strength=strength)
    assert not np.allclose(other.weight, probe.weight, rtol=0.05)


def test_constant_features_have_no_weight_and_change_nothing() -> None:
    features, targets = make_features(3)
    constant = np.full((len(features), 2), [7.0, 0.0], np.float32)
    probe = solve_probe(np.hstack([constant, features]), targets, 3, SoftmaxLoss(), 0, strength=0.01)
    assert not probe.weight[:, :2].any()
    alone = solve_probe(features, targets, 3, SoftmaxLoss(), 0, strength=0.01)
    np.testing.assert_allclose(probe.weight[:, 2:], alone.weight, rtol=1e-3, atol=1e-5)
    nothing = solve_probe(np.ones((60, 4), np.float32), np.arange(60) % 3, 3, SoftmaxLoss(), 0)
    assert not nothing.weight.any() and np.isfinite(nothing.bias).all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 99))
@settings(max_examples=60)
def test_folds_are_stratified(classes: list[int], seed: int) -> None:
    targets = np.asarray(classes)
    folds = assign_folds(targets, seed, by_class=True)
    assert np.array_equal(folds, assign_folds(targets, seed, by_class=True))
    for chosen in (np.ones(len(targets), bool), *(targets == c for c in set(classes))):
        counts = np.bincount(folds[chosen], minlength=FOLDS)
        assert len(counts) == FOLDS and counts.max() - counts.min() <= 1
    several = assign_folds(np.zeros((len(classes), 2)), seed, by_class=False)
    counts = np.bincount(several, minlength=FOLDS)
    assert len(counts) == FOLDS and counts.max() - counts.min() <= 1


@given(
    texts=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    classes=st.lists(st.integers(0, 3), min_size=40, max_size=40),
    seed=st.integers(0, 3),
)
def test_rows_are_judged_by_models_that_know_their_class_and_not_their_text(
    texts: list[int], classes: list[int], seed: int
) -> None:
    texts_of, targets = np.array(texts), np.array(classes[: len(texts)])
    for fold_of in (
        assign_folds(targets, seed, by_class=True, texts=texts_of),
        np.random.default_rng(seed).integers(0, 3, len(texts)),  # as groups would have it
    ):
        judged = find_judged(targets, fold_of, texts_of)
        for row in np.flatnonzero(judged):
            others = fold_of != fold_of[row]
            assert targets[row] in targets[others] and texts_of[row] not in texts_of[others]
        assert len(set(targets[judged].tolist())) != 1
    by_text = assign_folds(targets, seed, by_class=True, texts=texts_of)
    assert all(len(set(by_text[texts_of == text])) == 1 for text in set(texts))


@pytest.mark.parametrize("alone", [0, 1, 5])
def test_classes_of_one_row_do_not_choose_c(alone: int) -> None:
    """No fold can learn such a class from other rows; its row would make every model look too sure."""
    features, targets = make_features(6, rows=300)
    odd = np.random.default_rng(3).normal(size=(alone, features.shape[1])).astype(np.float32)
    rows = np.concatenate([features, odd]), np.concatenate([targets, 6 + np.arange(alone)])
    probe = solve_probe(*rows, 6 + alone, SoftmaxLoss(), seed=0)
    assert probe.strength == solve_probe(features, targets, 6, SoftmaxLoss(), seed=0).strength
    assert len(probe.rows) == len(probe.out_of_fold) == 300 and probe.rows.max() < 300


@pytest.mark.parametrize("kind", ["one row of each class", "one class has rows left"])
def test_c_is_fixed_where_no_row_can_judge_it(kind: str) -> None:
    features = make_features(2, rows=8)[0]
    targets = np.arange(8) if kind == "one row of each class" else np.array([0] * 7 + [1])
    probe = solve_probe(features, targets, int(targets.max()) + 1, SoftmaxLoss(), seed=0)
    assert probe.strength == STRENGTH_UNJUDGED and not len(probe.rows) and not len(probe.out_of_fold)
    assert np.isfinite(probe.weight).all() and (logits_of(probe, features).argmax(1) == targets).mean() > 0.8


def test_a_class_of_one_group_does_not_make_the_others_unsure() -> None:
    features, targets = make_features(3, rows=300)
    features = features + 40 * np.eye(3, features.shape[1], dtype=np.float32)[targets]
    fold_of = np.where(targets == 2, 0, np.arange(300) % 3)
    probe = solve_probe(features, targets, 3, dataclasses.replace(SoftmaxLoss(), fold_of=fold_of), seed=0)
    likely = np.exp(logits_of(probe, features))
    assert (likely / likely.sum(1, keepdims=True)).max(1).mean() > 0.8


def test_copies_of_rows_do_not_flatter_the_probe() -> None:
    """A rare class is often oversampled by copying its rows."""
    features, targets = make_features(2, rows=60, width=40)
    targets = np.random.default_rng(0).integers(0, 2, 60)  # labels of noise: no row says anything of another
    copied = np.tile(np.arange(60), 5)
    loss = dataclasses.replace(SoftmaxLoss(), texts=copied)
    right = {}
    for name, chosen in (("apart", SoftmaxLoss()), ("together", loss)):
        probe = solve_probe(features[copied], targets[copied], 2, chosen, seed=0)
        right[name] = float((probe.out_of_fold.argmax(1) == targets[copied][probe.rows]).mean())
    assert right["apart"] > 0.75 and right["together"] < 0.65


def test_held_out_logits_are_of_regressions_that_saw_only_the_other_folds() -> None:
    features, targets = make_features(3, rows=150)
    probe = solve_probe(features, targets, 3, SoftmaxLoss(), 7)
    assert sorted(probe.rows) == list(range(150)) and probe.strength in STRENGTHS
    folds = assign_folds(targets[probe.rows], 7, by_class=True)
    standard = standardise(features)[probe.rows]
    expected = np.zeros((150, 3))
    for fold in range(FOLDS):
        model = LogisticRegression(C=probe.strength, tol=1e-9, max_iter=20_000)
        model.fit(standard[folds != fold], targets[probe.rows][folds != fold])
        expected[folds == fold] = centre(model.decision_function(standard[folds == fold]))
    found = centre(probe.out_of_fold)
    temperature = float((expected * expected).sum() / (expected * found).sum())
    assert_close(found * temperature, expected, 0.01)
    whole = solve_probe(features, targets, 3, SoftmaxLoss(), 7, strength=probe.strength)
    np.testing.assert_allclose(probe.weight * temperature, whole.weight, rtol=0.01, atol=1e-3)


def test_labels_of_noise_are_not_found_on_held_out_rows() -> None:
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(90, 200)).astype(np.float32), np.arange(90) % 2
    probe = solve_probe(features, targets, 2, SoftmaxLoss(), 0)
    assert (logits_of(probe, features).argmax(1) == targets).mean() > 0.9
    assert (probe.out_of_fold.argmax(1) == targets[probe.rows]).mean() < 0.7
    assert min(probe.losses, key=lambda c: probe.losses[c]) == probe.strength


@given(st.lists(st.integers(0, 3), min_size=2, max_size=300), st.integers(40, 120), st.integers(0, 9))
@settings(max_examples=40)
def test_rows_are_drawn_with_some_of_every_class(classes: list[int], most: int, seed: int) -> None:
    targets = np.asarray(classes)
    rows = choose_rows(targets, most, seed)
    assert len(rows) == min(most, len(targets)) and (np.diff(rows) > 0).all()
    for c in set(classes):
        assert (targets[rows] == c).sum() >= min(8, (targets == c).sum())
    assert np.array_equal(rows, choose_rows(targets, most, seed))


def test_many_classes_keep_one_row_each_at_least() -> None:
    targets = np.repeat(np.arange(30), 20)
    rows = choose_rows(targets, 100, seed=0)
    assert len(rows) == 100 and np.bincount(targets[rows], minlength=30).min() >= 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_nan_or_infinite_are_refused(
    value: float, backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, backbone, split, _ = open_model(backbones["bert"], "head")
    network = Network(engine, backbone.family, 3, backbone.padding)
    monkeypatch.setattr(Network, "compute_features", lambda *_: np.full((len(split), 8), value, np.float32))
    with pytest.raises(TrainingError, match=r"NaN or infinite for (\d+) of \1 training rows, such as row"):
        start_head(network, split, SoftmaxLoss(), seed=0)


def open_model(folder: Path, method: str, *, straight: bool = True, classes: int = 3) -> tuple[Any, ...]:
    """Return the engine over a new model, its backbone, and an encoded split."""
    backbone = resolve_backbone(str(folder))
    pooling = Pooling(LAST if backbone.family.decoder else MEAN)
    torch.manual_seed(0)
    labels = tuple(f"c{i}" for i in range(classes))
    model, new = load_classifier(backbone, labels, pooling=pooling)
    if straight:
        straighten_hidden_layer(model, backbone.family, new)
    model = resolve(method, {}).apply(model, backbone.family, new)
    engine, _ = open_engine(model, Precision("fp32", "test"), backbone.family)
    texts, values = zip(*make_rows(36, classes), strict=True)
    targets = np.unique(values, return_inverse=True)[1].astype(np.int64)
    tokens = encode_texts(load_tokenizer(folder), texts, None, 32)
    return engine, backbone, EncodedSplit(tokens, targets, np.arange(36)), new


@pytest.mark.parametrize("method", ["lora", "head"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_gives_the_probes_logits(family: str, method: str, backbones: dict[str, Path]) -> None:
    engine, backbone, split, _ = open_model(backbones[family], method)
    padding = backbone.padding
    before = {name: p.detach().clone() for name, p in engine.model.named_parameters()}
    network = Network(engine, backbone.family, 3, padding)
    probe = start_head(network, split, SoftmaxLoss(), seed=0)
    features = network.compute_features(split)
    random_head = predict_logits(engine, split, padding)
    set_head(network, probe)
    logits = predict_logits(engine, split, padding)
    assert_close(logits, features @ probe.weight.T + probe.bias, 1e-4)
    assert np.abs(logits - random_head).max() > 1e-2
    parent, name = find_output_layer(engine.model, backbone.family, 3)
    head = {id(p) for p in getattr(parent, name).parameters()}
    moved = [p for n, p in engine.model.named_parameters() if not torch.equal(p, before[n])]
    assert moved and {id(p) for p in moved} <= head


def test_out_of_fold_rows_are_numbers_of_the_split(backbones: dict[str, Path]) -> None:
    engine, backbone, split, _ = open_model(backbones["bert"], "head")
    network = Network(engine, backbone.family, 3, backbone.padding)
    probe = start_head(network, split, SoftmaxLoss(), seed=0, most_rows=20)
    assert len(set(probe.rows.tolist())) == 20 and probe.rows.max() >= 20
    again = start_head(network, split.take(np.sort(probe.rows)), SoftmaxLoss(), seed=0)
    by_row = dict(zip(np.sort(probe.rows)[again.rows].tolist(), again.out_of_fold, strict=True))
    for row, logits in zip(probe.rows.tolist(), probe.out_of_fold, strict=True):
        assert_close(logits, by_row[row], 1e-5)


def test_groups_stay_together_where_c_is_chosen() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 5)
    targets = np.repeat(random.integers(0, 2, 24), 5)
    features = (np.repeat(random.normal(size=(24, 16)), 5, axis=0) + 0.01 * random.normal(size=(120, 16))).astype("f4")
    by_row = solve_probe(features, targets, 2, SoftmaxLoss(), 0)
    by_group = solve_probe(features, targets, 2, SoftmaxLoss(fold_of=groups % 3), 0)
    right = [float((p.out_of_fold.argmax(1) == targets[p.rows]).mean()) for p in (by_row, by_group)]
    assert right[0] >= 0.9 and right[1] < 0.8, "texts of one group tell one another's label"
    two = solve_probe(features, targets, 2, SoftmaxLoss(fold_of=groups % 2), 0)
    assert len(two.rows) == 120 and np.isfinite(two.out_of_fold).all()


@pytest.mark.parametrize("family", HIDDEN)
def test_only_a_new_hidden_layer_is_straightened(family: str, backbones: dict[str, Path], tmp_path: Path) -> None:
    known = families.get(family)
    engine, _, _, new = open_model(backbones[family], "full")
    assert known.hidden_layer[0] in new
    layer = engine.model.get_submodule(known.hidden_layer[0])
    names = {"tanh": torch.tanh, "relu": torch.relu, "gelu": torch.nn.functional.gelu}
    pooled = torch.nn.functional.layer_norm(torch.randn(200, 32), (32,))
    with torch.no_grad():
        given = names[known.hidden_layer[1].partition(",")[0]](layer(pooled)).flatten().numpy()
    fit = np.corrcoef(given, pooled.flatten().numpy())[0, 1] ** 2
    assert fit > 0.97, "what the output layer reads is almost linear in the pooled vector"
    source = transformers.AutoModelForSequenceClassification.from_pretrained(str(backbones[family]))
    brought = source.get_submodule(known.hidden_layer[0]).weight.detach().clone()
    source.save_pretrained(str(tmp_path))
    load_tokenizer(backbones[family]).save(str(tmp_path / "tokenizer.json"))
    backbone = resolve_backbone(str(tmp_path))
    model, new = load_classifier(backbone, ("a", "b", "c"))
    assert known.hidden_layer[0] not in new and "classifier" in " ".join(new)
    straighten_hidden_layer(model, known, new)
    assert torch.equal(model.get_submodule(known.hidden_layer[0]).weight, brought)


def test_the_output_layer_is_put_back_whatever_happens(backbones: dict[str, Path]) -> None:
    engine, backbone, _, _ = open_model(backbones["bert"], "lora")
    parent, name = find_output_layer(engine.model, backbone.family, 3)
    layer = getattr(parent, name)
    network = Network(engine, backbone.family, 3, backbone.padding)
    with pytest.raises(KeyError), network.without_output_layer():
        assert isinstance(getattr(parent, name), torch.nn.Identity)
        raise KeyError
    assert getattr(parent, name) is layer
    with pytest.raises(ModelError, match="no trained linear layer"):
        find_output_layer(engine.model, backbone.family, 4)


def test_before_tuning_there_are_a_random_head_and_a_probe(backbones: dict[str, Path]) -> None:
    engine, backbone, split, _ = open_model(backbones["roberta"], "lora")
    padding, asked = backbone.padding, []
    expected = predict_logits(engine, split, padding)
    network = Network(engine, backbone.family, 3, padding)
    probe = start_head(network, split, SoftmaxLoss(), seed=0)
    rows: Any = object()
    for given_probe in (None, probe):
        untuned = UntunedBackbone(
            network,
            lambda rows: asked.append(rows) or split,
            lambda network: start_head(network, split, SoftmaxLoss(), seed=0),
            given_probe,
        )
        assert_close(untuned.base_logits(rows), expected, 1e-5)
        features = network.compute_features(split)
        assert_close(untuned.probe_logits(rows), features @ probe.weight.T + probe.bias, 1e-5)
    assert asked == [rows, rows], "encoded once for each of the two"


@pytest.fixture(scope="module")
def opinions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 120 rows that are told apart by every word."""
    path, random = tmp_path_factory.mktemp("data") / "opinions.csv", np.random.default_rng(0)
    rows = [(" ".join(random.choice((BAD, GOOD)[i % 2], 5)), ("no", "yes")[i % 2]) for i in range(120)]
    path.write_text("\n".join(["text,label", *(f"{text},{label}" for text, label in rows)]) + "\n")
    return path


def steps_of(run: Path) -> int:
    return sum(line["kind"] == "step" for line in read_json_lines(run / "metrics.jsonl"))


def test_a_random_head_starts_as_the_library_draws_it(
    reviews: Path, backbones: dict[str, Path], tmp_path: Path
) -> None:
    folder = backbones["roberta"]
    for head_init in ("random", "probe"):
        config = build_config(settings_for(reviews, folder, tmp_path / "run", head_init=head_init, seed=3))
        prepared = prepare(config, Silent())
        found = build_model(prepared, bare=True)[0].state_dict()
        torch.manual_seed(3)
        expected, _ = load_classifier(prepared.backbone, ("negative", "positive"), pooling=Pooling(FIRST))
        same = all(torch.equal(value, found[name]) for name, value in expected.state_dict().items())
        assert same == (head_init == "random")
    said = StopAt()
    run = train_tiny(reviews, folder, tmp_path / "random", said, head_init="random", epochs=1)
    assert not any(line.startswith("head: solved") for line in said.said) and steps_of(run.folder)


def test_a_solved_head_takes_no_steps_and_reloads(opinions: Path, backbone: Path, tmp_path: Path) -> None:
    said = StopAt()
    run = train_tiny(opinions, backbone, tmp_path / "run", said, method="head", pooling="mean", epochs=None)
    assert steps_of(run.folder) == 0 and run.manifest.pooling == MEAN
    assert any(line.startswith("head: solved on the features of") for line in said.said)
    assert run.manifest.metrics["accuracy"] > 0.9
    texts = [text for text, _ in make_rows(60)]
    logits = [run.load(precision="fp32", engine=engine).predict_logits(texts) for engine in ("lean", "reference")]
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    on = train_tiny(opinions, backbone, tmp_path / "on", method="head", pooling="mean", epochs=2)
    assert steps_of(on.folder) == 20
    whole = train_tiny(opinions, backbone, tmp_path / "all", method="head", pooling="mean", validation_fraction=0.0)
    kept = train_tiny(opinions, backbone, tmp_path / "none", method="head", pooling="mean", epochs=None,
                      validation_fraction=0.0)  # fmt: skip
    assert hash_weights(whole.folder) != hash_weights(kept.folder), "the steps move the head"


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_solved_head_survives_a_kill_before_it_is_saved(
    task: str, opinions: Path, backbone: Path, tmp_path: Path
) -> None:
    settings = {"method": "head", "pooling": "mean", "epochs": 0, "validation_fraction": 0.0, "task": task}
    whole = train_tiny(opinions, backbone, tmp_path / "whole", **settings)
    words = as_words(settings_for(opinions, backbone, tmp_path / "run", **settings))
    death = ("textune.run.save:write_bundle", 1)
    call_textune("train", *words, cwd=tmp_path, code=-signal.SIGKILL, die_in=death)
    call_textune("resume", str(tmp_path / "run"), cwd=tmp_path)
    resumed = read_manifest(tmp_path / "run")
    assert steps_of(tmp_path / "run") == 0
    assert hash_weights(tmp_path / "run") == hash_weights(whole.folder) != {}
    assert resumed.thresholds == whole.manifest.thresholds
    assert resumed.temperature == pytest.approx(whole.manifest.temperature, rel=1e-6)


def test_tuning_that_is_clearly_worse_than_the_solved_head_is_not_kept(
    opinions: Path, backbone: Path, tmp_path: Path
) -> None:
    settings = {"pooling": "mean", "learning_rate": 1.0, "head_learning_rate": 1.0, "contrast_steps": 0}
    said = StopAt()
    run = train_tiny(opinions, backbone, tmp_path / "run", said, **settings)
    solved = train_tiny(opinions, backbone, tmp_path / "solved", **(settings | {"epochs": 0}))
    assert steps_of(run.folder) == 20 and steps_of(solved.folder) == 0
    first, *later = [line["accuracy"] for line in read_json_lines(run.folder / "metrics.jsonl") if "accuracy" in line]
    assert first > 0.9 > max(later), "at such a rate tuning only destroys"
    assert any("the solved head did better than what was tuned" in line for line in said.said)
    assert hash_weights(run.folder) == hash_weights(solved.folder)


def test_weights_count_where_the_strength_is_chosen():
    """Without them an overfitted head looks better that gives the rare class to fewer texts."""
    random, width, shares = np.random.default_rng(1), 64, (0.05, 0.5)

    def draw(rows: int, share: float) -> tuple[Any, Any]:
        targets = (random.random(rows) < share).astype(np.int64)
        features = random.normal(size=(rows, width)).astype(np.float32)
        features[:, :8] += targets[:, None]
        return features, targets

    features, targets = draw(1_000, shares[0])
    weights = (1 / np.bincount(targets)).astype(np.float32)
    weights /= weights.mean()
    chosen = solve_probe(features, targets, 2, SoftmaxLoss(weights), 0)
    judged, asked = draw(10_000, shares[1])

    def measure(probe: Probe) -> float:
        return float(((judged @ probe.weight.T + probe.bias).argmax(1) == asked).mean())

    found = {c: measure(solve_probe(features, targets, 2, SoftmaxLoss(weights), 0, strength=c)) for c in STRENGTHS}
    assert measure(chosen) > max(found.values()) - 0.02


@pytest.mark.parametrize("seed", range(4))
def test_a_signal_in_small_components_is_found(seed):
    random = np.random.default_rng(seed)
    large, small = random.normal(size=(20, 128)), random.normal(size=128)
    small -= large.T @ np.linalg.lstsq(large.T, small, rcond=None)[0]
    small /= np.linalg.norm(small)

    def draw(rows: int) -> tuple[Any, Any]:
        targets = random.integers(0, 2, rows)
        own = (2 * targets - 1)[:, None] * small * 2 + random.normal(size=(rows, 128)) * 0.3
        return (random.normal(size=(rows, 20)) @ large + 0.15 * own).astype(np.float32), targets

    probe = solve_probe(*draw(1_000), 2, SoftmaxLoss(), seed)
    features, targets = draw(2_000)
    assert ((features @ probe.weight.T + probe.bias).argmax(1) == targets).mean() > 0.95


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), classes=st.integers(2, 4), several=st.booleans(), weighed=st.booleans())
def test_the_loss_of_constant_shares_is_that_of_the_best_biases(seed, classes, several, weighed):
    random = np.random.default_rng(seed)
    shape = (40, classes) if several else (40,)
    targets = random.integers(0, 2 if several else classes, shape)
    weights = random.uniform(0.5, 2, (*shape[:1], classes if several else 1)) if weighed else None
    value = measure_constant(targets, classes, weights)
    each = np.ones((40, classes if several else 1)) if weights is None else weights
    for _ in range(20):
        shares = random.dirichlet(np.ones(classes))
        cells = np.where(targets > 0, shares, 1 - shares) if several else shares[targets][:, None]
        assert value <= float((each * -np.log(cells)).sum() / each.sum()) + 1e-9


def test_scales_are_those_of_all_rows_however_many():
    features = np.random.default_rng(0).normal(3, 2, (10_000, 5)).astype(np.float32)
    mean, scale = _measure_scale(features)
    np.testing.assert_allclose(mean, features.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(scale, features.std(0, dtype=np.float64), rtol=0.02)


@pytest.mark.parametrize("method", ["lora", "full", "bitfit"])
def test_a_trained_hidden_layer_adds_no_shift(method, backbones):
    backbone = resolve_backbone(str(backbones["distilbert"]))
    module, new_modules = load_classifier(backbone, ("a", "b"))
    straighten_hidden_layer(module, backbone.family, new_modules)
    model = resolve(method, {}).apply(module, backbone.family, new_modules)
    engine, _ = open_engine(model, Precision("fp32", "test"), backbone.family)
    network = Network(engine, backbone.family, 2, backbone.padding)
    straight = find_shift(network)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "pre_classifier" in name and parameter.requires_grad:
                parameter.add_(0.1)
    assert find_shift(network) == 0.0 != straight
