"""`textune compare`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from textune.cli.output import JSON_HELP, gather_settings, print_json, print_table, split_list

if TYPE_CHECKING:
    from textune.report.comparison import Comparison


def compare(
    what: list[str] = typer.Argument(
        ...,
        metavar="RUN... | DATA [KEY=VALUE]...",
        help="Finished runs; or a table with methods=lora,head seeds=3 backbones=... and any setting of train.",
    ),
    output: Path = typer.Option(None, "--output", "-o", help="Folder for report.html, report.md and compare.json."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Compare runs or methods: scores, costs and significance.

    Runs that do not exist yet are trained first.
    """
    from textune.compare import compare_runs
    from textune.files import hold_place
    from textune.report.comparison_page import check_output, write_comparison
    from textune.version import __version__

    if output is not None:
        check_output(output)
    with contextlib.nullcontext() if output is None else hold_place(output):
        comparison = compare_runs(_find_runs(what))
        report = None if output is None else write_comparison(comparison, output, __version__)
    if json_output:
        print_json(comparison.to_dict() | {"report": None if report is None else str(report)})
        return
    print_comparison(comparison)
    if report is not None:
        typer.echo(f"\nreport: {report}")


def _find_runs(words: list[str]) -> list[Path]:
    """Return the given runs, or train the requested ones."""
    from textune.errors import ConfigError

    sources = [word for word in words if "=" not in word or Path(word).exists()]
    if len(sources) > 1 or any((Path(s) / name).is_file() for s in sources for name in ("textune.json", "plan.json")):
        if len(sources) < len(words):
            raise ConfigError("finished runs take no settings", hint="leave out the key=value words")
        return [Path(source) for source in sources]
    from textune.compare import list_configs, train_missing
    from textune.config import build_config
    from textune.progress import open_progress

    settings = gather_settings(words[1:], words[0])
    configured = build_config({k: v for k, v in settings.items() if k in ("method", "backbone")})
    methods: list[str | None] = [*split_list(settings.pop("methods", None))] or [configured.method.name]
    backbones: list[str | None] = [*split_list(settings.pop("backbones", None))] or [configured.model.backbone]
    seeds = parse_seeds(settings.pop("seeds", None), settings.get("seed"))
    if len(methods) * len(backbones) * len(seeds) < 2:
        raise ConfigError("only one run: nothing to compare", hint="add methods=lora,head or seeds=3")
    return train_missing(list_configs(settings, methods, backbones, seeds), open_progress())


def parse_seeds(value: Any, first: Any) -> list[int]:
    """Return the seeds: `3` means three, starting at `first`; `1,2,3` lists them. Raise ConfigError."""
    from textune.config.values import coerce_value
    from textune.errors import ConfigError

    try:
        start = coerce_value(int, 42 if first is None else first)
    except ValueError as error:
        raise ConfigError(f"seed={first}: {error}") from None
    try:
        if value is None:
            return [start]
        words = split_list(value)
        if len(words) == 1 and not isinstance(value, list) and "," not in str(value):
            return list(range(start, start + int(words[0])))
        return [int(word) for word in words]
    except (ValueError, TypeError):
        raise ConfigError(f"seeds={value}: must be a number of seeds (3) or a list of seeds (1,2,3)") from None


def print_comparison(comparison: Comparison) -> None:
    """Print the table, every pair, the conclusions and the notes."""
    from textune.report.comparison import conclude, note
    from textune.report.comparison_page import format_mcnemar, format_p, list_cells, list_header
    from textune.report.wording import points

    typer.echo()
    right = tuple(range(1, len(list_header(comparison))))
    header = (f"on {comparison.rows:,} {comparison.split} rows", *list_header(comparison)[1:])
    print_table(header, [list_cells(c) for c in comparison.candidates], right=right)
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
    for sentence in (*conclude(comparison), *note(comparison)):
        typer.echo(sentence)
