"""A scikit-learn estimator for one run: fit, predict and predict_proba, in pipelines and cross-validation."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from textune.config.values import LabelPairs
from textune.errors import ConfigError, DataError
from textune.files import confined_path
from textune.inference.texts import is_missing, list_texts

_OF_PROCESS = ("_folder", "_predictor", "run_folder_")
_FILES = "_files"


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fine-tune a transformer on texts and labels.

    The run is trained in a temporary folder that goes with the estimator; `save` keeps it. settings: any other
    setting of `textune train --settings`, as a mapping. What is None is decided by the rules of `textune train`.
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
        seed: int = 42,
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
        from textune.config import build_config
        from textune.progress import Silent
        from textune.run import train_only

        texts, labels = _list_texts(X), _one_label_each(y)
        if len(texts) != len(labels):
            raise ValueError(f"X has {len(texts)} texts, y has {len(labels)} labels")
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self._folder = tempfile.TemporaryDirectory(prefix="textune-")
        names = ("method", "backbone", "epochs", "learning_rate", "batch_size", "max_length", "validation_fraction")
        values = _name_classes(self.classes_)
        settings = {k: getattr(self, k) for k in (*names, "seed")} | dict(self.settings or {})
        fixed = {
            "data": "rows",
            "labels": [(value, value) for value in values],
            "test_fraction": 0.0,
            "task": "single_label",
        }
        config = build_config(fixed | settings | {"runs_dir": self._folder.name, "name": "run"})
        _refuse_other_labels(config.data.labels or (), values)
        rows = [{"text": text, "label": values[code]} for text, code in zip(texts, codes, strict=True)]
        run = train_only(config, Silent(), {"data": rows})
        self.run_folder_ = run
        self._predictor = None
        self.n_features_in_ = 1
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803
        """Return probabilities: float64 [texts, classes], columns in the order of classes_."""
        check_is_fitted(self, "run_folder_")
        if self._predictor is None:
            from textune.inference import load

            self._predictor = load(self.run_folder_, trust=(self.settings or {}).get("trust"))
        return np.asarray(self._predictor.predict_proba(_list_texts(X)))

    def predict(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803
        """Return the class of each text."""
        check_is_fitted(self, "run_folder_")
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])

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
        """Copy the run's bundle to a folder."""
        check_is_fitted(self, "run_folder_")
        shutil.copytree(self.run_folder_, folder)


def _list_texts(X: Any) -> list[str]:  # noqa: N803
    """Return the texts of X, a column of a table included; raise ValueError for missing and empty ones."""
    values = np.asarray(X, dtype=object).ravel() if getattr(X, "ndim", 1) == 2 else X
    try:
        return list_texts(values)
    except DataError as error:
        raise ValueError(f"X: {error.message}") from error


def _name_classes(classes: NDArray[Any]) -> list[str]:
    """Return the run's names of the classes: their str(), or their numbers if those are not distinct."""
    names = [str(label) for label in classes]
    distinct = len(set(names)) == len(names) and all(name.strip() for name in names)
    return names if distinct else [str(number) for number in range(len(names))]


def _refuse_other_labels(pairs: LabelPairs, values: Sequence[str]) -> None:
    """Raise ConfigError if labels= in the settings has other classes, or another order, than classes_."""
    if len(pairs) != len(values) or any(value not in pair for value, pair in zip(values, pairs, strict=True)):
        raise ConfigError(
            "labels=: must list the classes of y in the order of classes_",
            hint=f"leave it out, or list {', '.join(values[:20])} in this order",
        )


def _one_label_each(y: Sequence[Any]) -> NDArray[Any]:
    """Return y as an array; raise ValueError if a text has several labels."""
    message = "TextClassifier takes one label per text; for several use textune.train(rows, task='multi_label')"
    if any(isinstance(label, list | tuple | set | frozenset | np.ndarray) for label in y):
        raise ValueError(message)
    missing = [number for number, label in enumerate(y, 1) if is_missing(label)]
    if missing:
        raise ValueError(f"y: label {missing[0]} is missing ({len(missing)} of {len(y)} are)")
    labels = np.asarray(y)
    if labels.ndim > 1 and labels.shape[1:] != (1,):
        raise ValueError(message)
    return labels
