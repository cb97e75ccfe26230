"""The two cheap rivals of `accuracy_frontier.py`: logistic regression on TF-IDF, and on frozen embeddings.

The embeddings are used as is usual: L2-normalised means of the same backbone, C = 10 with 8 rows per class or with
several labels per text, else C by 3-fold cross-validation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from textune.run.prepare import Prepared
from textune.run.rivals import list_rivals


@dataclass(frozen=True)
class Answer:
    """What a rival reached. score: accuracy, or micro F1. right: bool [test rows]; empty with several labels."""

    score: float
    right: NDArray[np.bool_]


def ask_tfidf(prepared: Prepared) -> Answer:
    """Fit and tune the baseline that every run has, on the rows that the run learns from."""
    nothing: Any = SimpleNamespace(has_probe=False)  # the untuned backbone, which this rival does not need
    (rival,) = [rival for rival in list_rivals(prepared, nothing) if rival.key == "tfidf"]
    return _judge(prepared, *rival.predict())


def ask_embeddings(prepared: Prepared, learn: pl.DataFrame, size: str) -> Answer:
    """Fit scikit-learn's logistic regression on frozen mean embeddings.

    learn: all rows of the cell, of which none are held out, since it chooses its C by folds. With several labels per
    text it needs thresholds, so there it is fitted on the run's training rows and tuned on its validation rows.
    """
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.multiclass import OneVsRestClassifier

    data, longest, seed = prepared.data, prepared.config.tokens.max_length, prepared.config.training.seed
    task, test = prepared.task, data.evaluation[1]
    assert longest is not None
    asked = embed_once(tuple(test.texts()), longest)
    if task.reads_sets:
        assert data.validation is not None
        model = OneVsRestClassifier(LogisticRegression(C=10.0, max_iter=1_000))
        model.fit(embed(data.train.texts(), longest), task.encode_targets(data.labels, data.train))
        held_out = model.predict_proba(embed(data.validation.texts(), longest))
        tuned = task.as_rival().tune(lambda: held_out, task.encode_targets(data.labels, data.validation))
        return _judge(prepared, tuned, model.predict_proba(asked))
    number = {value: i for i, value in enumerate(data.labels.names)}
    texts = [prepared.data.columns.joiner.join(p for p in row if p) for row in learn.select(data.columns.text).rows()]
    kept = [i for i, text in enumerate(texts) if text.strip()]
    values = np.array([number[value] for value in learn["label"]])[kept]
    model = (
        LogisticRegression(C=10.0, max_iter=1_000)
        if size == "8c"
        else LogisticRegressionCV(Cs=[1, 10, 100], cv=3, max_iter=300, random_state=seed)
    )
    model.fit(embed([texts[i] for i in kept], longest), values)
    right = model.predict(asked) == task.encode_targets(data.labels, test)
    return Answer(float(right.mean()), right)


def _judge(prepared: Prepared, task: Any, probabilities: NDArray[Any]) -> Answer:
    data = prepared.data
    labels, test = data.labels, data.evaluation[1]
    targets, unknown = task.encode_targets(labels, test), task.find_unknown(labels, test)
    if not task.reads_sets:
        right = probabilities.argmax(1) == targets
        return Answer(float(right.mean()), right)
    seed = prepared.config.training.seed
    evaluation = task.evaluate(probabilities, targets, labels.names, seed=seed, unknown=unknown)
    return Answer(float(evaluation.micro.f1), np.zeros(0, bool))


@functools.cache
def embed_once(texts: tuple[str, ...], max_length: int) -> NDArray[np.float32]:
    """Return what `embed` does, remembered: the draws of a data set share their test rows."""
    return embed(texts, max_length)


def embed(texts: Sequence[str], max_length: int) -> NDArray[np.float32]:
    """Return L2-normalised mean embeddings of MiniLM: float32 [texts, 384]."""
    import torch

    from textune.backbones import load_classifier, resolve_backbone
    from textune.backbones.pooling import MEAN, Pooling
    from textune.engine import LeanEngine, predict_logits, probe_precision
    from textune.tokens import encode_texts, load_tokenizer
    from textune.tokens.batches import EncodedSplit

    backbone = resolve_backbone("minilm")
    model, _ = load_classifier(backbone, ("a", "b"), pooling=Pooling(MEAN))
    engine = LeanEngine(model, probe_precision("auto", torch.device("cpu")), backbone.family)
    model.classifier = torch.nn.Identity()
    tokens = encode_texts(load_tokenizer(backbone.folder), texts, None, max_length)
    nothing = np.full(len(tokens), -1)
    found: NDArray[np.float32] = predict_logits(engine, EncodedSplit(tokens, nothing, nothing), backbone.padding)
    lengths: NDArray[np.float32] = np.linalg.norm(found, axis=1, keepdims=True)
    return found / lengths
