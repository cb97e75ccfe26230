"""The last of a run's four functions: the ladder of classifiers on the same rows, the report and the card."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import FIGURES, Manifest
from textune.data import Examples
from textune.errors import TextuneError
from textune.evaluation import ConfidentError, SeenRows
from textune.evaluation.generation import Sample
from textune.evaluation.goal import Goal
from textune.evaluation.slices import SliceSearch
from textune.explain import Explanation
from textune.files import hash_files, read_json_lines, write_text_atomically
from textune.inference import Predictor
from textune.progress import Progress
from textune.report import CardInput, judge, render_card, write_report
from textune.report.leads import IDENTICAL
from textune.report.snippets import name_library, reload_without_textune
from textune.run.costs import Costs, describe_run, peak_memory_mb
from textune.run.error_analysis import search_slices
from textune.run.explained_errors import count_explained, explain_errors, list_explainable
from textune.run.fit import SolvedHead
from textune.run.likelihood import predict_by_likelihood
from textune.run.other_rows import measure_some
from textune.run.predictions import collect_errors, write_predictions
from textune.run.prepare import Prepared
from textune.run.report_input import build_report_input
from textune.run.rivals import list_rivals
from textune.run.save import update_manifest, weight_megabytes
from textune.run.seen_rows import find_seen_rows
from textune.run.test_reads import count_test_reads, note_test_read
from textune.run.untuned import open_untuned
from textune.run.written import collect_samples, list_written_rivals, time_call
from textune.tasks import AnyEvaluation, build_task
from textune.tasks.goal import Answered, GoalRows, measure_goal
from textune.version import __version__

Probabilities = NDArray[Any]


@dataclass(frozen=True)
class Training:
    """What is known of the training when it is measured. seconds: of training, with that of its calibration.

    started_at: `time.monotonic()` when the run began; None where no process saw all of it. best_step: whose weights
    the model has; None where it is not known.
    """

    seconds: float
    head: SolvedHead
    started_at: float | None = None
    best_step: int | None = None


@dataclass(frozen=True)
class Measured:
    """One classifier on the evaluation rows. seconds: training and prediction, where known."""

    name: str
    key: str
    evaluation: AnyEvaluation
    seconds: float | None
    difference: Any = None

    def as_row(self) -> dict[str, Any]:
        """Return the form that reports take."""
        return {
            "name": self.name,
            "evaluation": self.evaluation,
            "seconds": self.seconds,
            "difference": self.difference,
        }


@dataclass(frozen=True)
class Figures:
    """All classifiers on one split, the tuned one last, and its most confident errors.

    seen: test rows that the run was trained on; None where it was not looked for. slices: where it errs most.
    best_step: of `Training`. explanations: of the first errors, by row number. samples: rows as a model that writes
    answers them before and after tuning. goal: all classifiers in the terms that the run was tuned for.
    """

    split: str
    rows: tuple[Measured, ...]
    errors: tuple[ConfidentError, ...]
    probabilities: Probabilities
    seen: SeenRows | None = None
    slices: SliceSearch | None = None
    best_step: int | None = None
    explanations: Mapping[int, Explanation] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    goal: Goal | None = None

    @property
    def tuned(self) -> AnyEvaluation:
        """The tuned model's figures."""
        return self.rows[-1].evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        return {
            "split": self.split,
            "task": self.tuned.task,
            "models": {r.key: r.evaluation.to_dict() | {"seconds": r.seconds} for r in self.rows},
        } | ({} if self.seen is None else {"seen_rows": self.seen.to_dict()})


def evaluate(prepared: Prepared, training: Training, folder: Path, manifest: Manifest, progress: Progress) -> Figures:
    """Measure the saved run and simpler classifiers on the evaluation rows; write figures, report and card.

    The tuned model's figures come from a Predictor that is loaded from the bundle.
    """
    split, examples = prepared.data.evaluation
    progress.say(f"measuring on {len(examples):,} {split} rows")
    settings, backbone = prepared.config.training, prepared.backbone
    predictor = Predictor.load(
        folder,
        backbone=str(backbone.folder) if backbone.local else None,
        device=settings.device,
        precision=settings.precision,
        trust=backbone.trust,
    )
    if split == "test":
        note_test_read(folder, examples, "train")
    figures = (
        measure_written(prepared, training, predictor, folder)
        if predictor.task.writes
        else measure_ladder(prepared, training, predictor)
    )
    if predictor.generator is not None and (cut := predictor.generator.cut) is not None:
        progress.warn(cut)
        prepared = replace(prepared, data=replace(prepared.data, warnings=(*prepared.data.warnings, cut)))
    if split == "test":
        figures = replace(figures, seen=_find_seen(figures, predictor, examples, folder))
    write_predictions(folder / "evaluation" / "predictions.parquet", examples, figures.probabilities, predictor)
    figures = replace(figures, slices=search_slices(folder, manifest, split, examples, figures.probabilities))
    whole = training.started_at is not None
    memory = peak_memory_mb() if whole else None  # before gradients flow again, which no use of the model needs
    figures = replace(figures, explanations=_explain(predictor, examples, figures.errors, progress))
    costs = Costs(
        training.seconds,
        time.monotonic() - training.started_at if training.started_at is not None else None,
        memory,
        weight_megabytes(folder),
    )
    write_evaluation(prepared, replace(figures, best_step=training.best_step), costs, folder, manifest)
    update_manifest(
        folder,
        metrics=summarize_figures(split, figures.tuned),
        figures=hash_files(folder, list(FIGURES)),
        test_reads=count_test_reads(folder),
    )
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # only now is there nothing left to resume
    return figures


