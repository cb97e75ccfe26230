"""`textune compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.output import JSON_HELP, gather_settings, print_json, print_sentences, print_table

if TYPE_CHECKING:
    from textune.report.comparison import Comparison


def compare(
    what: list[str] = typer.Argument(
        ...,
        metavar="RUN... | DATA [KEY=VALUE]...",
        help="Finished runs; or a table with methods=lora,head seeds=3 backbones=... and any setting of train.",
    ),
    output: Path = typer.Option(None, "--output", "-o", help="Folder for report.html, report.md and compare.json."),
    form: str | None = typer.Option(None, "--format", help="markdown: print the report for a pull request; or html."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Compare runs or methods: scores, costs and significance.

    Runs that do not exist yet are trained first.
    """
    from textune.bundle import find_run
    from textune.compare.api import compare as compare_here
    from textune.compare.api import is_run
    from textune.errors import ConfigError

    if form is not None and form not in ("markdown", "html"):
        raise ConfigError(f"--format {form}: must be html or markdown")
    if form is not None and json_output:
        raise ConfigError("--format and --json are two outputs", hint="leave one out")
    sources = [word for word in what if "=" not in word or Path(word).exists()]
    if len(sources) > 1 or any(is_run(find_run(source)) for source in sources):
        if len(sources) < len(what):
            raise ConfigError("finished runs take no settings", hint="leave out the key=value words")
        comparison = compare_here(*sources, output=output)
    else:
        comparison = compare_here(output=output, **gather_settings(what[1:], what[0]))
    report = None if output is None else output / "report.html"
    if json_output:
        print_json(comparison.to_dict() | {"report": None if report is None else str(report)})
        return
    if form is not None:
        typer.echo(_render(comparison, form), nl=False)
        return
    print_comparison(comparison)
    if report is not None:
        typer.echo(f"\nreport: {report}")


def _render(comparison: Comparison, form: str) -> str:
    """Return the comparison as its page or as Markdown."""
    from textune.report.comparison_page import render_comparison, render_comparison_markdown
    from textune.version import __version__

    return (render_comparison_markdown if form == "markdown" else render_comparison)(comparison, __version__)


def print_comparison(comparison: Comparison) -> None:
    """Print the table, every pair, the conclusions and the notes."""
    from textune.report.comparison import conclude, note
    from textune.report.comparison_page import format_mcnemar, format_p, list_cells, list_header, list_legend
    from textune.report.wording import points

    typer.echo()
    right = tuple(range(1, len(list_header(comparison))))
    header = (f"on {comparison.rows:,} {comparison.split} rows", *list_header(comparison)[1:])
    print_table(header, [list_cells(c) for c in comparison.table], right=right)
    print_sentences(list_legend(comparison))
    if comparison.pairs:
        typer.echo()
        rows = [
            (
                f"{p.a} - {p.b}",
                points(p.test.lead.mean),
                f"{points(p.test.lead.low)} to {points(p.test.lead.high)}",
                format_mcnemar(p),
                format_p(p.test.p),
                format_p(p.adjusted),
                p.verdict,
            )
            for p in comparison.pairs
        ]
        header = ("pair", "points", "95% interval", "McNemar", "p", "p (Holm)", "verdict")
        print_table(header, rows, right=(1, 2, 4, 5))
    typer.echo()
    print_sentences((*conclude(comparison), *note(comparison)))
