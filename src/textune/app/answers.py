"""What a run answers to one typed text, as the pages show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textune.app.counterfactual import Answers
from textune.app.markup import Bar, Mark
from textune.errors import DataError, TextuneError
from textune.printable import holds_text

if TYPE_CHECKING:
    from textune.explain import WordScore
    from textune.inference import Predictor
    from textune.tasks import Task

MOST_CHARACTERS = 20_000
"""Of a typed text. Longer ones are read from files."""
MOST_BARS = 10
NO_ANSWER = "no label"


@dataclass(frozen=True)
class Answered:
    """An answer to a text. answer: the label, or the labels. bars: the most probable labels. more: those left out.

    note: what the reader should know of the text, such as that only its beginning was read. written: whether the model
    wrote the answer, which then has no labels.
    """

    answer: str
    bars: tuple[Bar, ...]
    more: int = 0
    note: str = ""
    written: bool = False


@dataclass(frozen=True)
class Kind:
    """What a run reads and answers. paired: two texts. gives_labels: labels with probabilities, not a written text."""

    paired: bool = False
    gives_labels: bool = True


def read_kind(folder: Path) -> Kind:
    """Return what a run reads and answers, before it is loaded; the usual kind if that cannot be read."""
    from textune.bundle import read_manifest
    from textune.tasks import task_of

    try:
        manifest = read_manifest(folder, verify=False)
        return Kind(manifest.columns.text_pair is not None, task_of(manifest).gives_labels)
    except (TextuneError, OSError):
        return Kind()


def check_text(text: str) -> str | None:
    """Return what is wrong with a typed text, or None. An empty one is not wrong: it waits."""
    if len(text) > MOST_CHARACTERS:
        return (
            f"The text has {len(text):,} characters. This page takes at most {MOST_CHARACTERS:,}; "
            "put longer texts into a file and upload it on the page Batch."
        )
    return None


def is_paired(predictor: Predictor) -> bool:
    """Return whether a model reads two texts."""
    return predictor.manifest.columns.text_pair is not None


def answer_text(predictor: Predictor, text: str, second: str | None = None) -> Answered:
    """Return what the model answers; second: the second text of a pair. Raises DataError."""
    if not predictor.task.gives_labels:
        return _write_answer(predictor, text)
    pairs = None if second is None else [second]
    probabilities = predictor.predict_proba([text], pairs)
    answered = show_answer(predictor.task, predictor.labels, probabilities[0])
    return replace(answered, note=_note_length(predictor, text, second))


def _write_answer(predictor: Predictor, text: str) -> Answered:
    (written,) = predictor.generate([text])
    notes = [f"The limit of {written.tokens:,} tokens ended the answer."] if written.endless else []
    if predictor.generator is not None and (cut := predictor.generator.cut):
        notes.insert(0, f"{cut[0].upper()}{cut[1:]}.")
    return Answered(written.text, (), note=" ".join(notes), written=True)


def show_answer(task: Task, labels: Sequence[str], probabilities: NDArray[np.float64]) -> Answered:
    """Return an answer with its bars. probabilities: float64 [labels]."""
    prediction = task.classify(probabilities[None], labels)[0]
    ranked = sorted(zip(labels, probabilities.tolist(), strict=True), key=lambda pair: -pair[1])
    answered = prediction.answer.keys()
    bars = tuple(Bar(label, share, task.format_value(share), label in answered) for label, share in ranked[:MOST_BARS])
    return Answered(", ".join(answered) or NO_ANSWER, bars, max(len(ranked) - MOST_BARS, 0))


def order_bars(answered: Answered, like: Answered) -> Answered:
    """Return an answer with its bars in the order of another answer's, to be read side by side."""
    order = {bar.label: at for at, bar in enumerate(like.bars)}
    bars = sorted(answered.bars, key=lambda bar: order.get(bar.label, len(order)))
    return replace(answered, bars=tuple(bars))


def _note_length(predictor: Predictor, text: str, second: str | None) -> str:
    """Return what a model leaves unread of a long text, or nothing."""
    encoded = predictor.encode([text], None if second is None else [second])
    whole, most = int(encoded.full_lengths[0]), encoded.capacity or encoded.max_length
    if whole <= most:
        return ""
    return f"The text is longer than the {most:,} tokens that this run reads; the rest is left out."


def answer_many(predictor: Predictor, texts: Sequence[str]) -> Answers:
    """Return the answers to several texts."""
    probabilities = np.asarray(predictor.predict_proba(list(texts)), np.float64)
    answers = [", ".join(p.answer) or NO_ANSWER for p in predictor.task.classify(probabilities, predictor.labels)]
    return Answers(answers, probabilities, predictor.labels, predictor.task.find_shown(probabilities))


def mark_words(words: Sequence[WordScore], largest: float) -> list[Mark]:
    """Return an explanation's words as marks; a word of the score `largest` has a score of 1 or -1."""
    return [Mark(word.start, word.end, word.score / (largest or 1.0), f"{word.score:+.2f}") for word in words]


def require_second(predictor: Predictor, second: str) -> str | None:
    """Return the second text for a model of pairs, and None for other models; raise DataError if it is missing."""
    if not is_paired(predictor):
        return None
    if not holds_text(second):
        raise DataError("this run classifies pairs of texts", hint="type the second text, too")
    return second
