"""`textune train` and `textune resume`."""

from __future__ import annotations

import typer

from textune.cli.allocator import open_tuned_progress, tune_child_processes
from textune.cli.catalogue import print_settings
from textune.cli.completion import complete_interrupted, complete_setting
from textune.cli.output import (
    DEVICE_HELP,
    JSON_HELP,
    gather_settings,
    print_json,
    print_run,
    summarise_run,
)


def train(
    data: str = typer.Argument(
        None, metavar="DATA", help="A table, a folder per class, hub:NAME, or a YAML file of settings."
    ),
    settings: list[str] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Settings, below.", autocompletion=complete_setting
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a run of the same name."),
    device: str = typer.Option(None, "--device", help=DEVICE_HELP),
    list_settings: bool = typer.Option(False, "--settings", help="List all settings and exit."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Train, save and evaluate one classifier, and write its report."""
    if list_settings:
        print_settings()
        return
    from textune.config import build_config

    flat = gather_settings(settings or [], data)
    if device:
        flat["device"] = device
    config = build_config(flat)
    progress = open_tuned_progress()
    from textune.run import train_config

    run = train_config(config, overwrite=overwrite, progress=progress)
    print_json(summarise_run(run)) if json_output else print_run(run, config.model.trust)


def resume(
    run: str = typer.Argument(
        ..., metavar="RUN", help="The folder of an interrupted run or sweep.", autocompletion=complete_interrupted
    ),
    settings: list[str] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Where something is now: data=, test=, validation=, backbone=; trust=."
    ),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Continue an interrupted run or sweep exactly where it stopped."""
    from textune.bundle import SWEEP, find_run
    from textune.config import parse_settings

    changes = parse_settings(settings or [])
    from textune.run.places import check_resumable

    check_resumable(changes)
    folder, progress = find_run(run), open_tuned_progress()
    if (folder / SWEEP).is_file():
        from textune.cli import sweep
        from textune.search.sweep import resume_sweep

        tune_child_processes()
        sweep.print_sweep(resume_sweep(folder, progress=progress, **changes), json_output, changes.get("trust"))
        return
    from textune.run import resume as resume_run

    finished = resume_run(folder, progress=progress, **changes)
    print_json(summarise_run(finished)) if json_output else print_run(finished, changes.get("trust"))
