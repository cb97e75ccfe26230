"""The time of the evaluation after training, from evaluations of parts of the rows.

Evaluation writes answers, measures label likelihood and explains errors for a limited number of rows only. These jobs
are timed apart, so that only what every row costs is extrapolated to all rows.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from textune.bundle import Manifest
from textune.data import Examples
from textune.errors import Note, TextuneError
from textune.inference import Predictor
from textune.inference.generation import choose_answered
from textune.plan.forecast import choose_spread, extrapolate, spread
from textune.progress import Progress
from textune.run.evaluate import Figures, Training, evaluate
from textune.run.explained_errors import count_explained, explain_errors
from textune.run.fit import SolvedHead
from textune.run.likelihood import MOST_ROWS as MOST_ROWS_OF_LIKELIHOOD
from textune.run.prepare import Prepared
from textune.run.save import update_manifest
from textune.run.tables import PreparedData
from textune.training.head import MOST_ROWS
from textune.training.head import choose_rows as choose_probe_rows

_FEWEST_ROWS, _FEW_ROWS = 8, 48
"""What the first parts have: long texts take long enough with fewer."""
_SIZE_OF_PARTS = 6
"""Two parts of few rows and one of four times as many, in units of the first."""
_WRITERS = 2
"""The tuned model and the base model write answers to the same rows."""


@dataclass(frozen=True)
class Part:
    """A timed evaluation of some rows."""

    examples: Examples
    figures: Figures
    seconds: float

    @property
    def likelihood(self) -> tuple[int, float]:
        """The rows that label likelihood was measured on, and its seconds; 0 where it was not measured."""
        found = next((row for row in self.figures.rows if row.key == "likelihood"), None)
        return (0, 0.0) if found is None else (found.evaluation.rows, found.seconds or 0.0)


@dataclass(frozen=True)
class Measuring:
    """The evaluation of the saved run and its baselines, on parts of the rows.

    head: solved, as the run's own will be where that serves a baseline, too.
    """

    prepared: Prepared
    head: SolvedHead
    folder: Path
    manifest: Manifest
    progress: Progress

    def forecast(self, per_row: float, budget: float) -> float:
        """Return the seconds for all rows. per_row: estimated seconds of one row."""
        rows = len(self.prepared.data.evaluation[1])
        # The tuned model and the untuned one read each row; the head of a baseline, its share of the training rows.
        read = 2 + min(len(self.prepared.train), MOST_ROWS) / rows
        affordable = int(budget / max(read * per_row, 1e-4))
        few = min(max(affordable // _SIZE_OF_PARTS, _FEWEST_ROWS), _FEW_ROWS, rows)
        many = min(rows, max(4 * few, affordable))
        with self._writing_least() as manifest:
            first, small = self._run(few / rows, manifest), self._run(few / rows, manifest)
            large = self._run(many / rows, manifest) if many > few else small
        # A part of all rows needs no extrapolation.
        explained = min(count_explained(rows), len(large.figures.errors)) if many < rows else 0
        per_error = self._time_explanation(large) if explained else 0.0

        def count_unlimited(part: Part) -> float:
            return part.seconds - part.likelihood[1] - per_error * len(part.figures.explanations)

        seconds = extrapolate(count_unlimited(first), count_unlimited(small), count_unlimited(large), (few, many, rows))
        seconds += explained * per_error + extrapolate_likelihood(small, large, rows)
        return seconds + self._time_answers(budget)

    def _run(self, share: float, manifest: Manifest) -> Part:
        train = self.prepared.train
        # A baseline may solve its head on training rows, up to a limit: parts of the rows that it will take.
        count = max(round(share * min(len(train), MOST_ROWS)), min(_FEW_ROWS, len(train)))
        features = choose_probe_rows(train.targets, count, self.prepared.config.training.seed)
        part = replace(self.prepared, data=_take_part(self.prepared.data, share), train=train.take(features))
        training = Training(0.0, _limit_head(self.head, len(part.data.train)))
        started_at = time.perf_counter()
        figures = evaluate(part, training, self.folder, manifest, self.progress)
        return Part(part.data.evaluation[1], figures, time.perf_counter() - started_at)

    @contextmanager
    def _writing_least(self) -> Iterator[Manifest]:
        """Give a manifest with which evaluations answer one row with one token; whole answers are timed apart."""
        if not self.prepared.task.writes:
            yield self.manifest
            return
        yield update_manifest(self.folder, writing={**self.manifest.writing, "answer_rows": 1, "max_new_tokens": 1})
        update_manifest(self.folder, writing=self.manifest.writing)

    def _time_answers(self, budget: float) -> float:
        """Return the seconds of all answers, from some of the batches in which they are written."""
        if not self.prepared.task.writes:
            return 0.0
        generator = self._load().generator
        assert generator is not None
        texts = self.prepared.data.evaluation[1].texts()
        answered = choose_answered(len(texts), generator.answer_rows, self.manifest.seed)
        prompts = [texts[row] for row in answered]
        batches = generator.plan(prompts)
        seconds, written = 0.0, 0
        for number in spread(len(batches)):
            started_at = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Note)  # evaluation has told of prompts that are cut
                generator.write([prompts[row] for row in batches[number]])
            seconds += time.perf_counter() - started_at
            written += len(batches[number])
            if seconds > budget:
                break
        return _WRITERS * seconds * len(prompts) / max(written, 1)

    def _time_explanation(self, part: Part) -> float:
        """Return the seconds of explaining one error, 0 where the model cannot be explained."""
        predictor = self._load()
        started_at = time.perf_counter()
        try:
            explain_errors(predictor, part.examples, part.figures.errors, 1)
        except TextuneError:
            return 0.0
        return time.perf_counter() - started_at

    def _load(self) -> Predictor:
        settings, backbone = self.prepared.config.training, self.prepared.backbone
        return Predictor.load(
            self.folder,
            backbone=str(backbone.folder) if backbone.local else None,
            device=settings.device,
            precision=settings.precision,
            trust=backbone.trust,
        )


def extrapolate_likelihood(small: Part, large: Part, rows: int) -> float:
    """Return the seconds of label likelihood in an evaluation of this many rows."""
    (few, seconds), (many, more_seconds) = small.likelihood, large.likelihood
    if many <= few:
        return more_seconds
    most = many if many < len(large.examples) else max(many, MOST_ROWS_OF_LIKELIHOOD)
    return more_seconds + max(more_seconds - seconds, 0.0) / (many - few) * (min(rows, most) - many)


def _limit_head(head: SolvedHead, rows: int) -> SolvedHead:
    """Return the head with answers out of fold for at most these rows; how many they are is what takes time."""
    if head.probe is None:
        return head
    count = min(len(head.probe.rows), rows)
    return replace(head, probe=replace(head.probe, rows=np.arange(count), out_of_fold=head.probe.out_of_fold[:count]))


def _take_part(data: PreparedData, share: float) -> PreparedData:
    """Return a share of every split with the same mix of long and short texts."""

    def take(examples: Examples | None, at_least: int) -> Examples | None:
        if examples is None or share >= 1:
            return examples
        lengths = np.array([len(text) for text in examples.texts()])
        count = min(len(examples), max(at_least, round(share * len(examples))))
        return examples.take(choose_spread(lengths, count))

    train = take(data.train, _FEW_ROWS)
    assert train is not None
    return replace(data, train=train, validation=take(data.validation, 2), test=take(data.test, 2))
