"""The composer of one run: settings in, run folder out. No other module trains, saves and measures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textune.bundle import (
    PLAN,
    SETTINGS,
    SWEEP,
    Manifest,
    has_begun,
    lock_run,
    prepare_run_folder,
    read_manifest,
    refuse_exported,
)
from textune.config import RunConfig, build_config, load_settings
from textune.errors import BundleError
from textune.files import read_json
from textune.inference import Predictor
from textune.process.interrupt import RunInterrupted
from textune.progress import Progress, open_progress
from textune.run.evaluate import Training, evaluate
from textune.run.fit import fit
from textune.run.other_rows import evaluate as evaluate_rows
from textune.run.prepare import Prepared, Shared, prepare
from textune.run.save import save
from textune.run.start import adopt_init, choose_folder, refuse_changes, refuse_several_processes
from textune.tasks import AnyEvaluation


@dataclass(frozen=True)
class Run:
    """A finished run. metrics: the content of evaluation/metrics.json."""

    folder: Path
    manifest: Manifest
    metrics: Mapping[str, Any]

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "evaluation" / "report.html"

    def load(self, **options: Any) -> Predictor:
        """Return a Predictor; options as for `Predictor.load`."""
        return Predictor.load(self.folder, **options)

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """Return the label of each text, or with several labels per text a tuple of them.

        It loads the model each time: for many calls keep `load()`.
        """
        return self.load().predict(texts)

    def evaluate(self, data: Any, **settings: Any) -> AnyEvaluation:
        """Measure the model on other labelled rows."""
        return evaluate_rows(self.folder, data, **settings)


def train(data: Any = None, *, overwrite: bool = False, progress: Progress | None = None, **settings: Any) -> Run:
    """Train, saves and measures one classifier; return the finished run.

    data: a path, hub:NAME, embedded:NAME or a data frame (then test= and validation= may be frames, too).
    settings: the names of `textune train --settings`; a method's options as method={"name": "lora", "r": 16}.
    Raises ConfigError, DataError, ModelError, BundleError; nothing half-made is left then.
    """
    given = {"data": data} | {k: settings.pop(k) for k in ("test", "validation") if k in settings}
    frames = {k: v for k, v in given.items() if v is not None and not isinstance(v, str | Path)}
    flat = {k: str(v) for k, v in given.items() if isinstance(v, str | Path)}
    config = build_config(flat | dict.fromkeys(frames, "data frame") | settings)
    return train_config(config, overwrite=overwrite, progress=progress, frames=frames)


def train_config(
    config: RunConfig,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    frames: Mapping[str, Any] | None = None,
) -> Run:
    """Like `train`, from a RunConfig."""
    refuse_several_processes()
    progress, started_at = progress or open_progress(), time.monotonic()
    config = adopt_init(config)
    folder = choose_folder(config, overwrite)
    prepared = prepare(config, progress, Shared(frames))
    prepared.data.evaluation  # noqa: B018  raises, before anything is trained, where nothing is left to measure on
    with lock_run(folder):
        prepare_run_folder(folder, overwrite=overwrite)
        try:
            manifest, training = train_and_save(prepared, folder, progress)
            evaluate(prepared, replace(training, started_at=started_at), folder, manifest, progress)
            return load_run(folder)
        except BaseException as error:
            if not isinstance(error, RunInterrupted) and not (folder / "checkpoints").is_dir():
                shutil.rmtree(folder, ignore_errors=True)  # nothing worth keeping was made
            raise


def train_and_save(
    prepared: Prepared, folder: Path, progress: Progress, plan: Mapping[str, Any] | None = None
) -> tuple[Manifest, Training]:
    """Train and save, and let go of the model. plan: of the run that is resumed."""
    fitted = fit(prepared, folder, progress, plan)
    return save(prepared, fitted, folder, progress), Training(fitted.seconds, fitted.head)


def resume(run: str | Path, data: Any = None, *, progress: Progress | None = None, **frames: Any) -> Run:
    """Go on with an interrupted run, exactly where its newest whole checkpoint stands.

    data, and test= and validation=: the data frames, where the run was started on frames.
    Raises BundleError where settings or data changed.
    """
    folder = Path(run)
    progress = progress or open_progress()
    if not has_begun(folder):
        raise BundleError(
            f"{folder}: there is no interrupted run here",
            hint="it was stopped before its first step: start it again with the command of before"
            if (folder / PLAN).is_file()
            else "give the folder that 'textune train' named",
        )
    if folder.resolve().parent.name == "trials" and (folder.resolve().parents[1] / SWEEP).is_file():
        raise BundleError(
            f"{folder}: is a trial of a search, which alone may go on with it",
            hint=f"textune resume {folder.parent.parent}",
        )
    config = build_config(load_settings(folder / SETTINGS))
    config = replace(config, name=folder.name, runs_dir=str(folder.parent))
    with lock_run(folder):
        plan = read_json(folder / PLAN, "the run's plan")
        # the figures enter the manifest last, when report and card are written
        if (folder / "textune.json").is_file() and read_manifest(folder, verify=False).metrics:
            progress.say(f"{folder}: this run is finished already")
            return load_run(folder)
        refuse_changes("the settings", plan.get("settings", {}), config.identity())
        prepared = prepare(config, progress, Shared(frames | ({} if data is None else {"data": data})))
        manifest, training = train_and_save(prepared, folder, progress, plan)
        evaluate(prepared, training, folder, manifest, progress)
        return load_run(folder)


def train_only(config: RunConfig, progress: Progress, frames: Mapping[str, Any]) -> Path:
    """Train and save the bundle, with no baselines and no report; return the run's folder."""
    config = adopt_init(config)
    prepared = prepare(config, progress, Shared(frames))
    folder = choose_folder(config, overwrite=False)
    with lock_run(folder):
        prepare_run_folder(folder, overwrite=False)
        train_and_save(prepared, folder, progress)
    return folder


def load_run(folder: str | Path) -> Run:
    """Open a finished run without loading its model."""
    folder = Path(folder)
    manifest = read_manifest(folder, verify=False)
    refuse_exported(folder, manifest)
    if manifest.imported and not manifest.metrics:
        raise BundleError(
            f"{folder}: an imported run comes without figures", hint=f"measure it: textune evaluate {folder} DATA"
        )
    return Run(folder, manifest, read_json(folder / "evaluation" / "metrics.json", "the run's metrics"))
