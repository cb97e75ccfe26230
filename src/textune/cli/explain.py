"""`textune explain`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.completion import complete_run
from textune.cli.named import check_settings, check_single, check_table, find_table
from textune.cli.output import DEVICE_HELP, JSON_HELP, format_json, gather_settings
from textune.cli.predict import sort_words

if TYPE_CHECKING:
    from textune.config import RunConfig
    from textune.data import Location
    from textune.explain import Explanation, WordScore
    from textune.inference import Predictor

_ROWS = 20
_STYLES = {1: "blue", 2: "blue", 3: "bold blue", -1: "dark_orange3", -2: "dark_orange3", -3: "bold dark_orange3"}
LEGEND = "+ speaks for the label, - against it; three signs: the strongest words; numbers: log-odds"


def explain(
    run: str = typer.Argument(..., metavar="RUN", help="A run folder.", autocompletion=complete_run),
    what: list[str] = typer.Argument(
        None, metavar="[TEXT|FILE|-] [KEY=VALUE]...", help="Texts, one file, or - for stdin."
    ),
    text: list[str] | None = typer.Option(None, "--text", help="A text, also one that looks like a file or a setting."),
    label: str | None = typer.Option(None, "--label", help="The label to explain; default: each text's answer."),
    output: Path | None = typer.Option(None, "--output", "-o", help="HTML file to write, with highlighted words."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the HTML file."),
    rows: int = typer.Option(_ROWS, "--rows", min=1, help="Most rows of a file, or lines of a pipe, to explain."),
    device: str = typer.Option("auto", "--device", help=DEVICE_HELP),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Show which words speak for a text's label, and which against."""
    from textune.bundle import find_run
    from textune.config import build_config, known_settings

    folder = find_run(run)
    words, texts = sort_words(what or [], known_settings(), ("explain", folder), "explain")
    config = build_config(gather_settings(words))
    file = find_table(texts, literal=text or [])
    texts += text or []
    if output is not None:
        _check_page(output, overwrite)
    if file is None:
        check_settings(texts, config)
        check_single(folder, "explain")
    else:
        check_table(folder, file, config)
    from textune.explain.api import check_label, open_predictor

    predictor = open_predictor(
        folder, backbone=config.model.backbone, device=device, trust=config.model.trust, **_read_precision(config)
    )
    check_label(predictor, label)
    found: list[Explanation] = []
    for explanation in _explain_each(predictor, file, texts, label, config, rows):
        if json_output:  # one object in all, an explanation on every line of it
            typer.echo((", " if found else '{"explanations": [') + format_json(explanation.to_dict()))
        else:
            _print(explanation, first=not found)
        found.append(explanation)
    if json_output:
        typer.echo("]}")
    if output is not None:
        from textune.report.explanations import write_explanations

        write_explanations(found, f"{folder.name}: explained", output)
        if not json_output:
            typer.echo(f"page     {output}")


def _read_precision(config: RunConfig) -> dict[str, str]:
    """Return the precision that was asked for; by itself an explanation takes fp32."""
    return {} if config.training.precision == "auto" else {"precision": config.training.precision}


def _check_page(output: Path, overwrite: bool) -> None:
    """Raise ConfigError where the page cannot be written or must not be replaced."""
    import shlex

    from textune.errors import ConfigError

    if output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{output}: cannot write '{output.suffix}' files", hint="use .html; --json prints plain data")
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder, not a file", hint="name another file")
    if not output.parent.is_dir():
        raise ConfigError(
            f"{output}: its folder does not exist", hint=f"make it: mkdir -p {shlex.quote(str(output.parent))}"
        )
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: already exists", hint="choose another --output, or add --overwrite")


def _explain_each(
    predictor: Predictor,
    file: Location | str | None,
    texts: list[str],
    label: str | None,
    config: RunConfig,
    rows: int,
) -> Iterator[Explanation]:
    """Yield one explanation after another, each as soon as it is known."""
    from textune.explain import explain_texts
    from textune.progress import open_progress

    pairs: Iterable[str] | None = None
    more, source = False, "standard input"
    if file is not None:
        from textune.inference.files import FileForm, read_first_texts
        from textune.run.tables import read_options

        form = FileForm(config.data.text, config.data.text_pair)
        first = read_first_texts(predictor, file, rows, form=form, reading=read_options(config.data))
        pairs, more, source = first.pairs, first.more, str(file)
        for note in first.notes:
            open_progress().say(note)
        yield from chain.from_iterable(
            explain_texts(predictor, [each], label, pairs=None if pairs is None else [pairs[i]])
            for i, each in enumerate(first.texts)
        )
    elif texts and texts != ["-"]:
        predictor.list_texts(texts, None)  # raises for every empty text before any is explained
        yield from chain.from_iterable(explain_texts(predictor, [each], label) for each in texts)
    else:
        lines = _read_lines(config.data.encoding)
        for line in islice(lines, None if sys.stdin.isatty() else rows):  # at a terminal, Ctrl-D ends it
            yield from explain_texts(predictor, [line], label)
        more = next(lines, None) is not None
    if more:
        explained = "text was" if rows == 1 else f"{rows:,} texts were"
        open_progress().warn(f"{source}: only the first {explained} explained; --rows N explains more")


def _read_lines(encoding: str | None) -> Iterator[str]:
    """Yield the lines of standard input that hold a text, as they arrive."""
    from textune.errors import DataError
    from textune.inference.lines import LineReader
    from textune.printable import holds_text
    from textune.progress import open_progress

    reader, empty = LineReader(sys.stdin.buffer, encoding), True
    if sys.stdin.isatty():
        typer.echo("type a text and press Enter; Ctrl-D quits", err=True)
    for lines in reader.batches():
        for line in lines:
            if holds_text(line):
                empty = False
                yield line
    if empty:
        raise DataError("standard input contains no text", hint="give one text per line")
    if reader.foreign:
        open_progress().warn(reader.describe_foreign())


def _print(explanation: Explanation, *, first: bool) -> None:
    """Print an explanation, in colour on a terminal; the signs say the same without colour."""
    from rich.console import Console
    from rich.text import Text

    from textune.explain.explanation import cut_segments
    from textune.progress import show_controls

    # The escapes of the colours pass by what keeps those of the data off the terminal.
    stream = getattr(sys.stdout, "unguarded", sys.stdout)
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    shown = Text(show_controls(LEGEND), style="dim") if first else Text()
    shown.append("\n\n" if first else "\n")
    shown.append(show_controls(f"{explanation.label} {explanation.probability:.1%}"), style="bold")
    shown.append(f"  (with every word masked {explanation.empty_probability:.1%})\n")
    for text, words in ((explanation.text, explanation.words), (explanation.pair, explanation.pair_words)):
        for part in cut_segments(text or "", words, explanation.largest):
            whole = f"[{part.signs}{part.text}]" if part.strength else part.text
            shown.append(show_controls(whole), style=_STYLES.get(part.strength, ""))
        if text is not None:
            shown.append("\n")
    for name, listed in (("for", explanation.supporting()), ("against", explanation.opposing())):
        if listed:
            shown.append(f"{name + ':':<9}{show_controls(_list(listed))}\n")
    for note in explanation.notes:
        shown.append(f"note: {note}\n")
    console.print(shown, end="", soft_wrap=not console.is_terminal)


def _list(words: Iterable[WordScore]) -> str:
    return ", ".join(f"{word.shown} {word.score:+.2f}" for word in words)
