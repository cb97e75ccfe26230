"""`textune errors`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.completion import complete_run
from textune.cli.output import DEVICE_HELP, JSON_HELP, gather_settings, print_json
from textune.errors import show_command

if TYPE_CHECKING:
    from textune.evaluation import ConfidentError
    from textune.explain import Explanation
    from textune.run.error_analysis import ErrorAnalysis

_WIDTH = 80
_LONGEST_MARKED = 480
_SLICES_SHOWN, _PAIRS_SHOWN, _ERRORS_SHOWN, _REVIEW_SHOWN = 10, 5, 5, 5


def errors(
    run: str = typer.Argument(..., metavar="RUN", help="A run folder.", autocompletion=complete_run),
    data: str = typer.Argument(None, metavar="[DATA]", help="A labelled table; default: the run's own test rows."),
    settings: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="text=, label=, backbone=, trust=, ..."),
    nearest: bool = typer.Option(
        False, "--nearest", help="Show the training rows nearest to each error; embeds the training rows."
    ),
    explain: bool = typer.Option(False, "--explain", help="Show which words spoke for the wrong answers."),
    review: Path = typer.Option(
        None, "--review", help="CSV file to write: rows whose labels look wrong, for train fixes=FILE."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the review file."),
    device: str = typer.Option("auto", "--device", help=DEVICE_HELP),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Show on which texts a run fails, and where labels look wrong.

    Slices with more errors, confused classes, confident errors; --review writes the rows whose labels look wrong.
    """
    from textune.progress import open_progress
    from textune.run.error_analysis import find_errors

    flat = gather_settings(settings or [], data, command="errors")
    source, progress = flat.pop("data", None), open_progress()
    found = find_errors(
        run,
        source,
        nearest=nearest,
        explain=explain,
        review=review,
        overwrite=overwrite,
        progress=progress,
        **({"device": device} | flat),
    )
    for note in found.notes:
        progress.warn(note)
    if json_output:
        print_json(found.to_dict())
        return
    for line in describe(found):
        typer.echo(line)
    if review is not None:
        for line in _describe_review(found):
            typer.echo(line)


def describe(found: ErrorAnalysis) -> list[str]:
    """Return the findings as lines of at most 80 columns."""
    share = found.errors / found.rows if found.rows else 0.0
    are = "is" if found.errors == 1 else "are"
    lines = _wrap(f"{found.errors:,} of {found.rows:,} rows {are} wrong ({share:.1%}): {found.source}")
    if not found.errors:
        return lines
    return [*lines, "", *_describe_slices(found), *_describe_confused(found), *_describe_confident(found)]


def _describe_slices(found: ErrorAnalysis) -> list[str]:
    slices = found.slices.slices
    if not found.slices.looks:
        return ["slices: too few rows to look for groups with more errors", ""]
    if not slices:
        return ["slices: none has more errors than chance explains", *_wrap(found.slices.describe(), 2), ""]
    lines = ["slices with more errors than chance explains, costliest first"]
    lines.append("  rows  errors   rate  95% interval    lift  excess  p (corrected)")
    for each in slices[:_SLICES_SHOWN]:
        interval = f"{each.interval.low:.0%} to {each.interval.high:.0%}"
        p = f"{each.adjusted_p:.2g}" if each.adjusted_p >= 1e-99 else "<1e-99"
        lines += _wrap(each.description, 0)
        lines.append(
            f"{each.rows:6,} {each.errors:7,} {each.error_rate:6.1%}  {interval:<13} {each.lift:5.1f}x "
            f"{each.excess_errors:7.1f}  {p}"
        )
        if each.also:
            lines += _wrap(f"nearly the same rows: {'; '.join(each.also[:3])}", 2)
    more = len(slices) - _SLICES_SHOWN
    return [*lines, *([f"and {more} more, see --json"] if more > 0 else []), *_wrap(found.slices.describe(), 2), ""]


def _describe_confused(found: ErrorAnalysis) -> list[str]:
    from textune.printable import count

    if not found.confused:
        return []
    lines = ["classes most often confused"]
    for pair in found.confused[:_PAIRS_SHOWN]:
        times = count(pair.a_as_b, "time")
        lines += _wrap(f"'{_clip(pair.a, 24)}' given as '{_clip(pair.b, 24)}' {times}, the reverse {pair.b_as_a:,}")
        for name, words in ((pair.a, pair.words.first), (pair.b, pair.words.second)):
            if words:
                lines += _wrap(f"words of '{_clip(name, 24)}': {', '.join(word for word, _ in words)}", 2)
        lines += [_clip(f"  row {row}: {found.excerpts.get(row, '')}") for row in pair.examples[:2]]
    return [*lines, ""]


def _describe_confident(found: ErrorAnalysis) -> list[str]:
    if not found.confident:
        return []
    lines = ["most confident errors"]
    for error in found.confident[:_ERRORS_SHOWN]:
        decision = error.decision or f"predicted '{error.predicted}' {error.probability:.1%}"
        lines.append(_clip(f"row {error.row}: labelled '{_clip(error.true, 24)}', {decision}"))
        lines += _describe_text(error, found.explanations.get(error.row))
        lines += [
            _clip(f"  near ({near.similarity:.2f}): row {near.row} '{near.label}': {' '.join(near.text.split())}")
            for near in found.nearest.get(error.row, ())
        ]
    return lines


def _describe_text(error: ConfidentError, explanation: Explanation | None) -> list[str]:
    if explanation is None:
        return [_clip(f"  {' '.join(error.text.split())}")]
    lines = _wrap(_clip(" ".join(explanation.marked().split()), _LONGEST_MARKED), 2)
    for name, words in (("for", explanation.supporting(5)), ("against", explanation.opposing(5))):
        if words:
            lines += _wrap(_clip(f"{name}: {', '.join(f'{w.shown} {w.score:+.2f}' for w in words)}", 2 * _WIDTH), 2)
    return lines


def _describe_review(found: ErrorAnalysis) -> list[str]:
    from textune.data.fixes import list_removals

    if found.review_file is None:
        return ["", "no label looks wrong, so no review file was written"]
    doubtful = "1 label looks wrong:"
    if len(found.review) > 1:
        doubtful = f"{len(found.review):,} labels look wrong, most doubtful first; the first of them:"
    lines = ["", doubtful]
    for row in found.review[:_REVIEW_SHOWN]:
        lines.append(_clip(f"{row.table} row {row.row}: '{_clip(row.label, 20)}', perhaps '{row.suggested_label}'"))
        lines.append(_clip(f"  {' '.join(row.text.split())}"))
    path = Path(found.review_file)
    removing = "".join(f", or {word} to remove the row" for word in list_removals(found.labels)[:1])
    return [
        *lines,
        f"review   {path}",
        f"fill its column correct_label: a label{removing}; empty leaves it",
        *(line for note in found.review_notes for line in _wrap(note)),
        f"then     {show_command('train', 'DATA', f'fixes={path}')}",
    ]


def _wrap(text: str, indent: int = 0) -> list[str]:
    import textwrap

    return textwrap.wrap(text, _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent or 2))


def _clip(text: str, longest: int = _WIDTH) -> str:
    shown: Sequence[str] = [character if character.isprintable() else "�" for character in text]
    return "".join(shown) if len(shown) <= longest else "".join(shown[: longest - 3]) + "..."
