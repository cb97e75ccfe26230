"""A scikit-learn estimator for one run: fit, predict and predict_proba, in pipelines and cross-validation."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from textune.bundle import expand_home
from textune.config import build_config, merge_settings
from textune.config.aliases import resolve_aliases
from textune.config.defaults import has_few_rows
from textune.config.schema import method_mapping
from textune.config.values import LabelPairs, read_name, show_value
from textune.data import describe_hidden, describe_twins
from textune.data.label_sets import describe_joined
from textune.data.list_cells import parse_list
from textune.data.spelling import find_same_labels, reveal
from textune.errors import BundleError, ConfigError, DataError, ModelError
from textune.evaluation import Headline
from textune.evaluation.intervals import wilson_interval
from textune.files import confined_path, write_folder
from textune.inference.texts import is_missing, is_table, list_texts, take_column
from textune.tasks import find_task

if TYPE_CHECKING:
    from textune.inference import Predictor

_OF_PROCESS = ("_folder", "_predictor", "run_folder_")
_FILES = "_files"
_DEFAULT_SEED = 42
_OWNED = {
    "data": "is what fit is given: X and y",
    "name": "is the estimator's own: the run is kept in a temporary folder",
    "runs_dir": "is the estimator's own: the run is kept in a temporary folder",
    **dict.fromkeys(
        ("test", "test_text", "test_text_pair", "test_label", "test_fraction", "test_sample"),
        "has no effect: fit measures on no test rows",
    ),
}
"""The settings that the estimator decides on, and why."""
_ONE_LABEL = "TextClassifier takes one label per text; for several use textune.train(rows, task='multi_label')"


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fine-tune a transformer on texts and labels.

    The run is trained in a temporary folder that goes with the estimator; `save` keeps it. settings: any other
    setting of `textune settings`, as a mapping, which may not contradict a parameter that is given here.
    What is None is decided by the rules of `textune train`.
    """

    _predictor: Any

    def __init__(
        self,
        method: str | None = None,
        backbone: str | None = None,
        epochs: float | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        max_length: int | None = None,
        validation_fraction: float | None = None,
        seed: int = _DEFAULT_SEED,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_length = max_length
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.settings = settings

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> TextClassifier:  # noqa: N803
        """Train on texts X and labels y of any type; return self."""
        from textune.progress import Silent
        from textune.run import train_only

        chosen = _check_settings(self.settings)
        names = ("method", "backbone", "epochs", "learning_rate", "batch_size", "max_length", "validation_fraction")
        settings = _join_settings({name: getattr(self, name) for name in (*names, "seed")}, chosen)
        texts, labels = _list_pairs(X, y)
        try:
            classes, codes = np.unique(labels, return_inverse=True)
        except TypeError as error:
            raise ValueError(f"y: the labels are of several types: {error}") from error
        if len(classes) == 1:
            raise ValueError(f"y has one class, {classes.tolist()[0]!r}; a classifier needs two or more")
        _check_spellings(labels, listed="task" in chosen)
        folder = tempfile.TemporaryDirectory(prefix="textune-")
        pairs = _name_classes(classes)
        decided = settings.keys() & {"patience", "threshold_for", "abstain_for", "set_coverage", "validation"}
        if settings["validation_fraction"] is None and not decided and has_few_rows(len(texts), len(classes)):
            settings["validation_fraction"] = 0.0  # as `textune train`, which has test rows to evaluate on
        fixed = {
            "data": "rows",
            "labels": pairs,
            "test_fraction": 0.0,
            "task": "single_label",
        }
        config = build_config(fixed | settings | {"runs_dir": folder.name, "name": "run"})
        if not find_task(config.data.task).chooses_one:
            raise ConfigError(
                f"task={config.data.task}: TextClassifier gives one label per text", hint="use textune.train"
            )
        written = config.data.labels or ()
        _refuse_other_labels(written, pairs)
        rows = [{"text": text, "label": written[code][0]} for text, code in zip(texts, codes, strict=True)]
        run = train_only(config, Silent(), {"data": rows})
        # together, and only now: after a fit that fails the estimator is the one it was before
        self.classes_, self._folder, self.run_folder_, self._predictor = classes, folder, run, None
        self.n_features_in_ = 1
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803
        """Return probabilities: float64 [texts, classes], columns in the order of classes_."""
        check_is_fitted(self, "run_folder_")
        if self._predictor is None:
            self._predictor = self._load()
        return np.asarray(self._predictor.predict_proba(_list_texts(X)))

    def _load(self) -> Predictor:
        """Load the run as it was trained; a base model that moved is looked for where `backbone` says."""
        from textune.inference import load

        config = build_config(_check_settings(self.settings))
        training, model = config.training, config.model
        options = {"trust": model.trust, "device": training.device, "precision": training.precision}
        place = self.backbone if self.backbone is not None else model.backbone
        try:
            return load(self.run_folder_, **options)
        except ModelError:
            if place is None or not expand_home(place).is_dir():
                raise
            return load(self.run_folder_, backbone=str(place), **options)

    def predict(self, X: Sequence[str], abstain: float | bool | None = None) -> NDArray[Any]:  # noqa: N803
        """Return the class of each text, by the threshold or the costs of `settings` where there are any.

        abstain: None instead of a class below this confidence, in an array of objects; True: that of abstain_for=.
        """
        from textune.inference.choices import find_abstained, read_choices

        probabilities, task = self.predict_proba(X), self._task()
        choices = read_choices(task, abstain)
        classes = np.asarray(self.classes_[task.decide(probabilities).argmax(1)])
        abstained = find_abstained(task, probabilities, choices)
        if abstained is None:
            return classes
        answers = classes.astype(object)
        answers[abstained] = None
        return answers

    def predict_sets(self, X: Sequence[str], coverage: float | None = None) -> list[NDArray[Any]]:  # noqa: N803
        """Return the classes that cannot be ruled out for each text, most probable first.

        coverage: the share of texts whose class is in its set; default: set_coverage= of `settings`, or 0.9.
        """
        from textune.inference.choices import list_sets, read_choices

        probabilities, task = self.predict_proba(X), self._task()
        choices = read_choices(task, sets=True if coverage is None else coverage)
        numbers = [str(number) for number in range(len(self.classes_))]
        sets = list_sets(task, probabilities, numbers, choices) or []
        return [self.classes_[[int(number) for number in each]] for each in sets]

    def _task(self) -> Any:
        """Return the run's task, which decides on answers; `predict_proba` has loaded it."""
        return self._predictor.task

    def score(self, X: Sequence[str], y: Sequence[Any], sample_weight: Any = None) -> float:  # noqa: N803
        """Return the accuracy on texts X and labels y. sample_weight: of each text, at least 0; default: all the same.

        A SeenRowsWarning tells of texts that the estimator was trained on, with the accuracy on the others.
        """
        check_is_fitted(self, "run_folder_")
        texts, labels = _list_pairs(X, y)
        weights = None if sample_weight is None else _check_weights(sample_weight, len(texts))
        answers = self.predict(texts)
        right = np.array([answer == label for answer, label in zip(answers, labels, strict=True)], bool)
        self._warn_of_seen(texts, right)
        return float(np.average(right, weights=weights))

    def _warn_of_seen(self, texts: list[str], right: NDArray[np.bool_]) -> None:
        from textune.bundle import read_manifest
        from textune.run.seen_rows import SeenRowsWarning, find_seen_texts

        def measure(rows: NDArray[np.int64]) -> Headline:
            share = float(right[rows].mean())
            return Headline("accuracy", share, wilson_interval(share, len(rows)))

        seen = find_seen_texts(self.run_folder_, read_manifest(self.run_folder_, verify=False), texts, measure)
        if seen.seen:
            warnings.warn("; ".join(seen.describe()), SeenRowsWarning, stacklevel=3)

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters and, once fitted, the bytes of the bundle: its folder goes with this process."""
        state = {key: value for key, value in super().__getstate__().items() if key not in _OF_PROCESS}
        if hasattr(self, "run_folder_"):
            files = [path for path in self.run_folder_.rglob("*") if path.is_file()]
            state[_FILES] = {path.relative_to(self.run_folder_).as_posix(): path.read_bytes() for path in files}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the bundle to a folder of this process."""
        files = state.pop(_FILES, None)
        super().__setstate__(state)
        if files is None:
            return
        self._open_folder()
        for name, content in files.items():
            path = confined_path(self.run_folder_, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def _open_folder(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="textune-")
        self.run_folder_ = Path(self._folder.name) / "run"
        self._predictor = None

    def save(self, folder: str | Path) -> None:
        """Copy the run's bundle to a new folder, whole or not at all; raise BundleError if something is there."""
        check_is_fitted(self, "run_folder_")
        target = Path(folder)
        if target.exists() or target.is_symlink():
            raise BundleError(f"{target}: already exists", hint="save to a new folder")
        with write_folder(target) as partial:
            shutil.copytree(self.run_folder_, partial, dirs_exist_ok=True)


def _check_settings(settings: Any) -> dict[str, Any]:
    """Return the settings; raise ConfigError for what is no mapping, and for what the estimator sets itself."""
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise ConfigError(
            f"settings=: is of type {type(settings).__name__}, not a mapping",
            hint="give names and values, such as settings={'weight_decay': 0.01}",
        )
    resolved = resolve_aliases(settings)
    if owned := [name for name in resolved if name in _OWNED]:
        raise ConfigError(f"settings=: {owned[0]} {_OWNED[owned[0]]}", hint="leave it out, or use textune.train")
    return resolved


def _join_settings(parameters: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the settings; raise ConfigError where both give a setting, but not the same value.

    seed= of the settings replaces the default of the parameter, which nobody need have given.
    """
    joined = {**parameters, **{name: value for name, value in chosen.items() if value is not None}}
    for name, value in parameters.items():
        other = chosen.get(name)
        if value is None or other is None or (name == "seed" and value == _DEFAULT_SEED):
            continue
        if name == "method":
            joined[name] = merge_settings({name: value}, {name: other})[name]
            agree = {**joined[name], **method_mapping(value)} == joined[name]
        else:
            agree = build_config({name: value}) == build_config({name: other})
        if not agree:
            raise ConfigError(
                f"settings=: {name}={show_value(other)}, but the parameter is {name}={show_value(value)}",
                hint=f"give {name} only once, or leave the parameter at {_DEFAULT_SEED if name == 'seed' else None}",
            )
    return joined


def _list_pairs(X: Any, y: Any) -> tuple[list[str], NDArray[Any]]:  # noqa: N803
    """Return the texts and their labels; raise ValueError where there are none or their numbers differ."""
    texts, labels = _list_texts(X), _one_label_each(y)
    if len(texts) != len(labels):
        raise ValueError(f"X has {len(texts)} texts, y has {len(labels)} labels")
    if not texts:
        raise ValueError("X is empty: give texts and their labels")
    return texts, labels


def _check_weights(sample_weight: Any, count: int) -> NDArray[np.float64]:
    """Return the weights: float64 [count]; raise ValueError for what gives no weighted mean."""
    try:
        weights = np.asarray(take_column(sample_weight), np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"sample_weight: {error}: give one number for each text") from error
    if weights.shape != (count,):
        raise ValueError(f"sample_weight has the shape {weights.shape}: give one number for each of the {count} texts")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight: must be finite and at least 0")
    if not weights.any():
        raise ValueError("sample_weight: all weights are 0, so nothing is measured")
    return weights


def _list_texts(X: Any) -> list[str]:  # noqa: N803
    """Return the texts of X, a table of one column included; raise ValueError for missing and empty ones."""
    try:
        return list_texts(take_column(X))
    except DataError as error:
        raise ValueError(f"X: {error}") from error


def _name_classes(classes: NDArray[Any]) -> list[tuple[str, str]]:
    """Return each class as settings write it and as the run shows it, such as true and True.

    Where the str() of the classes are not distinct, their numbers stand for both.
    """
    names = [str(label) for label in classes]
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        names = [str(number) for number in range(len(names))]
        return [(name, name) for name in names]
    written = [name if isinstance(label, str) else read_name(label) for name, label in zip(names, classes, strict=True)]
    return list(zip(written, names, strict=True))


def _check_spellings(labels: NDArray[Any], listed: bool) -> None:
    """Raise ValueError for words that print the same; warn of words that look alike or joined.

    listed: whether a list that is written as text may be one label.
    """
    words = Counter(str(label) for label in labels.ravel().tolist() if isinstance(label, str))
    for twins in find_same_labels(words):
        each = " and ".join(f"{reveal(label)} ({words[label]:,})" for label in twins)
        raise ValueError(f"y: the labels {each} differ only in spaces or in characters that do not print: clean y")
    if not listed and words and all(parse_list(label) is not None for label in words):
        raise ValueError(f"y: {next(iter(words))!r} is a list written as text; {_ONE_LABEL}")
    joined = "" if listed else describe_joined("y", [str(label) for label in labels.ravel()], "|")
    for line in (*describe_twins(words), *describe_hidden(words), *[joined] * bool(joined)):
        warnings.warn(f"y: {line}", UserWarning, stacklevel=3)


def _refuse_other_labels(pairs: LabelPairs, classes: Sequence[tuple[str, str]]) -> None:
    """Raise ConfigError if labels= in the settings has other classes, or another order, than classes_."""
    if len(pairs) != len(classes) or any(not {*one} & {*pair} for one, pair in zip(classes, pairs, strict=True)):
        raise ConfigError(
            "labels=: must list the classes of y in the order of classes_",
            hint=f"leave it out, or list {', '.join(name for _, name in classes[:20])} in this order",
        )


def _one_label_each(y: Any) -> NDArray[Any]:
    """Return y as an array, one label per text; raise ValueError where it is anything else."""
    y = take_column(y)
    if getattr(y, "ndim", 1) > 1 or (is_table(y) and not hasattr(y, "ndim")):
        raise ValueError(_ONE_LABEL)
    if isinstance(y, str | bytes | Mapping | set | frozenset) or not isinstance(y, Iterable) or is_table(y):
        raise ValueError(f"y: labels are given as a {type(y).__name__}; give a list of labels, one per text")
    labels = y.to_pylist() if hasattr(y, "to_pylist") else list(y)
    if any(isinstance(label, list | tuple | set | frozenset | np.ndarray) for label in labels):
        raise ValueError(_ONE_LABEL)
    missing = [number for number, label in enumerate(labels, 1) if is_missing(label)]
    if missing:
        raise ValueError(f"y: label {missing[0]} is missing ({len(missing)} of {len(labels)} are)")
    kinds = sorted({type(label).__name__ for label in labels})
    words = sum(isinstance(label, str | bytes) for label in labels)
    if 0 < words < len(labels):  # an array of them would turn the others into words
        raise ValueError(f"y: the labels are of several types: {', '.join(kinds)}; give all as words or all as numbers")
    array = np.asarray(y) if isinstance(y, np.ndarray) or hasattr(y, "dtype") else np.asarray(labels)
    return array if array.ndim == 1 else np.asarray(labels, dtype=object)
