"""`textune runs`."""

from __future__ import annotations

from pathlib import Path

import typer

from textune.cli.output import JSON_HELP, print_json, print_table


def runs(
    folder: str = typer.Argument("runs", metavar="[FOLDER]", help="The folder of the runs."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """List finished and interrupted runs, newest first.

    Also sweeps and comparisons; with score, method, data and date.
    """
    from textune.evaluation.text import percent
    from textune.report.wording import format_date
    from textune.run.listing import list_runs

    entries = list_runs(folder) if folder != "runs" or Path(folder).exists() else []
    if json_output:
        print_json({"runs": [entry.to_dict() for entry in entries]})
        return
    if not entries:
        typer.echo(f"{folder}: no runs yet; make one: textune train DATA")
        return
    rows = [
        (
            e.name,
            e.kind,
            "" if e.score is None else f"{e.figure} {percent(e.score)}",
            e.method,
            e.data,
            format_date(e.created).removesuffix(" UTC"),
            e.state,
        )
        for e in entries
    ]
    header = ("name", "kind", "score", "method", "data", "made (UTC)", "")
    print_table(header, rows)
