"""One run from settings to run folder: `train`, `resume` and `load_run`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from textune.bundle import (
    PLAN,
    SETTINGS,
    SWEEP,
    AnyRun,
    Manifest,
    find_run,
    has_begun,
    is_measured,
    lock_run,
    prepare_run_folder,
    read_manifest,
    read_metrics,
    read_plan,
    refuse_exported,
    refuse_links,
)
from textune.config import RunConfig, build_config, load_settings
from textune.config.aliases import resolve_aliases
from textune.errors import BundleError, DataError, TextuneError, show_resume
from textune.evaluation.text import percent
from textune.files import give_name
from textune.inference import Predictor
from textune.inference.texts import is_missing, is_table, take_column
from textune.process.interrupt import RunInterrupted, stopping_at_once
from textune.progress import Progress, open_progress
from textune.run.calibrate import calibrate
from textune.run.claim import claim_folder
from textune.run.error_analysis import ErrorAnalysis, find_errors
from textune.run.evaluate import Training, evaluate
from textune.run.fit import fit
from textune.run.other_rows import evaluate as evaluate_rows
from textune.run.places import FRAME, add_trust, check_resumable, find_places, refuse_missing_frames
from textune.run.prepare import Prepared, Shared, prepare
from textune.run.save import save
from textune.run.start import adopt_init, refuse_changes, refuse_several_processes
from textune.tasks import AnyEvaluation, read_evaluation


@dataclass(frozen=True)
class Run:
    """A finished run. metrics: the content of evaluation/metrics.json."""

    folder: Path
    manifest: Manifest
    metrics: Mapping[str, Any]

    @property
    def report(self) -> Path:
        """The path of the HTML report."""
        return self.folder / "evaluation" / "report.html"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def __str__(self) -> str:
        """Return what a person wants to know first, in a few lines."""
        tuned = self.metrics["models"]["tuned"]
        headline = read_evaluation(tuned).headline
        low, high = headline.interval.low, headline.interval.high
        return (
            f"{self.folder}: {self.manifest.method} on {self.manifest.base_model.id}\n"
            f"{headline.name} {percent(headline.value)} (95% interval {percent(low)} to {percent(high)}) "
            f"on {tuned['rows']:,} {self.metrics['split']} rows\n"
            + ("" if self.manifest.writing else f"labels: {_list_labels(self.manifest.labels)}\n")
            + (f"report: {self.report}" if self.report.is_file() else "report: missing")
        )

    def load(self, **options: Any) -> Predictor:
        """Return a Predictor; options are those of `Predictor.load`."""
        return Predictor.load(self.folder, **options)

    @overload
    def predict(self, texts: str, pairs: str | None = None, **choices: Any) -> Any: ...
    @overload
    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None, **choices: Any) -> list[Any]: ...
    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None, **choices: Any) -> Any:
        """Return a list with the label of each text, or the label of one string; tuples of labels for several per text.

        pairs: the second texts, for runs on pairs. choices: abstain= and sets=, as for `Predictor.predict`.
        This loads the model at each call. Keep the result of `load()` for many calls.
        """
        return self.load().predict(texts, pairs, **choices)

    def evaluate(self, data: Any, **settings: Any) -> AnyEvaluation:
        """Evaluate the model on other labelled rows."""
        return evaluate_rows(self.folder, data, **settings)

    def find_errors(self, data: Any = None, **options: Any) -> ErrorAnalysis:
        """Return where the model errs, on its evaluation rows or on other labelled rows; options: `find_errors`."""
        return find_errors(self.folder, data, **options)


def _list_labels(labels: tuple[str, ...]) -> str:
    return f"{', '.join(labels[:8])}{', ...' if len(labels) > 8 else ''}"


def train(
    data: Any = None,
    text: Any = None,
    label: Any = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Train, save and evaluate one classifier; return the finished run.

    data: a path, hub:NAME, embedded:NAME or a data frame; test= and validation= may be data frames, too.
    text, label: the columns, found by their names and content if left out. Or `train(texts, labels)`: a list of texts,
    and the label of each (a list of labels each, for several per text).
    settings: the names of `textune settings`; a method's options as method={"name": "lora", "r": 16}.
    Raises ConfigError, DataError, ModelError or BundleError, and leaves no partial run behind.
    """
    data, columns = _name_columns(data, text, label)
    settings = resolve_aliases(({} if data is None else {"data": data}) | columns | settings)
    sources: dict[str, Any] = {k: settings.pop(k) for k in ("data", "test", "validation") if k in settings}
    frames = {k: v for k, v in sources.items() if v is not None and not isinstance(v, str | Path)}
    flat = {k: str(v) for k, v in sources.items() if isinstance(v, str | Path)}
    config = build_config(flat | dict.fromkeys(frames, FRAME) | settings)
    return train_config(config, overwrite=overwrite, progress=progress, frames=frames)


