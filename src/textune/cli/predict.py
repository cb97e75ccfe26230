"""`textune predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.output import DEVICE_HELP, JSON_HELP, gather_settings, print_json, print_table

if TYPE_CHECKING:
    from textune.config import RunConfig
    from textune.inference import Predictor


def predict(
    run: str = typer.Argument(..., metavar="RUN", help="A run folder."),
    what: list[str] = typer.Argument(
        None, metavar="[TEXT|FILE|-] [KEY=VALUE]...", help="Texts, one file, or - for stdin."
    ),
    output: Path = typer.Option(None, "--output", "-o", help="Output file: .csv, .tsv, .jsonl or .parquet."),
    probabilities: bool = typer.Option(False, "--probabilities", help="Show the probability of every class."),
    exact: bool = typer.Option(False, "--exact", help="Do not escape cells that a spreadsheet would run as formulas."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the output file."),
    device: str = typer.Option("auto", "--device", help=DEVICE_HELP),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Classify texts, a file, standard input or typed texts."""
    from textune.engine.session import begin_session

    begin_session(run)
    from textune.config import build_config, known_settings

    known = known_settings()
    words = [w for w in what or [] if "=" in w and w.partition("=")[0] in known]
    texts = [w for w in what or [] if w not in words]
    config = build_config(gather_settings(words))
    file = _find_file(texts)
    from textune.inference import Predictor

    predictor = Predictor.load(
        run,
        backbone=config.model.backbone,
        device=device,
        precision=config.training.precision,
        trust=config.model.trust,
    )
    if file is not None:
        _predict_file(predictor, file, output, config, probabilities, exact, overwrite, json_output)
    elif texts and texts != ["-"]:
        _print(predictor, texts, probabilities, json_output)
    elif not texts and sys.stdin.isatty():
        _converse(predictor, probabilities)
    else:
        from textune.inference.files import read_lines

        lines = list(read_lines(sys.stdin))
        if not lines:
            from textune.errors import DataError

            raise DataError("standard input contains no text", hint="give one text per line")
        _print(predictor, lines, probabilities, json_output)


def _find_file(texts: list[str]) -> Path | None:
    from textune.errors import DataError

    files = [text for text in texts if _names_table(text)]
    there = [t for t in files if Path(t).is_file()]
    if there and len(texts) == 1:
        return Path(there[0])
    if there:
        raise DataError(f"{there[0]}: give one file alone, or texts only")
    if files and len(texts) == 1 and len(texts[0].split()) == 1:
        raise DataError(f"{files[0]}: no such file")
    return None


def _names_table(word: str) -> bool:
    """Return whether a word ends like a file that can be read, whether it exists or not."""
    if len(word) >= 4096 or not Path(word).suffix or " " in Path(word).suffix:
        return False
    from textune.data import Location, list_readable  # imported late: a text alone needs no tables

    return Location(Path(word)).suffix in list_readable()


def _predict_file(
    predictor: Predictor,
    file: Path,
    output: Path | None,
    config: RunConfig,
    probabilities: bool,
    exact: bool,
    overwrite: bool,
    json_output: bool,
) -> None:
    from textune.data import Location
    from textune.errors import ConfigError
    from textune.inference.files import FileForm, list_writable, predict_file
    from textune.progress import open_progress
    from textune.run.tables import read_options

    suffix = Location(file).suffix if Location(file).suffix in list_writable() else ".csv"
    target = output or file.with_name(f"{file.name.removesuffix('.gz').rpartition('.')[0]}.predicted{suffix}")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target}: already exists", hint="choose another --output, or add --overwrite")
    progress = open_progress()
    done = predict_file(
        predictor,
        file,
        target,
        form=FileForm(config.data.text, config.data.text_pair, probabilities, exact),
        reading=read_options(config.data),
        advance=_count(progress.say),
    )
    if json_output:
        print_json(vars(done) | {"output": str(done.output)})
        return
    counts = ", ".join(f"{label} {n:,}" for label, n in done.label_counts.items() if n)
    typer.echo(f"{done.rows:,} rows: {counts}")
    if done.without_text:
        typer.echo(f"{done.without_text:,} rows without text got no label")
    if done.escaped_cells:
        typer.echo(
            f"{done.escaped_cells:,} cells that look like formulas got an apostrophe (--exact keeps them unchanged)"
        )
    typer.echo(f"added columns {', '.join(done.columns_added)}: {done.output}")


def _count(say: Callable[[str], None]) -> Callable[[int], None]:
    """Return a callback that reports every 50,000 rows."""
    state = {"rows": 0, "reported": 0}

    def advance(rows: int) -> None:
        state["rows"] += rows
        if state["rows"] - state["reported"] >= 50_000:
            state["reported"] = state["rows"]
            say(f"{state['rows']:,} rows classified")

    return advance


def _print(predictor: Predictor, texts: list[str], probabilities: bool, json_output: bool) -> None:
    from textune.evaluation import NO_LABEL

    predictions, show = predictor.classify(texts), predictor.task.format_value
    if json_output:
        print_json({"predictions": [{"text": t} | vars(p) for t, p in zip(texts, predictions, strict=True)]})
        return
    if probabilities:
        header = ("label", *predictor.labels, "text")
        rows = [
            (", ".join(p.answer) or NO_LABEL, *map(show, p.probabilities.values()), t)
            for t, p in zip(texts, predictions, strict=True)
        ]
        print_table(header, rows, right=range(1, len(header) - 1))
        return
    rows = [
        (", ".join(p.answer) or NO_LABEL, ", ".join(map(show, p.answer.values())), t)
        for t, p in zip(texts, predictions, strict=True)
    ]
    print_table(("label", "probability", "text"), rows, right=(1,))


def _converse(predictor: Predictor, probabilities: bool) -> None:
    from textune.evaluation import NO_LABEL

    typer.echo("type a text and press Enter; an empty line or Ctrl-D quits", err=True)
    while True:
        try:
            text = input("> ")
        except EOFError:
            return
        if not text.strip():
            return
        best = predictor.classify([text])[0]
        shown = best.probabilities if probabilities else best.answer
        typer.echo(
            "  ".join(f"{label} {predictor.task.format_value(value)}" for label, value in shown.items()) or NO_LABEL
        )
