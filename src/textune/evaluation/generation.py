"""Evaluation of generated answers: loss and perplexity, exact match, ROUGE-L, empty and endless answers. No torch."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from textune.errors import BundleError, DataError, ModelError
from textune.evaluation.intervals import (
    RESAMPLES,
    Difference,
    Interval,
    percentile_interval,
    resampled_interval,
    widen,
    wilson_interval,
)
from textune.evaluation.labelled import Headline
from textune.evaluation.paired import flip_signs
from textune.evaluation.seen import SeenRows, add_seen
from textune.evaluation.text import describe_evaluation, percent, shorten_evaluation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts without spaces between words (Thai, Lao, Burmese, Khmer, kana, Han): there, a character is a word."""
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")
_MOST_DRAWS_AT_ONCE = 2_000_000
_LARGEST_EXPONENT = 700.0
"""Above it the perplexity is no float any more."""


@dataclass(frozen=True)
class Sample:
    """One row as the base model and the tuned model answer it. row: its number in the source."""

    row: int
    prompt: str
    expected: str
    base: str
    tuned: str


def normalise_answer(text: str) -> str:
    """Return what exact match compares: in Unicode's NFKC, lower case, with single spaces and none at the ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def split_words(text: str) -> list[str]:
    """Return the tokens of ROUGE-L: lower-case words without punctuation; characters in scripts without spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    marks = "".join(c for c in set(plain) if unicodedata.category(c).startswith("M") and not _WORD.fullmatch(c))
    if not marks:
        return _WORD.findall(plain)
    # vowel signs, as of Devanagari, are no letters to `re`, but belong to the letter before them
    return re.findall(rf"[{_SPACELESS}]|[^\W{_SPACELESS}](?:[{marks}]|[^\W{_SPACELESS}])*", plain)


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L: the F-measure of the longest common subsequence of words (Lin 2004), from 0 to 1.

    Precision and recall weigh the same. Texts without a word count as equal if exact match says so.
    """
    words, expected = split_words(answer), split_words(reference)
    if not words and not expected:
        return float(normalise_answer(answer) == normalise_answer(reference))
    return 2 * count_common_subsequence(words, expected) / (len(words) + len(expected))


def count_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of the table at a time, as bits of one integer.

    The recurrence is Hyyrö's (2004, "Bit-parallel LCS-length computation revisited").
    """
    places: dict[str, int] = defaultdict(int)
    for position, word in enumerate(first):
        places[word] |= 1 << position
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & every
    return len(first) - row.bit_count()


