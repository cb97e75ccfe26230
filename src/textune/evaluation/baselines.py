"""Baselines for the tuned model: the majority class, and TF-IDF with logistic regression.

For generated answers: the most frequent training answer, and that of the nearest training prompt.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# These bounds keep the baseline within a minute and a gigabyte on a laptop, for any data.
_MOST_TRAINING_ROWS = 50_000
_MOST_CHARACTERS = 60_000_000
_LONGEST_TEXT = 100_000
_MOST_FEATURES = 200_000
_FEWEST_FEATURES = 5_000
_MOST_WEIGHTS = 4_000_000
_ROWS_AT_ONCE = 10_000
_MOST_DECISIONS = 2_000_000
_FEWEST_ROWS = 2_000
_MOST_SIMILARITIES = 4_000_000

_LONGEST_MEAN_WORD = 12
"""Letters; a longer mean means a script without spaces, for which character n-grams work better."""


def predict_majority(train_targets: Ints, rows: int, classes: int) -> Floats:
    """Return the class shares of the training rows for every row, so that the prediction is the largest class.

    train_targets: int64 [training rows], -1 without a known label. Returns float [rows, classes].
    Raises DataError if no training row has a label.
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

    train_targets: int64 [training rows], -1 without a known label. Large data is bounded: at most 50,000 training
    rows (a seeded sample), 60 million characters and 200,000 features.
    Returns float [rows, classes]; the probability of a class without training rows is 0.
    Raises DataError if no training row has a label.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    targets = np.asarray(train_targets, dtype=np.int64)
    sample = _sample_rows(train_texts, targets, seed)
    sample_targets = targets[sample]
    if len(np.unique(sample_targets)) < 2:
        return predict_majority(targets, len(texts), classes)
    vectorizer = _build_vectorizer([train_texts[row] for row in sample[:200]], classes)
    try:
        features = vectorizer.fit_transform(train_texts[row][:_LONGEST_TEXT] for row in sample)
    except ValueError:  # scikit-learn's "empty vocabulary": no text contains a word
        return predict_majority(targets, len(texts), classes)
    # C=10: with C=1 the TF-IDF rows (of norm 1) underfit, and the baseline would be too weak.
    model = LogisticRegression(C=10.0, max_iter=200, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter bounds the time
        model.fit(features, sample_targets)
    probabilities = np.zeros((len(texts), classes))
    for part in _slices(len(texts)):
        part_features = vectorizer.transform(text[:_LONGEST_TEXT] for text in texts[part])
        probabilities[part, model.classes_] = model.predict_proba(part_features)
    return probabilities


def predict_prevalence(train_targets: NDArray[Any], rows: int) -> tuple[Floats, tuple[float, ...]]:
    """Return the label shares of the training rows for every row, and thresholds that select the most frequent labels.

    train_targets: 0 or 1 [training rows, labels]. The k most frequent labels are predicted, with the k of the highest
    micro F1 on the training rows. Returns float [rows, labels] and one threshold per label.
    """
    shares = np.asarray(train_targets).sum(axis=0).astype(np.float64) / max(len(train_targets), 1)
    best = int(np.argmax(_constant_f1s(shares)))
    threshold = float(max(np.sort(shares)[::-1][best], np.finfo(np.float64).tiny))
    return np.tile(shares, (rows, 1)), (threshold,) * len(shares)


def best_constant_f1(targets: NDArray[Any]) -> float:
    """Return the best micro F1 of predicting the same labels for every row. targets: 0 or 1 [rows, labels]."""
    return float(_constant_f1s(np.asarray(targets, np.float64).mean(axis=0)).max())


def _constant_f1s(shares: Floats) -> Floats:
    """Return the micro F1 of always predicting the one, two, three ... most frequent labels."""
    predicted = np.arange(1, len(shares) + 1)
    return np.asarray(2 * np.cumsum(np.sort(shares)[::-1]) / (predicted + shares.sum()))


def predict_tfidf_sets(
    train_texts: Sequence[str], train_targets: NDArray[Any], texts: Sequence[str], seed: int
) -> Floats:
    """Fit one logistic regression per label on TF-IDF of words and word pairs, and return their probabilities.

    train_targets: 0 or 1 [training rows, labels]; bounded as in `predict_tfidf`, and to 2 million rows x labels (but
    not below 2,000 rows), because each label needs its own regression. The probability of a label that all or no
    training rows have is its share. Returns float [rows, labels].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    targets = np.asarray(train_targets) > 0
    sample = _sample_rows(train_texts, np.zeros(len(targets), np.int64), seed)
    limit = max(_MOST_DECISIONS // max(targets.shape[1], 1), _FEWEST_ROWS)
    if len(sample) > limit:
        sample = np.sort(np.random.default_rng(seed).permutation(sample)[:limit])
    vectorizer = _build_vectorizer([train_texts[row] for row in sample[:200]], targets.shape[1])
    probabilities = np.tile(targets.mean(axis=0), (len(texts), 1))
    try:
        features = vectorizer.fit_transform(train_texts[row][:_LONGEST_TEXT] for row in sample)
    except ValueError:  # scikit-learn's "empty vocabulary": no text contains a word
        return probabilities
    models = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter bounds the time
        for label in range(targets.shape[1]):
            if len(np.unique(sample_targets := targets[sample, label])) == 2:
                # liblinear is several times faster than the default for two classes and sparse rows
                model = LogisticRegression(C=10.0, max_iter=200, random_state=seed, solver="liblinear")
                models[label] = model.fit(features, sample_targets)
    for part in _slices(len(texts)):
        part_features = vectorizer.transform(text[:_LONGEST_TEXT] for text in texts[part])
        for label, model in models.items():
            probabilities[part, label] = model.predict_proba(part_features)[:, 1]
    return probabilities


def answer_most_frequent(train_answers: Sequence[str], rows: int) -> list[str]:
    """Return the most frequent training answer for every row; of several, the one that comes first.

    Raises DataError without training answers.
    """
    if not train_answers:
        raise DataError("the baseline of the most frequent answer needs training rows")
    return [Counter(train_answers).most_common(1)[0][0]] * rows


def answer_nearest(
    train_prompts: Sequence[str], train_answers: Sequence[str], prompts: Sequence[str], seed: int
) -> list[str]:
    """Return the answer of the nearest training prompt for each prompt, by the cosine of their TF-IDF.

    Large data is bounded as in `predict_tfidf`. A prompt that shares no word with a training prompt gets the most
    frequent answer; of prompts equally near, the first counts. Raises DataError without training rows.
    """
    answers = answer_most_frequent(train_answers, len(prompts))
    sample = _sample_rows(train_prompts, np.zeros(len(train_prompts), np.int64), seed)
    vectorizer = _build_vectorizer([train_prompts[row] for row in sample[:200]], 1)
    try:
        known = vectorizer.fit_transform(train_prompts[row][:_LONGEST_TEXT] for row in sample)
    except ValueError:  # scikit-learn's "empty vocabulary": no prompt contains a word
        return answers
    block = max(1, _MOST_SIMILARITIES // len(sample))
    for start in range(0, len(prompts), block):
        asked = vectorizer.transform(prompt[:_LONGEST_TEXT] for prompt in prompts[start : start + block])
        similarities = (asked @ known.T).toarray()
        for row, nearest in enumerate(similarities.argmax(axis=1)):
            if similarities[row, nearest] > 0:
                answers[start + row] = train_answers[sample[nearest]]
    return answers


def _sample_rows(texts: Sequence[str], targets: Ints, seed: int) -> Ints:
    """Return the labelled rows to train on: all, or a random sample within the bounds."""
    labelled = np.flatnonzero(targets >= 0)
    drawn = np.random.default_rng(seed).permutation(labelled)[:_MOST_TRAINING_ROWS]
    lengths = np.fromiter((min(len(texts[row]), _LONGEST_TEXT) for row in drawn), np.int64, len(drawn))
    limit = int(np.searchsorted(np.cumsum(lengths), _MOST_CHARACTERS, side="right"))
    return np.sort(drawn[: max(limit, 1)])


def _build_vectorizer(sample: Sequence[str], classes: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = list(chain.from_iterable(re.findall(r"\w+", text[:10_000]) for text in sample))
    spaceless = bool(words) and sum(map(len, words)) / len(words) > _LONGEST_MEAN_WORD
    return TfidfVectorizer(
        analyzer="char" if spaceless else "word",
        ngram_range=(1, 3) if spaceless else (1, 2),
        sublinear_tf=True,
        # The solver's memory grows with features x classes, so many classes get fewer features.
        max_features=int(np.clip(_MOST_WEIGHTS // max(classes, 1), _FEWEST_FEATURES, _MOST_FEATURES)),
        dtype=np.float32,
    )


def _slices(rows: int) -> Iterator[slice]:
    yield from (slice(start, min(start + _ROWS_AT_ONCE, rows)) for start in range(0, rows, _ROWS_AT_ONCE))
