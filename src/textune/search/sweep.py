"""`textune sweep`: many short trainings compared on validation rows; the best becomes a run and is tested once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textune.bundle import SWEEP, find_run, has_begun, lock_run, prepare_run_folder, refuse_links
from textune.config import RunConfig, build_config
from textune.config.aliases import resolve_aliases
from textune.errors import BundleError, ConfigError, DataError, show_resume
from textune.files import give_name, write_folder
from textune.process.interrupt import RunInterrupted, StopRequest
from textune.progress import Progress, Silent, open_progress
from textune.run import Run, load_run, resume, train_config
from textune.run.claim import claim_folder
from textune.run.places import FRAME, RESUMABLE, check_resumable, fix_places, is_there, refuse_missing
from textune.run.prepare import Prepared, Sample, prepare
from textune.run.start import refuse_several_processes
from textune.run.tables import PreparedData, decides_on_rows
from textune.search.bits import choose_loss
from textune.search.cluster import find_ray, run_on_ray
from textune.search.display import describe_figure, describe_point, open_display
from textune.search.ledger import Ledger, Trial
from textune.search.local import run_here, run_workers
from textune.search.methods import find_longest, refuse_unused
from textune.search.settings import (
    DEFAULT_FOLDS,
    FEW_ROWS,
    Halving,
    SweepSettings,
    build_sweep,
    fix_backbones,
    read_base,
    read_started,
    read_sweep,
    write_sweep,
)
from textune.search.space import settings_at
from textune.search.start import describe_start, hash_models
from textune.search.summary import SUMMARY, Selection, read_summary, write_summary
from textune.search.trial import Bench, drop_checkpoints


@dataclass(frozen=True)
class Sweep:
    """A finished search. content: of sweep.json. winner: the best trial as an ordinary run."""

    folder: Path
    content: Mapping[str, Any]
    winner: Run

    @property
    def report(self) -> Path:
        """The search's report, one HTML file."""
        return self.folder / "report.html"

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r}, {self._count()})"

    def __str__(self) -> str:
        """Return the number of trials and what won, in a few lines."""
        return f"{self.folder}: {self._count()}\nwinner {self.winner}\nsearch report: {self.report}"

    def _count(self) -> str:
        trials = len(self.content["trials"])
        return f"{trials} trial{'' if trials == 1 else 's'}"


def sweep(data: Any = None, *, overwrite: bool = False, progress: Progress | None = None, **settings: Any) -> Sweep:
    """Try settings, compare them on the validation rows, and finish the best trial as a run.

    data and settings as for `train`, and sweep={"space": {"learning_rate": [1e-3, 5e-4]}, "halving": True, ...}.
    Raises ConfigError with every problem before any training; TrainingError if all trials failed.
    """
    settings = resolve_aliases(({} if data is None else {"data": data}) | settings)
    tables: dict[str, Any] = {k: settings.pop(k) for k in ("data", "test", "validation") if k in settings}
    frames = {k: v for k, v in tables.items() if v is not None and not isinstance(v, str | Path)}
    flat = {k: str(v) for k, v in tables.items() if isinstance(v, str | Path)}
    config, search = build_sweep(flat | dict.fromkeys(frames, FRAME) | settings)
    return sweep_config(config, search, overwrite=overwrite, progress=progress, frames=frames)


