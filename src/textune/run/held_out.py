"""Which rows training does not see: validation rows, or training rows out of fold.

Temperature, thresholds and other decisions come from them, so they are known before training begins.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.backbones import Backbone
from textune.config import RunConfig
from textune.config.defaults import calibrates_out_of_fold
from textune.data import number_repeated, split_folds
from textune.errors import DataError
from textune.methods import Method
from textune.run.tables import PreparedData
from textune.tasks import ProbeLoss, Task
from textune.training.head import MOST_ROWS_ALONE, PROBE, choose_rows
from textune.training.probe import FOLDS as PROBE_FOLDS
from textune.training.probe import draw_judged, find_judged

FOLDS = 2
"""Each model learns from one half of the rows: together they take as many steps as the run's own training, but all
contrastive steps each."""


@dataclass(frozen=True)
class Folds:
    """of: each training row's fold, int64 [rows]. judged: int64, the rows that the other half's model can answer."""

    of: NDArray[np.int64]
    judged: NDArray[np.int64]


def is_probe(config: RunConfig, method: Method) -> bool:
    """Return whether a run is the linear probe and nothing more; its open settings must be decided."""
    return not method.trains_body and config.training.head_init == PROBE and not config.training.epochs


def trains_twice_more(task: Task, config: RunConfig, method: Method, backbone: Backbone, data: PreparedData) -> bool:
    """Return whether further trainings, on half of the rows each, answer the rows that they did not see."""
    if data.validation is not None or is_probe(config, method) or not task.gives_labels:
        return False
    return calibrates_out_of_fold(len(data.train), len(data.labels), backbone.weight_megabytes, sets=task.reads_sets)


def assign_folds(task: Task, config: RunConfig, data: PreparedData) -> Folds:
    """Divide the training rows into halves; groups, or else equal texts, stay together.

    Raises DataError where all rows are of one group or have one text, and where the rows that the other half's model
    can answer have a single class.
    """
    targets, grouped = task.encode_targets(data.labels, data.train), config.data.group is not None
    fold_of = split_folds(data.train, FOLDS, config.split_seed, grouped=grouped)
    judged = np.flatnonzero(find_judged(targets, fold_of, number_repeated(data.train)))
    if not len(judged):
        raise DataError(_explain_none(targets, fold_of, data, grouped=grouped))
    return Folds(fold_of, judged)


def _explain_none(targets: NDArray[Any], fold_of: NDArray[np.int64], data: PreparedData, *, grouped: bool) -> str:
    """Return why no row can be answered by the other half's model."""
    if targets.ndim == 1:
        first, second = (set(targets[fold_of == fold].tolist()) for fold in range(FOLDS))
        if grouped and (apart := first ^ second):
            return f"all rows of '{data.labels.names[min(apart)]}' are in one half of the groups"
        if len(first & second) < 2:
            return "fewer than two classes have rows in both halves"
    return "the same texts are in both halves"


def fold_groups(config: RunConfig, data: PreparedData) -> NDArray[np.int64] | None:
    """Return a fold of the probe for each training row, whole groups in one: int64 [rows].

    None without groups, or with a single one.
    """
    if config.data.group is None:
        return None
    for folds in (PROBE_FOLDS, 2):
        with suppress(DataError):  # fewer groups than folds
            return split_folds(data.train, folds, config.split_seed, grouped=True)
    return None


def build_probe_loss(
    task: Task, config: RunConfig, data: PreparedData, weights: NDArray[np.float32] | None = None
) -> ProbeLoss:
    """Return what a solved head minimizes, and the folds that judge it. weights: of the classes."""
    loss = task.probe_loss(weights, config.training.label_smoothing)
    return replace(loss, fold_of=fold_groups(config, data), texts=number_repeated(data.train))


def list_unseen_targets(
    task: Task, config: RunConfig, method: Method, backbone: Backbone, data: PreparedData
) -> NDArray[Any]:
    """Return the targets of the rows that a run's decisions will come from; of no rows where there are none."""
    if data.validation is not None:
        return task.encode_targets(data.labels, data.validation)
    targets = task.encode_targets(data.labels, data.train)
    if is_probe(config, method):
        if config.data.group is not None and fold_groups(config, data) is None:
            return targets[:0]
        rows = choose_rows(targets, MOST_ROWS_ALONE, config.training.seed)
        loss = build_probe_loss(task, config, data).take(rows)
        drawn = draw_judged(targets[rows], loss, config.training.seed)
        return targets[rows][drawn.rows[drawn.judged]]
    if trains_twice_more(task, config, method, backbone, data):
        with suppress(DataError):
            return targets[assign_folds(task, config, data).judged]
    return targets[:0]