@dataclass(frozen=True, repr=False)
class GenerationEvaluation:
    """All figures of one model's answers on one set of rows.

    rows: those for which answers were written; all shares are of them. loss: nats per token of the expected answers;
        perplexity: its exponential. Both None where no loss was measured. loss_rows: rows of the loss, 0 where unknown.
    tokens: of the expected answers. exact_match: share of answers equal to the expected one (`normalise_answer`).
    rouge_l: mean over the rows. empty: share of answers without any visible character. endless: share of answers that
        ended at the limit and not by themselves.
    intervals: 95% intervals of each, by name: Wilson for shares, a bootstrap over rows for the others; that of loss and
        perplexity is missing with a single row.
    seen: which rows the run was trained on, and the figures on the others, where that was looked for.
    """

    task: ClassVar[str] = "generation"

    rows: int
    exact_match: float
    rouge_l: float
    empty: float
    endless: float
    intervals: dict[str, Interval]
    loss: float | None = None
    perplexity: float | None = None
    tokens: int = 0
    loss_rows: int = 0
    seen: SeenRows | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return shorten_evaluation(self)

    def __str__(self) -> str:
        """Return the figures with their intervals, one a line."""
        return describe_evaluation(self)

    @property
    def headline(self) -> Headline:
        """The headline metric."""
        return Headline("ROUGE-L", self.rouge_l, self.intervals["rouge_l"])

    @property
    def further(self) -> tuple[Headline, ...]:
        """The other shares."""
        names = {"exact_match": "exact match", "empty": "empty answers", "endless": "endless answers"}
        return tuple(Headline(name, getattr(self, key), self.intervals[key]) for key, name in names.items())

    @property
    def classes(self) -> tuple[Any, ...]:
        """Nothing: answers have no classes."""
        return ()

    @property
    def log_loss(self) -> float | None:
        """Nats per token of the expected answers."""
        return self.loss

    @property
    def unknown_labels(self) -> dict[str, int]:
        """Nothing: every answer can be written."""
        return {}

    def report_text(self) -> str:
        """Return every figure as plain text."""
        lines = [f"rows with answers: {self.rows:,}"]
        if self.loss is not None and self.perplexity is not None:
            of = f"{self.tokens:,} tokens" + (f" of {self.loss_rows:,} rows" if self.loss_rows else "")
            lines.append(f"loss {self.loss:.4f} nats per token, perplexity {self.perplexity:.4g} ({of})")
        for name in _SHARES:
            spread = self.intervals[name]
            value = f"{percent(getattr(self, name))} ({percent(spread.low)} to {percent(spread.high)})"
            lines.append(f"{'ROUGE-L' if name == 'rouge_l' else name.replace('_', ' ')}: {value}")
        return "\n".join(lines)

    @property
    def summary(self) -> dict[str, float]:
        """The figures that a manifest keeps."""
        loss = (
            {} if self.loss is None or self.perplexity is None else {"loss": self.loss, "perplexity": self.perplexity}
        )
        return loss | {name: getattr(self, name) for name in _SHARES}

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and numbers for JSON, without loss."""
        return add_seen({"task": self.task} | asdict(replace(self, seen=None)), self.seen)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> GenerationEvaluation:
        """Rebuild what `to_dict` returned; raise BundleError if anything is missing or unexpected."""
        try:
            fields = {key: value for key, value in stored.items() if key not in ("task", "seen_rows")}
            intervals = {name: Interval(float(i["low"]), float(i["high"])) for name, i in fields["intervals"].items()}
            for name in _SHARES:
                fields[name] = float(fields[name])
            return cls(**fields | {"intervals": intervals, "rows": int(fields["rows"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"figures of generated answers cannot be read: {error}") from error


_SHARES = ("exact_match", "rouge_l", "empty", "endless")


def evaluate_generation(
    answers: Sequence[str],
    references: Sequence[str],
    endless: Sequence[bool] | NDArray[np.bool_],
    *,
    loss_sums: Floats | None = None,
    tokens: Ints | None = None,
    seed: int = 0,
) -> GenerationEvaluation:
    """Return all figures of a model's answers.

    endless: whether each answer ended at the limit. loss_sums: float [rows], nats over the tokens of each expected
    answer; tokens: int [rows], how many those are. Raises DataError without rows, ModelError for losses that are not
    finite.
    """
    rows = len(answers)
    if not rows:
        raise DataError("there are no rows to measure answers on")
    if not rows == len(references) == len(endless):
        raise ValueError(f"{rows} answers, {len(references)} references, {len(endless)} marks of endless answers")
    pairs = list(zip(answers, references, strict=True))
    equal = np.array([normalise_answer(a) == normalise_answer(r) for a, r in pairs])
    overlap = np.array([rouge_l(a, r) for a, r in pairs])
    shares: dict[str, Any] = {
        "exact_match": float(equal.mean()),
        "empty": float(np.mean([not answer.strip() for answer in answers])),
        "endless": float(np.mean(np.asarray(endless, dtype=bool))),
    }
    intervals = {name: wilson_interval(share, rows) for name, share in shares.items()}
    intervals["rouge_l"] = resampled_interval(_resample([overlap], seed)[:, 0] / rows, rows)
    loss = {} if loss_sums is None or tokens is None else _measure_loss(loss_sums, tokens, seed, intervals)
    return GenerationEvaluation(rows, **shares, rouge_l=float(overlap.mean()), intervals=intervals, **loss)


def measure_perplexity(loss_sums: Floats, tokens: Ints, *, seed: int = 0) -> tuple[float, float, dict[str, Interval]]:
    """Return loss (nats per token), perplexity, and the intervals of both by a bootstrap over rows.

    loss_sums: float [rows], nats over all tokens of each row. tokens: int [rows]. Rows without tokens do not count.
    A single row has no interval. Raises DataError without any token, ModelError for a loss that is not finite.
    """
    sums, counts = np.asarray(loss_sums, np.float64), np.asarray(tokens, np.float64)
    if len(sums) != len(counts):
        raise ValueError(f"{len(sums)} losses, {len(counts)} counts of tokens")
    if len(bad := np.flatnonzero(~np.isfinite(sums))):
        raise ModelError(f"the loss of row {bad[0] + 1} is {sums[bad[0]]}", hint="the model's logits are not finite")
    kept = counts > 0
    if not kept.any():
        raise DataError("no row has a token to measure the loss on", hint="raise max_length")
    sums, counts = sums[kept], counts[kept]
    loss = float(sums.sum() / counts.sum())
    intervals = {}
    if len(sums) > 1:
        drawn = _resample([sums, counts], seed)
        interval = percentile_interval(drawn[:, 0] / drawn[:, 1])
        interval = Interval(min(interval.low, loss), max(interval.high, loss))
        intervals = {
            "loss": interval,
            "perplexity": Interval(exponentiate(interval.low), exponentiate(interval.high)),
        }
    return loss, exponentiate(loss), intervals


def measure_difference(before: Floats, after: Floats, *, seed: int = 0) -> Difference:
    """Return the mean of after - before over the same rows: the interval of a paired bootstrap, and a p-value.

    before, after: float [rows], a score of each row from 0 to 1, such as ROUGE-L. If both are equally good, the sign of
    each row's change is a coin toss: the p-value is exact for up to 12 rows, and drawn for more.
    """
    change = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    if not len(change):
        raise DataError("there are no rows to compare")
    interval = percentile_interval(_resample([change], seed)[:, 0] / len(change))
    mean = float(change.mean())
    interval = widen(Interval(min(interval.low, mean), max(interval.high, mean)), len(change))
    return Difference(interval.low, interval.high, mean, flip_signs(change, np.ones(len(change), np.int64), seed))


def exponentiate(loss: float) -> float:
    """Return the perplexity of a loss; very large ones are cut so that JSON can hold them."""
    return math.exp(min(loss, _LARGEST_EXPONENT))


def _measure_loss(loss_sums: Floats, tokens: Ints, seed: int, intervals: dict[str, Interval]) -> dict[str, Any]:
    """Return the fields about the loss, and add their intervals."""
    loss, perplexity, found = measure_perplexity(loss_sums, tokens, seed=seed)
    intervals |= found
    counts = np.asarray(tokens)
    return {"loss": loss, "perplexity": perplexity, "tokens": int(counts.sum()), "loss_rows": int((counts > 0).sum())}


def _resample(columns: Sequence[Floats], seed: int) -> Floats:
    """Return sums of the columns over rows drawn with replacement: float64 [resamples, columns]."""
    values = np.stack(columns, axis=1)
    rows = len(values)
    rng = np.random.default_rng(seed)
    block = max(1, _MOST_DRAWS_AT_ONCE // rows)
    sums = []
    for start in range(0, RESAMPLES, block):
        drawn = rng.integers(0, rows, size=(min(block, RESAMPLES - start), rows))
        sums.append(values[drawn].sum(axis=1))
    return np.concatenate(sums)
