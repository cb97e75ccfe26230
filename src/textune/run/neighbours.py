"""Training rows in the space of the frozen backbone: those nearest to a text, and what the others say of a label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from textune.bundle import Manifest, read_plan
from textune.data import Examples, Labels, number_repeated
from textune.errors import BundleError
from textune.inference import LoadOptions
from textune.run.predicted_rows import read_own_settings
from textune.run.tables import encode_split, prepare_data
from textune.tasks import Task, task_of
from textune.tokens import load_tokenizer

if TYPE_CHECKING:
    from textune.training.head import Network

Floats = NDArray[np.float32]

NEIGHBOURS = 10
"""Neighbours that vote on a row's label."""
SHOWN = 3
_MOST_ROWS = 20_000
"""The most training rows that are embedded; from larger sets so many are drawn, with some of every class."""
_CELLS_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class Neighbour:
    """A training row near a text. similarity: the cosine of their frozen embeddings, centered on the training rows."""

    row: int
    label: str
    similarity: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class TrainingSpace:
    """Training rows and their frozen embeddings.

    directions: float32 [rows, width], centered, of length 1. marks: float32 [rows, labels]. features: as the backbone
    gives them. table: the setting that names their table.
    """

    examples: Examples
    labels: Labels
    features: Floats
    directions: Floats
    center: Floats
    marks: Floats
    embed: Any

    def find_nearest(self, queries: Floats, count: int, *, skip: NDArray[np.int64] | None = None) -> tuple[Any, Floats]:
        """Return positions of the nearest training rows and their similarities: [queries, count], nearest first.

        queries: directions. skip: for each query a position that is left out, -1 for none.
        """
        count = min(count, len(self.directions) - (skip is not None))
        nearest = np.zeros((len(queries), count), np.int64)
        similar = np.zeros((len(queries), count), np.float32)
        step = max(1, _CELLS_AT_ONCE // max(len(self.directions), 1))
        for start in range(0, len(queries), step):
            cosines = queries[start : start + step] @ self.directions.T
            if skip is not None:
                at = np.flatnonzero(skip[start : start + step] >= 0)
                cosines[at, skip[start : start + step][at]] = -np.inf
            top = np.argpartition(-cosines, count - 1, axis=1)[:, :count] if count else nearest[:0]
            order = np.argsort(-np.take_along_axis(cosines, top, 1), axis=1, kind="stable")
            nearest[start : start + step] = np.take_along_axis(top, order, 1)
            similar[start : start + step] = np.take_along_axis(cosines, nearest[start : start + step], 1)
        return nearest, similar

    def place(self, examples: Examples) -> Floats:
        """Return the directions of other rows: float32 [rows, width]."""
        return _normalize(self.embed(examples) - self.center)

    def vote(self, queries: Floats, *, skip: NDArray[np.int64] | None = None) -> Floats:
        """Return for each query the share of its ten nearest training rows that have each label."""
        nearest, _ = self.find_nearest(queries, NEIGHBOURS, skip=skip)
        shares = np.zeros((len(queries), self.marks.shape[1]), np.float32)
        for column in range(nearest.shape[1]):
            shares += self.marks[nearest[:, column]]
        return np.asarray(shares / max(nearest.shape[1], 1), np.float32)

    def show(self, queries: Floats) -> list[list[Neighbour]]:
        """Return the three nearest training rows of each query."""
        nearest, similar = self.find_nearest(queries, SHOWN)
        texts, rows, sets = self.examples.texts(), self.examples.rows(), self.examples.label_sets()
        names = dict(zip(self.labels.values, self.labels.names, strict=True))
        return [
            [
                Neighbour(int(rows[i]), ", ".join(names.get(x, x) for x in sets[i]), float(cosine), texts[i])
                for i, cosine in zip(found, cosines, strict=True)
            ]
            for found, cosines in zip(nearest.tolist(), similar.tolist(), strict=True)
        ]

    def predict_out_of_fold(self, task: Task, seed: int) -> NDArray[np.float64]:
        """Return each training row's probabilities by a linear probe that was solved without it: [rows, labels].

        A label that no other row has cannot be judged so; it is taken to be right.
        """
        from textune.training.probe import FOLDS, assign_folds, find_judged, solve_probe

        targets, texts = task.encode_targets(self.labels, self.examples), number_repeated(self.examples)
        loss, classes = replace(task.probe_loss(None, 0.0), texts=texts), len(self.labels)
        strength = solve_probe(self.features, targets, classes, loss, seed).strength
        fold_of = assign_folds(targets, seed, by_class=loss.folds_by_class, texts=texts)
        logits = np.zeros((len(targets), classes), np.float32)
        for fold in range(FOLDS):
            inside, outside = fold_of != fold, fold_of == fold
            if not inside.any():  # all rows have one text, or are in one fold with their copies
                continue
            probe = solve_probe(self.features[inside], targets[inside], classes, loss, seed, strength=strength)
            logits[outside] = self.features[outside] @ probe.weight.T + probe.bias
        probabilities = np.asarray(task.probabilities(logits), np.float64)
        unjudged = ~find_judged(targets, fold_of, texts)
        probabilities[unjudged] = (targets if targets.ndim == 2 else np.eye(classes)[targets])[unjudged]
        return probabilities


def read_training_rows(folder: Path, *, validation: bool = True) -> Examples:
    """Return the rows of the training table that a run did not hold out for its test.

    validation: with those that it held out for validation. Raises TextuneError if they cannot be read or have changed.
    """
    config = read_own_settings(folder, unused=("backbone", "init"))
    data = prepare_data(config)
    plan = read_plan(folder)
    if plan["data"]["training"]["sha256"] != data.train.fingerprint:
        raise BundleError(
            f"{folder}: the training table has changed since the run was trained",
            hint="put it back as it was, or train again",
        )
    if not validation or data.validation is None or config.data.validation is not None:
        return data.train
    return replace(data.train, arrow=pa.concat_tables([data.train.arrow, data.validation.arrow]))


def open_space(folder: Path, manifest: Manifest, training: Examples, options: LoadOptions) -> TrainingSpace:
    """Embed the training rows with the frozen backbone; raise ModelError."""
    from textune.training.head import choose_rows

    network = _open_frozen(folder, manifest, options)
    tokenizer, labels = load_tokenizer(folder), Labels(manifest.label_values, manifest.labels)

    def embed(examples: Examples) -> Floats:
        split = encode_split(examples, labels, tokenizer, manifest.max_length, manifest.long_text)
        return network.compute_features(split)

    targets = task_of(manifest).encode_targets(labels, training)
    chosen = choose_rows(targets, _MOST_ROWS, manifest.seed)
    examples = training if len(chosen) == len(training) else training.take(chosen)
    features = embed(examples)
    center = np.asarray(features.mean(axis=0, dtype=np.float64), np.float32)
    marks = labels.encode_sets(examples.label_sets())
    return TrainingSpace(examples, labels, features, _normalize(features - center), center, marks, embed)


def _open_frozen(folder: Path, manifest: Manifest, options: LoadOptions) -> Network:
    """Return the backbone as it was before tuning, with a new head whose input are the embeddings."""
    import torch

    from textune.backbones import load_classifier
    from textune.backbones.pooling import Pooling
    from textune.engine import open_engine, probe_precision
    from textune.inference.loading import choose_device, find_backbone
    from textune.methods import resolve_saved
    from textune.training.head import Network, straighten_hidden_layer

    backbone = find_backbone(folder, manifest.base_model, options.backbone, options.trust)
    task = task_of(manifest)
    method = resolve_saved(manifest.method, manifest.method_options).for_task(task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(manifest.seed)
        model, new_modules = load_classifier(
            backbone,
            manifest.labels,
            load_kwargs=method.load_kwargs(backbone.family),
            pooling=None if manifest.pooling is None else Pooling(manifest.pooling, 0),
            model_class=task.model_class,
            random_weights=manifest.new_modules,
        )
    straighten_hidden_layer(model, backbone.family, new_modules)
    device = choose_device(options.device)
    family, precision = backbone.family, probe_precision(options.precision, device)
    engine, _ = open_engine(model.to(device), precision, family, equal_lengths=family.guessed)
    return Network(engine.eval(), backbone.family, len(manifest.labels), backbone.padding)


def _normalize(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