def _name_columns(data: Any, text: Any, label: Any) -> tuple[Any, dict[str, Any]]:
    """Return a table and the settings of its columns. Raises DataError for texts and labels of different number."""
    data = list(data) if isinstance(data, Iterator) else data  # a look at its first item would take that away
    data = take_column(data) if _are_labels(text, data) else data
    if not _is_texts(data):
        return data, {k: v for k, v in (("text", text), ("label", label)) if v is not None}
    texts = [None if is_missing(one) else one for one in _list_items(data)]
    labels = None if text is None or isinstance(text, str) else _list_items(take_column(text))
    if labels is None or label is not None:
        raise DataError("texts are given without labels", hint="call train(texts, labels), or give a table")
    if len(texts) != len(labels):
        raise DataError(f"there are {len(texts):,} texts and {len(labels):,} labels", hint="give one label for each")
    rows = [{"text": one, "label": other} for one, other in zip(texts, labels, strict=True)]
    return rows, {"text": "text", "label": "label"}


def _are_labels(text: Any, data: Any) -> bool:
    """Return whether what is given after the data is a label for each row, and names no columns of it."""
    if isinstance(text, list | tuple):
        return is_table(data) and len(text) == data.shape[0] > 1
    return is_table(text) or hasattr(text, "dtype") or hasattr(text, "to_pylist")


def _list_items(column: Any) -> list[Any]:
    return list(column.to_pylist() if hasattr(column, "to_pylist") else column)  # Arrow's own scalars are not strings


def _is_texts(data: Any) -> bool:
    """Return whether something is a list, array or series of texts, and no table.

    Missing texts are passed over; the reader skips and counts them. Raises DataError for a list of pairs.
    """
    if isinstance(data, str | Path | Mapping) or is_table(data) or not isinstance(data, Iterable):
        return False
    items = _list_items(data) if hasattr(data, "to_pylist") else data
    first = next((item for item in items if not is_missing(item)), None)
    if isinstance(first, list | tuple):
        raise DataError(
            f"each text is given as a {type(first).__name__}",
            hint="give texts and labels apart: train(texts, labels); or give rows, such as "
            "[{'text': 'a', 'text_pair': 'b', 'label': 'yes'}] for pairs of texts",
        )
    return isinstance(first, str)


def train_config(
    config: RunConfig,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    frames: Mapping[str, Any] | None = None,
) -> Run:
    """Do what `train` does, from a RunConfig."""
    refuse_several_processes()
    progress, started_at = progress or open_progress(), time.monotonic()
    config = adopt_init(config)
    with claim_folder(config, overwrite) as folder:
        prepared = prepare(config, progress, Shared(frames))
        prepared.data.evaluation  # noqa: B018  raises before training if there are no rows to evaluate on
        prepare_run_folder(folder, overwrite=overwrite)
        try:
            manifest, training = train_and_save(prepared, folder, progress)
            _measure(prepared, replace(training, started_at=started_at), folder, manifest, progress)
        except BaseException as error:
            if isinstance(error, TextuneError):
                add_trust(error, config.model.trust)
            if not isinstance(error, RunInterrupted) and not (folder / "checkpoints").is_dir():
                shutil.rmtree(folder, ignore_errors=True)  # there is nothing to keep
            raise
        return load_run(folder)


