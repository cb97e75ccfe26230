"""The estimator: scikit-learn's rules, the types of the classes, and a run that knows them by name."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textune.bundle import read_manifest
from textune.config.aliases import AliasNote
from textune.errors import BundleError, ConfigError, ModelError
from textune.files import read_json_lines
from textune.inference import Predictor
from textune.run.seen_rows import SeenRowsWarning
from textune.sklearn import TextClassifier
from tiny import make_rows


@pytest.fixture(scope="module")
def estimator(backbone: Path) -> TextClassifier:
    more = {"device": "cpu", "precision": "fp32", "threads": 1, "validation_fraction": 0.2}
    return TextClassifier(backbone=str(backbone), epochs=4, learning_rate=5e-3, batch_size=8, settings=more)


@pytest.fixture(scope="module")
def brief(estimator: TextClassifier) -> TextClassifier:
    """One that need not learn."""
    return TextClassifier(
        **estimator.get_params() | {"epochs": 1, "settings": {**estimator.settings, "contrast_steps": 0}}
    )


@pytest.mark.parametrize("kind", ["text", "integer", "boolean"])
def test_estimator_keeps_the_type_of_its_classes(kind: str, estimator: TextClassifier) -> None:
    from sklearn.base import clone

    texts, labels = zip(*make_rows(40), strict=True)
    made: Any = {"text": np.asarray(labels), "integer": np.asarray([10 if x == "positive" else -3 for x in labels]),
                 "boolean": np.asarray([x == "positive" for x in labels])}[kind]  # fmt: skip
    fitted = clone(estimator).fit(list(texts), made)
    assert fitted.classes_.tolist() == sorted(set(made.tolist())) and fitted.classes_.dtype == made.dtype
    probabilities = fitted.predict_proba(texts)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-9)
    predicted = fitted.predict(texts)
    assert predicted.dtype == made.dtype and np.array_equal(predicted, fitted.classes_[probabilities.argmax(1)])
    with pytest.warns(SeenRowsWarning, match="all 40 rows were seen"):
        assert fitted.score(texts, made) > 0.7


def test_few_rows_are_all_trained_on_and_pickled_without_checkpoints(brief: TextClassifier) -> None:
    from sklearn.base import clone

    more = {k: v for k, v in brief.settings.items() if k != "validation_fraction"}
    fitted = clone(brief).set_params(settings=more).fit(*zip(*make_rows(24), strict=True))
    log = read_json_lines(Path(fitted.run_folder_) / "metrics.jsonl")
    assert not [line for line in log if line["kind"] == "evaluation" and "loss" in line], "no rows are held out"
    assert read_manifest(Path(fitted.run_folder_)).temperature != 1
    assert not (Path(fitted.run_folder_) / "checkpoints").exists()


def test_estimators_run_knows_the_classes_by_what_they_are_called(brief: TextClassifier, tmp_path: Path) -> None:
    from sklearn.base import clone

    texts, labels = zip(*make_rows(40), strict=True)
    weighed = clone(brief).set_params(settings={**brief.settings, "class_weights": "negative=1,positive=3"})
    weighed.fit(texts, labels).save(tmp_path / "kept")
    manifest = read_manifest(tmp_path / "kept")
    assert manifest.labels == manifest.label_values == ("negative", "positive")
    assert Predictor.load(tmp_path / "kept").predict(texts) == weighed.predict(texts).tolist()
    with pytest.raises(ConfigError, match="in the order of classes_"):
        clone(brief).set_params(settings={"labels": "positive,negative"}).fit(texts, labels)
    blank = ["" if label == "negative" else label for label in labels]
    unnamed = clone(brief).fit(texts, blank)
    assert set(unnamed.predict(texts)) <= {"", "positive"}
    unnamed.save(tmp_path / "unnamed")
    assert read_manifest(tmp_path / "unnamed").labels == ("0", "1")


def test_estimator_in_a_pipeline_and_cross_validation(brief: TextClassifier, tmp_path: Path) -> None:
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    texts, labels = zip(*make_rows(40), strict=True)
    scores = cross_val_score(brief, np.asarray(texts), np.asarray(labels), cv=2, error_score="raise")
    assert len(scores) == 2 and ((scores >= 0) & (scores <= 1)).all()
    pipeline = make_pipeline(FunctionTransformer(lambda x: [t.lower() for t in x]), clone(brief))
    pipeline.fit([t.upper() for t in texts], labels)
    assert set(pipeline.predict(texts)) <= {"negative", "positive"}
    with pytest.raises(NotFittedError):
        clone(brief).predict(texts)
    assert clone(brief).get_params() == brief.get_params()
    pipeline[-1].save(tmp_path / "kept")
    kept = Predictor.load(tmp_path / "kept", precision="fp32")  # as the estimator's settings say
    np.testing.assert_allclose(kept.predict_proba(texts), pipeline[-1].predict_proba(texts), atol=1e-9)


def test_a_dumped_estimator_answers_in_another_process(brief: TextClassifier, tmp_path: Path) -> None:
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    fitted = clone(brief).fit(*zip(*make_rows(40), strict=True))
    texts = ["a good film", "dull"]
    fresh = copy.deepcopy(fitted)
    before = pickle.loads(pickle.dumps(fresh))  # before its model was ever loaded
    expected = fitted.predict_proba(texts)
    after = pickle.loads(pickle.dumps(fitted))
    for other in (fresh, before, after):
        assert other.run_folder_ != fitted.run_folder_
        np.testing.assert_allclose(other.predict_proba(texts), expected, atol=1e-6)
    with pytest.raises(NotFittedError):
        pickle.loads(pickle.dumps(clone(fitted))).predict(texts)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(fitted))
    code = "import pickle, sys; print(*pickle.load(open(sys.argv[1], 'rb')).predict(['a good film']))"
    words = [sys.executable, "-c", code, str(tmp_path / "model.pickle")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(fitted.predict(["a good film"])[0])]


def test_an_estimator_finds_a_base_model_that_moved_and_loads_as_it_trained(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shutil.copytree(backbone, tmp_path / "here")
    chosen = {"device": "cpu", "precision": "fp32", "epochs": 1, "validation_fraction": 0.2}
    fitted = TextClassifier(backbone=str(here), settings=chosen).fit(*zip(*make_rows(24), strict=True))
    assert "fp32" in str(fitted._load())
    expected, moved = fitted.predict_proba(["a good film"]), pickle.loads(pickle.dumps(fitted))
    there = shutil.move(here, tmp_path / "there")
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "another-cache"))
    with pytest.raises(ModelError, match="does not know"):
        moved.predict(["a good film"])
    moved.set_params(backbone=str(there))
    np.testing.assert_allclose(moved.predict_proba(["a good film"]), expected, atol=1e-6)


def test_missing_texts_and_labels_are_refused_as_scikit_learn_does(backbone: Path) -> None:
    make = lambda: TextClassifier(backbone=str(backbone), epochs=1, max_length=32)  # noqa: E731
    texts = [f"{word} film {i}" for i in range(12) for word in ("good", "bad")]
    labels: list[Any] = [i % 2 for i in range(24)]
    for missing in (None, float("nan"), np.nan):
        with pytest.raises(ValueError, match="y: label 3 is missing"):
            make().fit(texts, [*labels[:2], missing, *labels[3:]])
        with pytest.raises(ValueError, match="X: text 3 is missing"):
            make().fit([*texts[:2], missing, *texts[3:]], labels)


def test_a_fit_that_fails_leaves_the_estimator_as_it_was(
    brief: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.base import clone

    texts, labels = zip(*make_rows(40), strict=True)
    fitted = clone(brief).fit(texts, labels)
    expected = fitted.predict(texts).tolist()
    refused = {"y has one class, 'zeta'": (texts, ["zeta"] * 40), "X is empty": ([], [])}
    for message, rows in refused.items():
        with pytest.raises(ValueError, match=message):
            fitted.fit(*rows)
    with pytest.raises(ConfigError, match="task=multi_label: TextClassifier gives one label per text"):
        clone(brief).set_params(settings={"task": "multi_label"}).fit(texts, labels)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("textune.run.train_only", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(texts, [f"other {label}" for label in labels])
    assert fitted.classes_.tolist() == ["negative", "positive"]
    fitted._predictor = None
    assert fitted.predict(texts).tolist() == expected


def test_an_estimator_is_saved_whole_or_not_at_all(
    brief: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.base import clone

    fitted = clone(brief).fit(*zip(*make_rows(40), strict=True))

    def interrupt(_: Path, target: Path, **__: Any) -> None:
        Path(target, "textune.json").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("textune.sklearn.shutil.copytree", interrupt)
        fitted.save(tmp_path / "kept")
    assert not list(tmp_path.iterdir())
    fitted.save(tmp_path / "kept")
    assert read_manifest(tmp_path / "kept").labels == ("negative", "positive")
    with pytest.raises(BundleError, match="already exists"):
        fitted.save(tmp_path / "kept")


@pytest.mark.parametrize("settings", ["epochs=1", 5, ["epochs"], {"epochs"}])
def test_settings_that_are_no_mapping_are_refused(settings: Any) -> None:
    texts, labels = zip(*make_rows(8), strict=True)
    with pytest.raises(ConfigError, match=f"settings=: is of type {type(settings).__name__}, not a mapping"):
        TextClassifier(settings=settings).fit(texts, labels)


@pytest.mark.parametrize(
    "name", ["data", "name", "runs_dir", "test", "test_text", "test_text_pair", "test_label", "test_fraction"]
)
def test_settings_that_the_estimator_decides_on_are_refused(name: str) -> None:
    texts, labels = zip(*make_rows(8), strict=True)
    with pytest.raises(ConfigError, match=f"settings=: {name} .*\n.*textune.train"):
        TextClassifier(settings={"epochs": 1, name: "x"}).fit(texts, labels)


@pytest.mark.parametrize("labels", [[1, "a"], ["a", 1.5], [True, "no"], [b"a", 1]])
@pytest.mark.parametrize("form", [list, lambda labels: np.asarray(labels, object)])
def test_labels_of_several_types_are_refused(labels: list[Any], form: Any) -> None:
    with pytest.raises(ValueError, match="y: the labels are of several types"):
        TextClassifier().fit(["a good film", "a bad film"] * 4, form(labels * 4))


WEIGHTS: dict[str, Any] = {
    "give one number for each of the 40 texts": [1.0] * 3,
    "all weights are 0": [0] * 40,
    "must be finite and at least 0": [float("nan")] * 40,
    "at least 0": [-1] * 20 + [1] * 19 + [2],
    "give one number for each text": ["heavy"] * 40,
}


def test_a_score_needs_texts_and_weights_that_weigh(brief: TextClassifier) -> None:
    from sklearn.base import clone

    texts, labels = zip(*make_rows(40), strict=True)
    fitted = clone(brief).fit(texts, labels)
    for words, weights in WEIGHTS.items():
        with pytest.raises(ValueError, match=f"sample_weight.*{words}"):
            fitted.score(texts, labels, sample_weight=weights)
    with pytest.raises(ValueError, match="X is empty"):
        fitted.score([], [])
    right = fitted.predict(texts) == np.asarray(labels)
    with pytest.warns(SeenRowsWarning):
        assert fitted.score(texts, labels, sample_weight=right + 1) == pytest.approx(
            2 * right.sum() / (40 + right.sum())
        )


@pytest.mark.parametrize(
    ("parameters", "settings", "message"),
    [
        ({"method": "vera"}, {"method": "lora"}, "method='lora', but the parameter is method='vera'"),
        ({"method": "vera"}, {"method": {"name": "lora", "r": 4}}, "the parameter is method='vera'"),
        ({"epochs": 1}, {"epochs": 3}, "epochs=3, but the parameter is epochs=1"),
        ({"learning_rate": 1e-3}, {"lr": "5e-4"}, "learning_rate='5e-4', but the parameter is learning_rate=0.001"),
        ({"seed": 1}, {"random_state": 2}, "seed=2, but the parameter is seed=1"),
    ],
)
@pytest.mark.filterwarnings("ignore::textune.config.aliases.AliasNote")
def test_settings_may_not_contradict_a_parameter(
    parameters: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    texts, labels = zip(*make_rows(8), strict=True)
    with pytest.raises(ConfigError, match=message):
        TextClassifier(**parameters, settings=settings).fit(texts, labels)


def test_settings_and_parameters_are_joined(
    brief: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = []

    def keep(config: Any, *_: Any) -> None:
        configs.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("textune.run.train_only", keep)
    texts, labels = zip(*make_rows(8), strict=True)
    for parameters, settings in (
        ({"method": "vera", "epochs": 1}, {"method": {"r": 4}, "epochs": "1.0", "seed": 7}),
        ({"method": "lora", "seed": 3}, {"method": {"name": "lora", "r": 2}, "seed": 3, "epochs": None}),
        ({"epochs": 2}, {"peft_method": "lora", "rank": 8, "epochs": None, "random_state": None}),
    ):
        with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
            warnings.simplefilter("ignore", AliasNote)
            TextClassifier(**parameters, settings=settings).fit(texts, labels)
    found = [(c.method.name, dict(c.method.options), c.training.epochs, c.training.seed) for c in configs]
    assert found == [("vera", {"r": 4}, 1.0, 7), ("lora", {"r": 2}, None, 3), ("lora", {"r": 8}, 2.0, 42)]


def test_tables_and_names_of_other_tools_in_settings_are_refused_like_their_own() -> None:
    import pandas as pd

    texts, labels = zip(*make_rows(8), strict=True)
    table = pd.DataFrame({"text": texts, "label": labels})
    with pytest.raises(ConfigError, match=r"validation=<DataFrame>: must be text"):
        TextClassifier(settings={"validation": table}).fit(texts, labels)
    with (
        pytest.warns(AliasNote, match="test_size= is read as test_fraction"),
        pytest.raises(ConfigError, match="settings=: test_fraction has no effect"),
    ):
        TextClassifier(settings={"test_size": 0.2}).fit(texts, labels)


@pytest.mark.parametrize(
    "settings",
    [
        {"class_weights": {True: 5, False: 1}, "costs": {True: {False: 5}}},
        {"class_weights": {np.True_: 5, np.False_: 1}, "threshold_label": np.True_, "threshold_for": "f1"},
        {"class_weights": "True=5,False=1", "threshold_label": True, "threshold_for": "f1"},
        {"labels": ["False", "True"]},
        {"labels": [False, True]},
    ],
)
def test_settings_name_boolean_classes_as_python_does(settings: dict[str, Any], brief: TextClassifier) -> None:
    from sklearn.base import clone

    texts, labels = zip(*make_rows(110), strict=True)
    truth = np.array([label == "positive" for label in labels])
    more = {**brief.settings, "validation_fraction": 0.5, **settings}
    fitted = clone(brief).set_params(settings=more).fit(texts, truth)
    assert fitted.classes_.dtype == bool and fitted.predict(texts[:4]).dtype == bool
    manifest = read_manifest(Path(fitted.run_folder_))
    assert [label.lower() for label in manifest.labels] == ["false", "true"]
    if "labels" not in settings:
        assert manifest.labels == ("False", "True") and manifest.label_values == ("false", "true")
