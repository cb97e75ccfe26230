"""`textune sweep`: many short trainings chosen by validation rows alone; the best becomes a run, tested once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textune.bundle import SWEEP, has_begun, lock_run, prepare_run_folder
from textune.config import RunConfig, build_config
from textune.errors import BundleError, ConfigError, DataError
from textune.files import read_json, write_folder
from textune.process.interrupt import RunInterrupted, StopRequest
from textune.progress import Progress, open_progress
from textune.run import Run, load_run, resume, train_config
from textune.run.prepare import Prepared, Sample, prepare, read_rows
from textune.run.start import choose_folder, refuse_several_processes
from textune.search.cluster import find_ray, run_on_ray
from textune.search.display import describe_figure, describe_point, open_display
from textune.search.ledger import Ledger, Trial
from textune.search.local import run_here, run_workers
from textune.search.settings import DEFAULT_FOLDS, FEW_ROWS, SweepSettings, build_sweep, read_sweep, write_sweep
from textune.search.space import settings_at
from textune.search.start import describe_beginning
from textune.search.summary import SUMMARY, Selection, write_summary
from textune.search.trial import Bench, drop_checkpoints


@dataclass(frozen=True)
class Sweep:
    """A finished search. content: what sweep.json says. winner: the best trial as an ordinary run."""

    folder: Path
    content: Mapping[str, Any]
    winner: Run

    @property
    def report(self) -> Path:
        """The report of the search, one HTML file."""
        return self.folder / "report.html"


def sweep(data: Any = None, *, overwrite: bool = False, progress: Progress | None = None, **settings: Any) -> Sweep:
    """Try settings, chooses by the validation rows, and finishes the best trial as a run.

    data and settings as for `train`, and sweep={"space": {"learning_rate": [1e-3, 5e-4]}, "halving": True, ...}.
    Raises ConfigError with every problem before anything is trained; TrainingError where all trials failed.
    """
    given = {"data": data} | {k: settings.pop(k) for k in ("test", "validation") if k in settings}
    frames = {k: v for k, v in given.items() if v is not None and not isinstance(v, str | Path)}
    flat = {k: str(v) for k, v in given.items() if isinstance(v, str | Path)}
    config, search = build_sweep(flat | dict.fromkeys(frames, "data frame") | settings)
    return sweep_config(config, search, overwrite=overwrite, progress=progress, frames=frames)


def sweep_config(
    config: RunConfig,
    search: SweepSettings,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    frames: Mapping[str, Any] | None = None,
) -> Sweep:
    """Like `sweep`, from settings that `build_sweep` checked."""
    refuse_several_processes()
    _refuse_frames_elsewhere(search, frames or {})
    progress = progress or open_progress()
    bench = Bench(frames)
    folder = choose_folder(config, overwrite, kind="sweep")
    config = replace(config, name=folder.name)
    first, search = _look_at_data(config, search, bench, progress)
    config = _settle_by_rows(config, search, first)
    if config.training.threads is None and (search.workers > 1 or search.executor == "ray"):
        threads = max(1, (os.cpu_count() or 1) // search.workers)
        config = config.replace(threads=threads)
        progress.say(f"threads: {threads} for each of {search.workers} workers")
    with lock_run(folder):
        prepare_run_folder(folder, overwrite=overwrite)
        write_sweep(folder, config, search)
        return _conduct(folder, config, search, first, bench, progress)


def resume_sweep(folder: str | Path, *, progress: Progress | None = None, **frames: Any) -> Sweep:
    """Go on with an interrupted search: finished trials stand, those in training go on from their checkpoints.

    data=, test=, validation=: the data frames, where the search was started on frames.
    """
    folder = Path(folder)
    progress = progress or open_progress()
    if not (folder / SWEEP).is_file():
        raise BundleError(f"{folder}: there is no search here", hint="give the folder that 'textune sweep' named")
    with lock_run(folder):
        if (folder / SUMMARY).is_file():
            progress.say(f"{folder}: this sweep is finished already")
            return load_sweep(folder)
        config, search = read_sweep(folder)
        config = replace(config, name=folder.name, runs_dir=str(folder.parent))
        bench = Bench(frames)
        first, search = _look_at_data(config, search, bench, progress)
        return _conduct(folder, config, search, first, bench, progress)


def load_sweep(folder: str | Path) -> Sweep:
    """Open a finished search."""
    folder = Path(folder)
    content = read_json(folder / SUMMARY, "the sweep's summary")
    return Sweep(folder, content, load_run(folder / "winner"))


def _refuse_frames_elsewhere(search: SweepSettings, frames: Mapping[str, Any]) -> None:
    if search.executor == "ray":
        find_ray()
    if frames and (search.workers > 1 or search.executor != "local"):
        raise ConfigError(
            "a data frame is in this process only, and workers read files",
            hint="write it to a Parquet file and give its path, or leave workers= and executor= out",
        )


def _look_at_data(
    config: RunConfig, search: SweepSettings, bench: Bench, progress: Progress
) -> tuple[Prepared, SweepSettings]:
    """Read the rows and say what they are; decides how trials are compared. The test rows stay shut."""
    test = config.data.test
    if test and "test" not in bench.frames and not test.startswith(("hub:", "embedded:")) and not Path(test).exists():
        raise DataError(f"test={test}: there is no such file or folder")  # it is opened only when hours have passed
    point = next(iter(search.space.list_tried(every=False)))
    tried = build_config(settings_at(config.to_dict(), point))
    first = prepare(tried, progress, bench, Sample(hold_test=True))
    data, held = first.data, first.data.validation
    rows = len(data.train) + len(held or ())
    if search.folds is None:
        given = config.data.validation is not None or config.data.validation_fraction is not None
        folds = DEFAULT_FOLDS if rows < FEW_ROWS and not given else 0
        search = replace(search, folds=folds)
        if folds:
            progress.say(f"folds: {folds} (fewer than {FEW_ROWS} rows: a tenth of them could not tell trials apart)")
    if search.folds:
        read_rows(tried, bench, Sample((0, search.folds), hold_test=True))  # raises where the rows do not suffice
    if not search.folds and held is None:
        raise DataError(
            "a sweep chooses by validation rows, and there are none",
            hint="set validation_fraction=0.1, or sweep.folds=5",
        )
    return first, search


def _settle_by_rows(config: RunConfig, search: SweepSettings, first: Prepared) -> RunConfig:
    """Fix what rules on the number of rows leave open.

    A fold has fewer rows than the training of the winner, and a run of few rows would hold none out for validation.
    """
    if not search.folds:
        if config.data.validation is not None or config.data.validation_fraction is not None:
            return config
        return config.replace(validation_fraction=first.data.validation_fraction)  # few rows would do without
    searched = {d.name for d in search.space.dimensions}
    names = [n for n in ("epochs", "batch_size") if n not in searched and getattr(config.training, n) is None]
    return config.replace(**{name: getattr(first.config.training, name) for name in names})


def _conduct(
    folder: Path, config: RunConfig, search: SweepSettings, first: Prepared, bench: Bench, progress: Progress
) -> Sweep:
    metric = search.metric or first.config.training.metric or "accuracy"
    begun = describe_beginning(config, search, first.data)
    ledger = Ledger(folder, config, search, first.config.training.epochs, begun)
    if search.halving and len(ledger.shares) == 1:
        progress.warn(
            f"halving stops no trial: none is judged before {search.halving.min_epochs:g} epochs, and each is trained "
            f"for {first.config.training.epochs:g} (sweep.halving={{min_epochs: 0.25}} judges earlier)"
        )
    for number in ledger.recover():
        progress.say(f"trial {number}: goes on where it stood")
    held = (
        len(first.data.train) + len(first.data.validation or ()) if search.folds else len(first.data.validation or ())
    )
    selection = Selection(search.folds or 0, held, metric)
    progress.say(
        f"{search.trials} trials of {', '.join(d.name for d in search.space.dimensions)}, chosen by {metric} on "
        f"{selection.describe()}; the test set stays shut until one is chosen"
    )
    try:
        with StopRequest() as stop, open_display(ledger, progress, metric) as watch:
            if search.executor == "ray":
                run_on_ray(ledger, watch, search.workers, config.training.threads or 1, stop)
            elif search.workers > 1:
                run_workers(ledger, watch, search.workers, config.training.threads or 1, stop)
            else:
                run_here(ledger, watch, bench, stop)
        best = ledger.check_any()
        assert best.outcome is not None
        progress.say(
            f"winner: trial {best.number} ({describe_point(best.point)}), "
            f"{describe_figure(best.outcome.scores, metric)} on {selection.describe()}"
        )
        run = _finish(folder, config, search, best, bench, progress)
    except RunInterrupted as error:
        over = sum(t.is_over for t in ledger.trials)
        raise RunInterrupted(
            f"{error.message}; {over} of {search.trials} trials are over",
            error.exit_code - 128,
            hint=f"go on with: textune resume {folder}",
        ) from error
    except BundleError as error:  # a trial's own hint would name the trial's folder
        raise BundleError(error.message, hint=f"put that right, then go on with: textune resume {folder}") from error
    finally:
        ledger.add_seconds()
    content = write_summary(folder, ledger, selection, run)
    for trial in ledger.trials:
        drop_checkpoints(folder / "trials" / f"{trial.number:04d}")
    return Sweep(folder, content, run)


def _finish(
    folder: Path, config: RunConfig, search: SweepSettings, best: Trial, bench: Bench, progress: Progress
) -> Run:
    """Make the best trial a run: its own weights, saved, reloaded and tested, as a resumed run would be.

    After cross-validation there are no weights of one training on all rows: then its settings are trained once more.
    """
    winner, place = folder / "winner", folder / "trials" / f"{best.number:04d}"
    if not has_begun(winner) and not search.folds:
        with write_folder(winner) as partial:
            shutil.copytree(place, partial, ignore=shutil.ignore_patterns(".lock"), dirs_exist_ok=True)
    try:
        if has_begun(winner):
            return resume(winner, progress=progress, **bench.frames)
        shutil.rmtree(winner, ignore_errors=True)
        settings = settings_at(config.to_dict(), best.point) | {"name": winner.name, "runs_dir": str(folder)}
        return train_config(build_config(settings), progress=progress, frames=bench.frames)
    except DataError as error:  # of the test table: nobody looked at it before
        raise DataError(
            error.message,
            hint="put the test table right, with its columns called as the training table's, then go on with: "
            f"textune resume {folder}",
        ) from error
