"""What a tuned model has to beat: the majority class, and TF-IDF with logistic regression."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Bounds that keep the baseline within a minute and a gigabyte on a laptop, whatever the data.
_MOST_TRAINING_ROWS = 50_000
_MOST_CHARACTERS = 60_000_000
_LONGEST_TEXT = 100_000
_MOST_FEATURES = 200_000
_FEWEST_FEATURES = 5_000
_MOST_WEIGHTS = 4_000_000
_ROWS_AT_ONCE = 10_000
_MOST_DECISIONS = 2_000_000
_FEWEST_ROWS = 2_000

_LONGEST_MEAN_WORD = 12
"""Letters; longer "words" belong to a script without spaces, which character n-grams read better."""


def predict_majority(train_targets: Ints, rows: int, classes: int) -> Floats:
    """Return the training classes' shares for every row, so that the largest class is always the answer.

    train_targets: int64 [training rows], -1 where there is no known label. Returns float [rows, classes].
    Raises DataError where no training row has a label.
    """
    targets = np.asarray(train_targets, dtype=np.int64)
    counts = np.bincount(targets[targets >= 0], minlength=classes)
    if not counts.sum():
        raise DataError("the majority baseline needs training rows with a label")
    return np.tile(counts / counts.sum(), (rows, 1))


def predict_tfidf(
    train_texts: Sequence[str], train_targets: Ints, texts: Sequence[str], classes: int, seed: int
) -> Floats:
    """Fit logistic regression on TF-IDF of words and word pairs, and return its probabilities.

    train_targets: int64 [training rows], -1 where there is no known label. Large data are bounded: at most
    50,000 training rows (drawn by the seed), 60 million characters and 200,000 features.
    Returns float [rows, classes]; a class without training rows gets 0 everywhere.
    Raises DataError where no training row has a label.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    targets = np.asarray(train_targets, dtype=np.int64)
    chosen = _choose_rows(train_texts, targets, seed)
    taught = targets[chosen]
    if len(np.unique(taught)) < 2:
        return predict_majority(targets, len(texts), classes)
    vectorizer = _build_vectorizer([train_texts[row] for row in chosen[:200]], classes)
    try:
        features = vectorizer.fit_transform(train_texts[row][:_LONGEST_TEXT] for row in chosen)
    except ValueError:  # scikit-learn's "empty vocabulary": no text holds a single word
        return predict_majority(targets, len(texts), classes)
    # C=10: with C=1 the TF-IDF rows (of norm 1) underfit, and a weak baseline flatters the tuned model.
    model = LogisticRegression(C=10.0, max_iter=200, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early is part of the bound on time
        model.fit(features, taught)
    probabilities = np.zeros((len(texts), classes))
    for part in _slices(len(texts)):
        some = vectorizer.transform(text[:_LONGEST_TEXT] for text in texts[part])
        probabilities[part, model.classes_] = model.predict_proba(some)
    return probabilities


def predict_prevalence(train_targets: NDArray[Any], rows: int) -> tuple[Floats, tuple[float, ...]]:
    """Return the labels' shares of the training rows for every row, and the thresholds that give the most frequent.

    train_targets: 0 or 1 [training rows, labels]. Given are the k most frequent labels, with the k of the greatest
    micro F1 on the training rows. Returns float [rows, labels] and one threshold per label.
    """
    shares = np.asarray(train_targets).sum(axis=0).astype(np.float64) / max(len(train_targets), 1)
    best = int(np.argmax(_constant_f1s(shares)))
    threshold = float(max(np.sort(shares)[::-1][best], np.finfo(np.float64).tiny))
    return np.tile(shares, (rows, 1)), (threshold,) * len(shares)


def best_constant_f1(targets: NDArray[Any]) -> float:
    """Return the greatest micro F1 of the same labels for every row. targets: 0 or 1 [rows, labels]."""
    return float(_constant_f1s(np.asarray(targets, np.float64).mean(axis=0)).max())


def _constant_f1s(shares: Floats) -> Floats:
    """Return the micro F1 of always giving the one, two, three ... most frequent labels."""
    given = np.arange(1, len(shares) + 1)
    return np.asarray(2 * np.cumsum(np.sort(shares)[::-1]) / (given + shares.sum()))


def predict_tfidf_sets(
    train_texts: Sequence[str], train_targets: NDArray[Any], texts: Sequence[str], seed: int
) -> Floats:
    """Fit one logistic regression per label on TF-IDF of words and word pairs, and return their probabilities.

    train_targets: 0 or 1 [training rows, labels]; bounded as `predict_tfidf` is, and to 2 million rows x labels, as
    each label takes a regression of its own (but for 2,000 rows). A label that all or none of the
    training rows have gets its share. Returns float [rows, labels].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    targets = np.asarray(train_targets) > 0
    chosen = _choose_rows(train_texts, np.zeros(len(targets), np.int64), seed)
    affordable = max(_MOST_DECISIONS // max(targets.shape[1], 1), _FEWEST_ROWS)
    if len(chosen) > affordable:
        chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:affordable])
    vectorizer = _build_vectorizer([train_texts[row] for row in chosen[:200]], targets.shape[1])
    probabilities = np.tile(targets.mean(axis=0), (len(texts), 1))
    try:
        features = vectorizer.fit_transform(train_texts[row][:_LONGEST_TEXT] for row in chosen)
    except ValueError:  # scikit-learn's "empty vocabulary": no text holds a single word
        return probabilities
    models = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early is part of the bound on time
        for label in range(targets.shape[1]):
            if len(np.unique(taught := targets[chosen, label])) == 2:
                # liblinear: for two classes and sparse rows it is several times as fast as the default
                model = LogisticRegression(C=10.0, max_iter=200, random_state=seed, solver="liblinear")
                models[label] = model.fit(features, taught)
    for part in _slices(len(texts)):
        some = vectorizer.transform(text[:_LONGEST_TEXT] for text in texts[part])
        for label, model in models.items():
            probabilities[part, label] = model.predict_proba(some)[:, 1]
    return probabilities


def _choose_rows(texts: Sequence[str], targets: Ints, seed: int) -> Ints:
    """Return the labelled rows to learn from: all, or a random part within the bounds."""
    labelled = np.flatnonzero(targets >= 0)
    drawn = np.random.default_rng(seed).permutation(labelled)[:_MOST_TRAINING_ROWS]
    lengths = np.fromiter((min(len(texts[row]), _LONGEST_TEXT) for row in drawn), np.int64, len(drawn))
    affordable = int(np.searchsorted(np.cumsum(lengths), _MOST_CHARACTERS, side="right"))
    return np.sort(drawn[: max(affordable, 1)])


def _build_vectorizer(sample: Sequence[str], classes: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = list(chain.from_iterable(re.findall(r"\w+", text[:10_000]) for text in sample))
    spaceless = bool(words) and sum(map(len, words)) / len(words) > _LONGEST_MEAN_WORD
    return TfidfVectorizer(
        analyzer="char" if spaceless else "word",
        ngram_range=(1, 3) if spaceless else (1, 2),
        sublinear_tf=True,
        # The solver's memory grows with features x classes, so that many classes leave fewer features each.
        max_features=int(np.clip(_MOST_WEIGHTS // max(classes, 1), _FEWEST_FEATURES, _MOST_FEATURES)),
        dtype=np.float32,
    )


def _slices(rows: int) -> Iterator[slice]:
    yield from (slice(start, min(start + _ROWS_AT_ONCE, rows)) for start in range(0, rows, _ROWS_AT_ONCE))
