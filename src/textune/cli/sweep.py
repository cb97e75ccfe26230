"""`textune sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from textune.cli.allocator import open_tuned_progress, tell_children
from textune.cli.output import JSON_HELP, gather_settings, print_facts, print_json, print_run, summarise_run

if TYPE_CHECKING:
    from textune.search.sweep import Sweep


def sweep(
    config: str = typer.Argument(..., metavar="CONFIG.YAML", help="Settings as for train, and what to try: sweep:."),
    settings: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Settings; sweep.KEY=VALUE as well."),
    workers: int = typer.Option(None, "--workers", help="Processes that train side by side."),
    executor: str = typer.Option(None, "--executor", help="local, or ray: the cluster of RAY_ADDRESS."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a sweep of the same name."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Try many settings, choose by validation rows, and test the winner once."""
    flat = gather_settings(settings or [], config)
    flat |= {f"sweep.{k}": v for k, v in (("workers", workers), ("executor", executor)) if v is not None}
    from textune.search.settings import build_sweep

    run, search = build_sweep(flat)
    progress = open_tuned_progress()
    tell_children()
    from textune.search.sweep import sweep_config

    tell(sweep_config(run, search, overwrite=overwrite, progress=progress), json_output)


def tell(done: Sweep, json_output: bool) -> None:
    """Print what a sweep came to."""
    if json_output:
        print_json({"sweep": str(done.folder), **done.content, "test": summarise_run(done.winner)})
        return
    print_run(done.winner)
    print_facts([("sweep", str(done.report))])
