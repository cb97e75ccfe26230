"""Simpler classifiers for the rows that the tuned model is measured on, with thresholds tuned as its own are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data import Examples
from textune.errors import DataError
from textune.run.held_out import FOLDS, Folds
from textune.run.predictions import joined_texts
from textune.run.prepare import Prepared
from textune.run.untuned import UntunedBackbone
from textune.tasks import Task

Probabilities = NDArray[Any]
Targets = NDArray[Any]
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Rival:
    """One simpler classifier. predict: returns its thresholds, and its probabilities of the evaluation rows."""

    name: str
    key: str
    predict: Callable[[], tuple[Task, Probabilities]]


def list_rivals(prepared: Prepared, untuned: UntunedBackbone) -> list[Rival]:
    """Return the simpler classifiers of a run's task, from the weakest."""
    task, makers = prepared.task, _Rivals(prepared, untuned)
    predictions: dict[str, Callable[[], tuple[Task, Probabilities]]] = {
        "majority": makers.predict_majority,
        "tfidf": makers.predict_tfidf,
        "probe": makers.predict_probe,
        "base": makers.predict_base,
    }
    if not (task.defaults.solves_head and untuned.has_probe):
        del predictions["probe"]
    return [Rival(task.model_names[key], key, predict) for key, predict in predictions.items()]


class _Rivals:
    """Each of them fitted, tuned and asked. They are tuned on the kind of rows that the tuned model is.

    These are the validation rows; or all training rows, each answered by a classifier that did not see it.
    """

    def __init__(self, prepared: Prepared, untuned: UntunedBackbone) -> None:
        data, task = prepared.data, prepared.task
        self._prepared, self._task, self._untuned = prepared, task, untuned
        self._train, self._rows = data.train, data.evaluation[1]
        self._targets = task.encode_targets(data.labels, data.train)
        decides = task.tunes or task.decisions.costs is not None
        self._validation = data.validation if decides else None
        self._folds: Folds | None = None
        if decides and prepared.tunes_out_of_fold:
            with suppress(DataError):  # of the groups, so that the run is not tuned either
                self._folds = prepared.assign_folds()

    def predict_majority(self) -> tuple[Task, Probabilities]:
        """Answer every row alike."""
        return self._task.predict_majority(self._targets, len(self._rows), self._prepared.classes)

    def predict_tfidf(self) -> tuple[Task, Probabilities]:
        """Answer by the words of a text."""
        tables = [self._rows] if self._validation is None else [self._validation, self._rows]
        answers = self._fit_tfidf(np.arange(len(self._train)), tables)
        return self._tune(answers[-1], lambda _: answers[0], self._fold_tfidf)

    def predict_probe(self) -> tuple[Task, Probabilities]:
        """Answer by a regression on the frozen backbone."""

        def predict(examples: Examples) -> Probabilities:
            return self._task.probabilities(self._untuned.probe_logits(examples))

        def predict_out_of_fold() -> tuple[Probabilities, Targets]:
            rows, logits = self._untuned.probe_out_of_fold
            return self._task.probabilities(logits), self._targets[rows]

        return self._tune(predict(self._rows), predict, predict_out_of_fold)

    def predict_base(self) -> tuple[Task, Probabilities]:
        """Answer by a random head, which has seen no rows at all."""

        def predict(examples: Examples) -> Probabilities:
            return self._task.probabilities(self._untuned.base_logits(examples))

        return self._tune(predict(self._rows), predict, lambda: (predict(self._train), self._targets))

    def _fit_tfidf(self, rows: NDArray[np.int64], tables: Sequence[Examples]) -> list[Probabilities]:
        """Fit on these training rows, and return the probabilities of each table."""
        texts = [text for table in tables for text in joined_texts(table)]
        train, classes, seed = self._train.take(rows), self._prepared.classes, self._prepared.config.training.seed
        answers = self._task.predict_tfidf(joined_texts(train), self._targets[rows], texts, classes, seed)
        return np.split(answers, np.cumsum([len(table) for table in tables])[:-1])

    def _fold_tfidf(self) -> tuple[Probabilities, Targets]:
        """Return the probabilities of training rows, each fitted without it, and their targets."""
        assert self._folds is not None
        answers = np.zeros((len(self._train), self._prepared.classes))
        for fold in range(FOLDS):
            inside, outside = np.flatnonzero(self._folds.of != fold), np.flatnonzero(self._folds.of == fold)
            (answers[outside],) = self._fit_tfidf(inside, [self._train.take(outside)])
        return answers[self._folds.judged], self._targets[self._folds.judged]

    def _tune(
        self,
        answers: Probabilities,
        predict: Callable[[Examples], Probabilities],
        out_of_fold: Callable[[], tuple[Probabilities, Targets]],
    ) -> tuple[Task, Probabilities]:
        """Return the task as tuned for a classifier, or untuned where there are no rows for it, and its answers.

        predict: gives the probabilities of rows that it was not fitted on. out_of_fold: those of training rows, each
        by a classifier that was not fitted on it, and their targets. Expected costs are only as good as the
        probabilities: where costs decide, these get a temperature, as the tuned model's have.
        """
        if self._folds is not None:
            probabilities, targets = out_of_fold()
        elif self._validation is not None:
            probabilities = predict(self._validation)
            targets = self._task.encode_targets(self._prepared.data.labels, self._validation)
        else:
            probabilities = targets = np.zeros((0, self._prepared.classes))
        rival = self._task.as_rival()
        if len(targets) and rival.decisions.costs is not None and not rival.reads_sets:
            temperature = rival.fit_temperature(_take_log(probabilities), targets)
            answers = rival.probabilities(_take_log(answers) / temperature)
        return rival.tune(lambda: probabilities, targets), answers


def _take_log(probabilities: Probabilities) -> NDArray[np.float32]:
    """Return logits that give these probabilities."""
    return np.asarray(np.log(np.maximum(probabilities, _SMALLEST)), np.float32)