def _explain(
    predictor: Predictor, examples: Examples, errors: Sequence[ConfidentError], progress: Progress
) -> dict[int, Explanation]:
    """Return explanations of the first errors; none where the model cannot be explained, which is said."""
    most = min(count_explained(len(examples)), len(list_explainable(errors)))
    if not most:
        return {}
    progress.say(f"explaining the {most} most confident errors")
    try:
        return explain_errors(predictor, examples, errors, most)
    except TextuneError as error:
        progress.say(f"the report explains no errors: {str(error).splitlines()[0]}")
        return {}


def _find_seen(figures: Figures, predictor: Predictor, examples: Examples, folder: Path) -> SeenRows | None:
    """Return the test rows that training saw, with the figures on the others; None where the run keeps no hashes."""

    def measure(rows: NDArray[np.int64]) -> AnyEvaluation | None:
        if not predictor.task.has_figures(figures.probabilities[rows]):
            return None
        return measure_some(predictor, examples.take(rows), figures.probabilities[rows])

    seen = find_seen_rows(folder, predictor.manifest, examples, measure)
    return seen if seen.checked else None


def measure_ladder(prepared: Prepared, training: Training, predictor: Predictor) -> Figures:
    """Measure majority class, TF-IDF, linear probe, untuned model and the tuned model on the same rows.

    Label likelihood, of a causal backbone, is slow and measured on some of them.
    Each is tuned on held-out rows, as the tuned model is.
    """
    data, seed = prepared.data, prepared.config.training.seed
    split, examples = data.evaluation
    task, labels = predictor.task, data.labels
    targets, unknown = task.encode_targets(labels, examples), task.find_unknown(labels, examples)
    started_at = time.monotonic()
    tuned = predictor.predict_proba(examples.texts(), examples.text_pairs())
    tuned_seconds = training.seconds + time.monotonic() - started_at
    likelihood = _measure_likelihood(prepared, predictor, tuned)
    untuned = open_untuned(prepared, training.head)
    rows, answered = [], []
    for rival in list_rivals(prepared, untuned):
        started_at = time.monotonic()
        rival_task, probabilities = rival.predict()
        seconds = time.monotonic() - started_at + (untuned.probe_seconds if rival.key == "probe" else 0.0)
        evaluation = rival_task.evaluate(probabilities, targets, labels.names, seed=seed, unknown=unknown)
        difference = task.compare(targets, tuned, probabilities, rival_task, unknown, seed)
        if rival.key == "probe" and prepared.is_probe:
            difference = IDENTICAL
        rows.append(Measured(rival.name, rival.key, evaluation, seconds, difference))
        answered.append(Answered(rival.name, rival_task, probabilities, evaluation))
    rows += likelihood
    evaluation = task.evaluate(tuned, targets, labels.names, seed=seed, unknown=unknown)
    name, metric = task.model_names["tuned"], prepared.config.training.metric
    rows.append(Measured(name, "tuned", evaluation, tuned_seconds))
    beyond = np.array([len(names) for names in unknown] or [0] * len(targets), np.int64)
    goal_rows = GoalRows(targets, labels.names, metric, seed, beyond)
    goal = measure_goal(Answered(name, task, tuned, evaluation), answered, goal_rows)
    return Figures(split, tuple(rows), tuple(collect_errors(predictor, tuned, examples)), tuned, goal=goal)


def _measure_likelihood(prepared: Prepared, predictor: Predictor, tuned: Probabilities) -> list[Measured]:
    """Return label likelihood on some of the rows, or nothing where it does not apply."""
    started_at = time.monotonic()
    found = predict_by_likelihood(prepared, predictor)
    if found is None:
        return []
    chosen, probabilities = found
    data, seed, task = prepared.data, prepared.config.training.seed, predictor.task
    examples = data.evaluation[1].take(chosen)
    targets, unknown = task.encode_targets(data.labels, examples), task.find_unknown(data.labels, examples)
    plain = build_task(task.name)
    evaluation = plain.evaluate(probabilities, targets, data.labels.names, seed=seed, unknown=unknown)
    difference = task.compare(targets, tuned[chosen], probabilities, plain, unknown, seed)
    some = "" if len(chosen) == len(tuned) else f" ({len(chosen)} of {len(tuned):,} rows)"
    name, seconds = f"{task.model_names['likelihood']}{some}", time.monotonic() - started_at
    return [Measured(name, "likelihood", evaluation, seconds, difference)]