def train_and_save(
    prepared: Prepared, folder: Path, progress: Progress, plan: Mapping[str, Any] | None = None
) -> tuple[Manifest, Training]:
    """Train, calibrate and save, then release the model. plan: the plan of the run that is resumed."""
    fitted = fit(prepared, folder, progress, plan)
    calibration = calibrate(prepared, fitted, folder, progress)
    with stopping_at_once("after its training, while it was saved", f"continue it with: {show_resume(folder)}"):
        manifest = save(prepared, fitted, folder, progress, calibration)
    seconds = fitted.seconds + calibration.seconds
    return manifest, Training(seconds, fitted.head, best_step=fitted.result.best_step)


def _measure(prepared: Prepared, training: Training, folder: Path, manifest: Manifest, progress: Progress) -> None:
    with stopping_at_once("after its training, while it was measured", f"continue it with: {show_resume(folder)}"):
        evaluate(prepared, training, folder, manifest, progress)


def resume(run: AnyRun, data: Any = None, *, progress: Progress | None = None, **settings: Any) -> Run:
    """Continue an interrupted run exactly from its last complete checkpoint.

    run: its folder, or its name in the folder `runs`.
    data, test= and validation=: the data frames, if the run was started on data frames; else where the tables are now,
    as backbone= and init= for folders. trust: as for `train`; it is never taken from the run's own files.
    Raises BundleError if settings or data changed.
    """
    folder, sources = give_name(find_run(run)), settings | ({} if data is None else {"data": data})
    check_resumable(sources)
    frames = {k: v for k, v in sources.items() if not isinstance(v, str | Path)}
    moved = {k: str(v) for k, v in sources.items() if isinstance(v, str | Path)}
    progress = progress or open_progress()
    if not has_begun(folder):
        raise BundleError(
            f"{folder}: there is no interrupted run here",
            hint="it was stopped before its first step: start it again with the same command"
            if (folder / PLAN).is_file()
            else "give the folder of an interrupted run",
        )
    if folder.resolve().parent.name == "trials" and (folder.resolve().parents[1] / SWEEP).is_file():
        raise BundleError(
            f"{folder}: is a trial of a search; only the search can resume it",
            hint=f"resume the search: {show_resume(folder.parent.parent, search=True)}",
        )
    config = build_config(load_settings(folder / SETTINGS))
    config = replace(config, name=folder.name, runs_dir=str(folder.parent))
    with lock_run(folder):
        refuse_links(folder)
        plan = read_plan(folder)
        if is_measured(folder):
            progress.say(f"{folder}: this run is already finished")
            return load_run(folder)
        settings_then = {k: v for k, v in plan.get("settings", {}).items() if k != "trust"}  # stored by older versions
        refuse_changes("the settings", settings_then, config.identity())
        config = find_places(config, plan, folder, sources).replace(**moved)
        refuse_missing_frames(config, folder, frames)
        try:
            prepared = prepare(config, progress, Shared(frames))
            manifest, training = train_and_save(prepared, folder, progress, plan)
            _measure(prepared, training, folder, manifest, progress)
        except TextuneError as error:
            add_trust(error, config.model.trust)
            raise
        return load_run(folder)


def train_only(config: RunConfig, progress: Progress, frames: Mapping[str, Any]) -> Path:
    """Train and save the bundle, with no baselines and no report; return the run's folder."""
    config = adopt_init(config)
    prepared = prepare(config, progress, Shared(frames))
    with claim_folder(config, overwrite=False) as folder:
        prepare_run_folder(folder, overwrite=False)
        train_and_save(prepared, folder, progress)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return folder


def load_run(folder: AnyRun) -> Run:
    """Open a finished run without loading its model; folder: or its name in the folder `runs`."""
    folder = find_run(folder)
    manifest = read_manifest(folder, verify=False)
    refuse_exported(folder, manifest)
    if manifest.imported and not manifest.metrics:
        raise BundleError(f"{folder}: an imported run has no evaluation", hint="evaluate it on a labelled table")
    return Run(folder, manifest, read_metrics(folder, manifest))
