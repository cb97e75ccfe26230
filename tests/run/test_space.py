"""Training rows judged by a probe that was solved without them: the words of `textune errors --review`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from textune.data import Examples, Labels
from textune.run.neighbours import TrainingSpace
from textune.run.review import review_training
from textune.tasks import build_task


def build_space(labels: list[str], texts: list[str], features: np.ndarray) -> TrainingSpace:
    """Return a space of rows with these features."""
    cells = {"row": list(range(len(texts))), "text": texts, "label": labels}
    known = Labels(tuple(sorted(set(labels))), tuple(sorted(set(labels))))
    marks = known.encode_sets([(label,) for label in labels])
    empty = np.zeros_like(features)
    return TrainingSpace(Examples(pa.table(cells), "made"), known, features, empty, empty[0], marks, None)


def test_a_label_that_no_other_row_has_is_not_doubted() -> None:
    random = np.random.default_rng(0)
    labels = ["a", "b"] * 30 + ["rare"]
    features = random.normal(size=(61, 8)).astype(np.float32)
    features[1:60:2] += 2
    space = build_space(labels, [f"text {i}" for i in range(61)], features)
    given = space.predict_out_of_fold(build_task("single_label"), seed=0)
    assert given[60].tolist() == [0, 0, 1] and given[:60, :2].max() < 1


def test_the_number_of_neighbours_is_the_one_there_is() -> None:
    random = np.random.default_rng(0)
    features = np.repeat([[3.0] * 4, [-3.0] * 4], 3, axis=0) + random.normal(size=(6, 4))
    space = build_space(["a", "a", "b", "b", "b", "b"], [f"text {i}" for i in range(6)], features.astype("f4"))
    directions = space.features / np.linalg.norm(space.features, axis=1, keepdims=True)
    rows = review_training(replace(space, directions=directions), build_task("single_label"), seed=0)
    assert rows and all("of the 5 nearest training texts" in row.why for row in rows)


def test_copies_of_a_row_do_not_vouch_for_its_label() -> None:
    """Five copies of each row, with labels of noise: a probe that saw the copies would believe all of them."""
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(40, 30)), 5, axis=0).astype(np.float32)
    labels = np.repeat(random.choice(["a", "b"], 40), 5).tolist()
    space = build_space(labels, [f"text {i // 5}" for i in range(200)], features)
    given = space.predict_out_of_fold(build_task("single_label"), seed=0)
    right = np.array([given[i]["ab".index(label)] for i, label in enumerate(labels)])
    assert right.mean() < 0.65