def measure_written(prepared: Prepared, training: Training, predictor: Predictor, folder: Path) -> Figures:
    """Measure the answers of two baselines, of the base model and of the tuned model on the same rows."""
    data, task, manifest = prepared.data, predictor.task, predictor.manifest
    split, examples = data.evaluation
    targets, labels = task.encode_targets(data.labels, examples), data.labels.names
    tuned, tuned_seconds = time_call(lambda: predictor.answer_examples(examples))
    rows, base = [], tuned
    for key, answer in list_written_rivals(prepared, tuned, folder, manifest):
        base, seconds = time_call(answer)
        evaluation = task.evaluate(base, targets, labels, seed=manifest.seed, unknown=())
        difference = task.compare(targets, tuned, base, task, (), manifest.seed)
        rows.append(Measured(task.model_names[key], key, evaluation, seconds, difference))
    evaluation = task.evaluate(tuned, targets, labels, seed=manifest.seed, unknown=())
    rows.append(Measured(task.model_names["tuned"], "tuned", evaluation, training.seconds + tuned_seconds))
    return Figures(split, tuple(rows), (), tuned, samples=tuple(collect_samples(examples, base, tuned)))


def write_evaluation(prepared: Prepared, figures: Figures, costs: Costs, folder: Path, manifest: Manifest) -> Path:
    """Write evaluation/metrics.json, evaluation/report.html and the model card; return the report's path."""
    target = folder / "evaluation"
    target.mkdir(exist_ok=True)
    summary = describe_run(manifest, prepared.config.training, costs)
    warnings = list_warnings(prepared, folder)
    if (seen := figures.seen) is not None and seen.seen:  # the rows themselves were warned of when they were read
        kinds = " or ".join(["training"] * bool(seen.training) + ["validation"] * bool(seen.validation))
        warnings.append(f"without the {figures.split} rows that are {kinds} rows, too: {seen.describe_unseen()}")
    explanations = {str(row): explanation.to_dict() for row, explanation in figures.explanations.items()}
    content = (
        figures.to_dict()
        | {
            "summary": dict(summary),
            "costs": vars(costs),
            "data": dict(prepared.facts),
            "warnings": warnings,
            "names": {r.key: r.name for r in figures.rows},
            "leads": {r.key: vars(r.difference) for r in figures.rows if r.difference is not None},
            "best_step": figures.best_step,
            "verdict": list(judge([row.as_row() for row in figures.rows], figures.split, figures.goal).answer),
            "confident_errors": [vars(e) for e in figures.errors],
        }
        | ({} if figures.goal is None else {"goal": asdict(figures.goal)})
        | ({} if figures.slices is None else {"slices": figures.slices.to_dict()})
        | ({} if not figures.samples else {"samples": [vars(sample) for sample in figures.samples]})
        | ({} if not figures.explanations else {"explanations": explanations})
    )
    stored, report = json.dumps(content, indent=2, ensure_ascii=False), target / "report.html"
    write_text_atomically(target / "metrics.json", f"{stored}\n")
    write_report(build_report_input(folder, manifest, json.loads(stored)), report)
    rows = [row.as_row() for row in figures.rows]
    card = CardInput(
        title=folder.name,
        textune_version=__version__,
        base_model=None if prepared.backbone.local else prepared.backbone.id,
        library_name=name_library(manifest),
        labels=manifest.labels,
        split=figures.split,
        comparison=rows,
        facts=summary,
        warnings=warnings,
        reload_lines=reload_without_textune(manifest, folder.name, folder),
        tags=[manifest.method],
        task=manifest.task,
        slices=figures.slices,
        goal=figures.goal,
    )
    write_text_atomically(folder / "README.md", render_card(card))
    return report


def list_warnings(prepared: Prepared, folder: Path) -> list[str]:
    """Return what was found in the data, and what the last evaluation warned of: earlier ones may no longer hold.

    Each is there once, also where a resumed run noted it again.
    """
    log = read_json_lines(folder / "metrics.jsonl")
    last = max((line["step"] for line in log if line["kind"] == "evaluation"), default=0)
    found = (line["text"] for line in log if line["kind"] == "warning" and line["step"] == last)
    return list(dict.fromkeys([*prepared.data.warnings, *found]))


def summarize_figures(split: str, tuned: AnyEvaluation) -> dict[str, Any]:
    """Return what the manifest keeps of the tuned model's figures."""
    figures = tuned.summary
    known = [name for name in figures if name in tuned.intervals]  # a loss on a single row has none
    intervals = {f"{name}_interval": list(vars(tuned.intervals[name]).values()) for name in known}
    return {"split": split, "rows": tuned.rows, **figures, **intervals}
