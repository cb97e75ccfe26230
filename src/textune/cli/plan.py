"""`textune plan`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.allocator import open_tuned_progress
from textune.cli.completion import complete_setting
from textune.cli.output import JSON_HELP, gather_settings, print_json, print_table

if TYPE_CHECKING:
    from textune.plan import Forecast


def plan(
    data: str = typer.Argument(..., metavar="DATA", help="A table, as for train, or a YAML file of settings."),
    settings: list[str] = typer.Argument(
        None,
        metavar="[KEY=VALUE]...",
        help="methods=lora,head backbones=..., and any setting of train.",
        autocompletion=complete_setting,
    ),
    seconds: float = typer.Option(
        None, "--seconds", min=0.5, help="Seconds per rehearsal, without loading and saving; default: 4.5."
    ),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
    rehearse: Path | None = typer.Option(None, "--rehearse", hidden=True),
    launched: float = typer.Option(0.0, "--launched", hidden=True),
) -> None:
    """Forecast time, memory and disk of runs before training.

    Rehearses the chosen method, in 15 to 20 seconds on a few thousand short texts. methods=all rehearses every method,
    one after the other.
    """
    from textune.config import build_config

    flat = gather_settings(settings or [], data)
    if rehearse is not None:
        progress = open_tuned_progress()
        from textune.plan.rehearsal import rehearse as rehearse_run

        print_json(rehearse_run(build_config(flat), rehearse, seconds, launched, progress).to_dict())
        return
    from textune.plan.api import plan as plan_here
    from textune.progress import open_progress

    budget = {} if seconds is None else {"seconds": seconds}
    forecasts = plan_here(progress=open_progress(), **budget, **flat)
    if json_output:
        print_json({"forecasts": [forecast.to_dict() for forecast in forecasts]})
        return
    print_forecasts(forecasts)
    if len(forecasts) == 1 and not flat.get("methods"):
        print_cost_of_all(forecasts[0])


def print_cost_of_all(forecast: Forecast) -> None:
    """Say how long a plan of every method takes."""
    from textune.methods import methods
    from textune.progress import format_seconds

    count = len(methods.names())
    typer.echo(f"methods=all rehearses {count} methods, about {format_seconds(count * forecast.rehearsed_seconds)}")


def print_forecasts(forecasts: Sequence[Forecast]) -> None:
    """Print one line for each run, and the settings they share."""
    from textune.printable import count, count_epochs
    from textune.progress import format_seconds

    several = len({f.backbone for f in forecasts}) > 1
    rows = [
        (
            f.method + (f" on {f.backbone.rpartition('/')[2]}" if several else ""),
            format_seconds(f.run_seconds),
            format_seconds(f.training_seconds),
            f"{f.peak_memory_mb:,.0f} MB",
            f"{f.disk_mb:,.1f} MB",
            f"{f.disk_while_training_mb:,.1f} MB",
            f"{f.trainable_parameters:,}",
            f"{f.settings['engine']}, {f.settings['precision']}",
        )
        for f in forecasts
    ]
    typer.echo()
    header = ("", "total time", "training time", "peak memory", "disk", "peak disk", "trainable parameters", "engine")
    print_table(header, rows, right=(1, 2, 3, 4, 5, 6))
    first = forecasts[0].settings
    counts = ", ".join(f"{rows:,} {name}" for name, rows in first["rows"].items() if rows)
    typer.echo(
        f"\n{counts} rows; {count(first['steps'], 'step')} of {count(first['batch_size'], 'row')}, "
        f"{count_epochs(first['epochs'])}; {count(first['threads'], 'thread')} on {first['device']}"
    )
    for note in dict.fromkeys(note for f in forecasts for note in f.notes):
        typer.echo(note)
    seconds = sum(f.rehearsed_seconds for f in forecasts)
    typer.echo(f"rehearsed in {format_seconds(seconds)}; the times hold for this machine as it was meanwhile")
