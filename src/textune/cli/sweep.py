"""`textune sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from textune.cli.allocator import open_tuned_progress, tune_child_processes
from textune.cli.completion import complete_setting
from textune.cli.output import JSON_HELP, gather_settings, print_facts, print_json, print_run, summarise_run

if TYPE_CHECKING:
    from textune.search.sweep import Sweep


def sweep(
    config: str = typer.Argument(
        None, metavar="CONFIG.YAML|DATA", help="Settings as for train, with a sweep: section; or a table."
    ),
    settings: list[str] = typer.Argument(
        None,
        metavar="[KEY=VALUE]...",
        help="Settings; several values are tried: learning_rate=1e-3,5e-4. Also sweep.KEY=VALUE.",
        autocompletion=complete_setting,
    ),
    workers: int = typer.Option(None, "--workers", help="Number of parallel processes."),
    executor: str = typer.Option(None, "--executor", help="local, or ray (the cluster at RAY_ADDRESS)."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a sweep of the same name."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Search settings on validation rows and test the winner once."""
    flat = gather_settings(settings or [], config)
    flat |= {f"sweep.{k}": v for k, v in (("workers", workers), ("executor", executor)) if v is not None}
    from textune.search.settings import build_sweep

    run, search = build_sweep(flat)
    progress = open_tuned_progress()
    tune_child_processes()
    from textune.search.sweep import sweep_config

    print_sweep(sweep_config(run, search, overwrite=overwrite, progress=progress), json_output, run.model.trust)


def print_sweep(sweep: Sweep, json_output: bool, trust: str | None = None) -> None:
    """Print the result of a sweep."""
    if json_output:
        print_json({"sweep": str(sweep.folder), **sweep.content, "test": summarise_run(sweep.winner)})
        return
    print_run(sweep.winner, trust)
    print_facts([("sweep", str(sweep.report))])