def sweep_config(
    config: RunConfig,
    search: SweepSettings,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    frames: Mapping[str, Any] | None = None,
) -> Sweep:
    """Like `sweep`, with settings checked by `build_sweep`."""
    refuse_several_processes()
    _check_executor(search, frames or {})
    progress = progress or open_progress()
    bench = Bench(frames)
    with claim_folder(config, overwrite, kind="sweep") as folder:
        config, search = fix_places(replace(config, name=folder.name)), fix_backbones(search)
        data, first, search = _inspect_data(config, search, bench, progress)
        refuse_unused(config, search, first, bench, progress)
        config = _fix_validation_rows(config, search, data)
        if config.training.threads is None and (search.workers > 1 or search.executor == "ray"):
            threads = max(1, (os.cpu_count() or 1) // search.workers)
            config = config.replace(threads=threads)
            progress.say(f"threads: {threads} for each of {search.workers} workers")
        prepare_run_folder(folder, overwrite=overwrite)
        write_sweep(folder, config, search)
        start = describe_start(config, search, data, hash_models(config, search, first, bench))
        return _run_search(folder, config, search, first, bench, progress, start)


def resume_sweep(folder: str | Path, *, progress: Progress | None = None, **settings: Any) -> Sweep:
    """Continue an interrupted search: finished trials are kept, running ones resume from their checkpoints.

    data=, test=, validation=: the data frames, if the search was started with frames; else where the tables are now, as
    backbone=. trust: as for `train`.
    """
    check_resumable(settings)
    frames = {k: v for k, v in settings.items() if not isinstance(v, str | Path)}
    moved = {k: str(v) for k, v in settings.items() if isinstance(v, str | Path)}
    folder = give_name(find_run(folder))
    progress = progress or open_progress()
    if not (folder / SWEEP).is_file():
        raise BundleError(f"{folder}: is not a search", hint="give the folder of a search")
    with lock_run(folder):
        refuse_links(folder)
        if (folder / SUMMARY).is_file():
            progress.say(f"{folder}: this sweep is already finished")
            return load_sweep(folder)
        refuse_missing(read_base(folder, moved), folder, settings)
        config, search = read_sweep(folder, moved)
        config = replace(config, name=folder.name, runs_dir=str(folder.parent))
        started = read_started(folder, config, moved)
        _check_executor(search, frames)
        bench = Bench(frames)
        data, first, search = _inspect_data(config, search, bench, progress)
        start = describe_start(started, search, data, hash_models(config, search, first, bench))
        return _run_search(folder, config, search, first, bench, progress, start)


def load_sweep(folder: str | Path) -> Sweep:
    """Open a finished search."""
    folder = find_run(folder)
    content = read_summary(folder)
    return Sweep(folder, content, load_run(folder / "winner"))


def _check_executor(search: SweepSettings, frames: Mapping[str, Any]) -> None:
    if search.executor == "ray":
        find_ray()
    if frames and (search.workers > 1 or search.executor != "local"):
        raise ConfigError(
            "workers cannot read a data frame of this process",
            hint="write it to a Parquet file and give its path, or leave workers= and executor= out",
        )


def _inspect_data(
    config: RunConfig, search: SweepSettings, bench: Bench, progress: Progress
) -> tuple[PreparedData, Prepared, SweepSettings]:
    """Read and describe the rows, without the test rows, and decide how trials are compared.

    Returns the rows, the first trial (of its folds the first), and the settings.
    """
    test = config.data.test
    if test and "test" not in bench.frames and not is_there("test", test):
        raise DataError(f"test={test}: no such file or folder")  # it is not opened until the search is done
    point = next(iter(search.space.list_tried(every=False)))
    tried = build_config(settings_at(config.to_dict(), point))
    first = prepare(tried, progress, bench, Sample(hold_test=True))
    if first.task.writes:
        choose_loss(search)
    data, validation = first.data, first.data.validation
    rows = len(data.train) + len(validation or ())
    if search.folds is None:
        is_set = config.data.validation is not None or config.data.validation_fraction is not None
        folds = DEFAULT_FOLDS if rows < FEW_ROWS and not is_set else 0
        search = replace(search, folds=folds)
        if folds:
            progress.say(f"folds: {folds} (fewer than {FEW_ROWS} rows: a tenth is too few to compare trials)")
    if search.folds:
        shown = first.config.training
        first = prepare(tried, Silent(), bench, Sample((0, search.folds), hold_test=True))  # raises with too few rows
        for name in ("contrast_steps", "batch_size", "epochs"):
            if (value := getattr(first.config.training, name)) != getattr(shown, name):
                progress.say(f"{name}: {value:g} in every fold (as for the winner's {first.data.rule_rows:,} rows)")
    if not search.folds and validation is None:
        raise DataError(
            "a sweep compares trials on validation rows, and there are none",
            hint="set sweep.folds=2 or more, or a larger validation_fraction=",
        )
    _check_winner(_fix_validation_rows(tried, search, data), bench, sets=first.task.reads_sets)
    return data, first, search


def _check_winner(config: RunConfig, bench: Bench, *, sets: bool) -> None:
    """Raise ConfigError or DataError where the best trial could not become a run, which would else show at the end.

    sets: whether rows have sets of labels.
    """
    tested = config.data.test or "test" in bench.frames or config.data.test_fraction != 0
    if tested and not decides_on_rows(config, sets=sets):
        return
    winner = prepare(config, Silent(), bench, Sample(hold_test=True, winner=True))
    if not tested and winner.data.validation is None:
        raise DataError(
            "the winner would be measured on test rows, or else validation rows, and there are none",
            hint="leave test_fraction=0 out, or name a table with test=",
        )


def _fix_validation_rows(config: RunConfig, search: SweepSettings, data: PreparedData) -> RunConfig:
    """Set the share of validation rows that trials are compared on: the winner, on few rows, would hold none out."""
    if search.folds or config.data.validation is not None or config.data.validation_fraction is not None:
        return config
    return config.replace(validation_fraction=data.validation_fraction)


def _run_search(
    folder: Path,
    config: RunConfig,
    search: SweepSettings,
    first: Prepared,
    bench: Bench,
    progress: Progress,
    start: Mapping[str, Any],
) -> Sweep:
    """Train what is left, and finish the winner. start: what `describe_start` returned."""
    if first.task.writes:
        search = replace(search, metric=choose_loss(search))  # not stored: it follows from the space
    metric = search.metric or first.config.training.metric or "accuracy"
    epochs = find_longest(config, search, first, bench)
    ledger = Ledger(folder, config, search, epochs, start)
    if search.halving and len(ledger.shares) == 1:
        progress.warn(_explain_no_halving(search.halving, epochs, min(search.bracket, search.trials)))
    for number in ledger.recover():
        progress.say(f"trial {number}: resuming")
    rows = len(first.data.validation or ()) + (len(first.data.train) if search.folds else 0)
    selection = Selection(search.folds or 0, rows, metric)
    progress.say(
        f"{search.trials} trials of {', '.join(d.name for d in search.space.dimensions)}, compared by {metric} on "
        f"{selection.describe()}; the test set is not read until one is chosen"
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
        finished = sum(t.is_over for t in ledger.trials)
        raise RunInterrupted(
            f"{error.message}; {finished} of {search.trials} trials are finished",
            error.exit_code - 128,
            hint=_continue(folder, config),
        ) from error
    except BundleError as error:  # the original hint would name the trial's folder
        raise BundleError(error.message, hint=f"fix that, then {_continue(folder, config)}") from error
    finally:
        ledger.add_seconds()
    content = write_summary(folder, ledger, selection, run)
    for trial in ledger.trials:
        drop_checkpoints(folder / "trials" / f"{trial.number:04d}")
    return Sweep(folder, content, run)


def _explain_no_halving(halving: Halving, epochs: float, trials: int) -> str:
    """Return why no trial is stopped early. epochs: the most that one trains for. trials: that are compared."""
    if epochs == 0:
        return "halving stops no trial: by rule the head is solved, and no trial trains in epochs"
    if trials < halving.reduction:
        return (
            f"halving stops no trial: one in {halving.reduction} goes on, and {trials} are compared "
            "(try more values, or sweep.halving={reduction: 2})"
        )
    return (
        f"halving stops no trial before {halving.min_epochs:g} epochs, but trials train for {epochs:g} at most "
        "(sweep.halving={min_epochs: 0.25} can stop them earlier)"
    )


def _finish(
    folder: Path, config: RunConfig, search: SweepSettings, best: Trial, bench: Bench, progress: Progress
) -> Run:
    """Make the best trial a run: save its weights, reload and test them, like a resumed run.

    Cross-validation leaves no weights trained on all rows, so the settings are trained once more.
    """
    winner, trial_folder = folder / "winner", folder / "trials" / f"{best.number:04d}"
    if not has_begun(winner) and not search.folds:
        with write_folder(winner) as partial:
            shutil.copytree(trial_folder, partial, ignore=shutil.ignore_patterns(".lock"), dirs_exist_ok=True)
    try:
        if has_begun(winner):
            return resume(winner, progress=progress, **_list_sources(config, best, bench))
        shutil.rmtree(winner, ignore_errors=True)
        settings = settings_at(config.to_dict(), best.point) | {"name": winner.name, "runs_dir": str(folder)}
        return train_config(build_config(settings), progress=progress, frames=bench.frames)
    except DataError as error:  # in the test table, which is read here for the first time
        raise DataError(
            error.message,
            hint="fix the test table (its columns must be named as in the training table), then "
            + _continue(folder, config),
        ) from error


def _list_sources(config: RunConfig, best: Trial, bench: Bench) -> dict[str, Any]:
    """Return what the winner is resumed with: where its files are now, the data frames, and trust."""
    named = {name: value for name, value in config.to_dict().items() if name in RESUMABLE and name not in best.point}
    return {name: value for name, value in named.items() if value} | bench.frames


def _continue(folder: Path, config: RunConfig) -> str:
    return f"continue it with: {show_resume(folder, search=True, trust=config.model.trust)}"
