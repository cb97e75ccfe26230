"""`textune predict`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.completion import complete_run
from textune.cli.output import (
    DEVICE_HELP,
    JSON_HELP,
    format_json,
    gather_settings,
    get_words,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from textune.config import RunConfig
    from textune.inference import Predictor
    from textune.tasks import AnyPrediction


def predict(
    run: str | None = typer.Argument(None, metavar="RUN", help="A run folder.", autocompletion=complete_run),
    what: list[str] = typer.Argument(
        None, metavar="[TEXT|FILE|-] [KEY=VALUE]...", help="Texts, one file, or - for stdin."
    ),
    model: str | None = typer.Option(None, "--model", "--run", help="Same as RUN."),
    text: list[str] | None = typer.Option(None, "--text", help="A text, also one that looks like a file or a setting."),
    table: str | None = typer.Option(None, "--file", "--data", help="Same as FILE."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Output file: .csv, .tsv, .jsonl or .parquet."),
    probabilities: bool = typer.Option(False, "--probabilities", help="Show the probability of every class."),
    exact: bool = typer.Option(False, "--exact", help="Do not escape cells that a spreadsheet would run as formulas."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the output file."),
    zero_shot: str | None = typer.Option(
        None, "--zero-shot", metavar="LABELS", help="Choose among labels without tuning: RUN is a causal model."
    ),
    template: str | None = typer.Option(None, "--template", help="Prompt of --zero-shot, with {text} and {labels}."),
    device: str = typer.Option("auto", "--device", help=DEVICE_HELP),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Classify texts, or answer prompts: given ones, a file, standard input or typed texts."""
    from textune.config import build_config, known_settings
    from textune.errors import ConfigError

    if model is not None:
        what, run = [*([] if run is None else [run]), *(what or [])], model
    if run is None:
        raise ConfigError("no run: name its folder", hint="textune runs lists the runs in runs/")
    from textune.bundle import find_run

    if zero_shot is None and template is not None:
        raise ConfigError("--template only applies with --zero-shot", hint="leave it out")
    folder = find_run(run) if zero_shot is None else Path(run)
    words, texts = _sort_words(what or [], known_settings(), folder, _USED if zero_shot is None else _USED_ZERO_SHOT)
    config = build_config(gather_settings(words))
    file = _find_file([*texts, *([] if table is None else [table])], literal=text or [])
    texts += text or []
    if file is None and output is not None:
        raise ConfigError("--output only applies to a file of texts", hint="leave it out, or name a FILE")
    target = None if file is None else _choose_output(file, output, overwrite)
    predictor = (
        _load(folder, config, device)
        if zero_shot is None
        else _open_zero_shot(run, zero_shot, template, config, device)
    )
    if predictor.generator is not None:
        if probabilities:
            raise ConfigError("--probabilities: this model writes answers and knows no classes", hint="leave it out")
        from textune.cli import write

        write.set_sampling(predictor.generator, config, words)
        if file is not None and target is not None:
            write.write_file(predictor, file, target, config, exact, json_output)
        elif texts and texts != ["-"]:
            write.write_answers(predictor, texts, json_output)
        elif not texts and sys.stdin.isatty():
            write.converse(predictor)
        else:
            write.answer_lines(predictor, json_output)
    elif file is not None and target is not None:
        _predict_file(predictor, file, target, config, probabilities, exact, json_output)
    elif texts and texts != ["-"]:
        _print(predictor, texts, probabilities, json_output)
    elif not texts and sys.stdin.isatty():
        _converse(predictor, probabilities)
    else:
        _answer_lines(predictor, probabilities, json_output)


def _load(folder: Path, config: RunConfig, device: str) -> Predictor:
    """Load a run."""
    from textune.engine.session import begin_session

    begin_session(folder)
    from textune.inference import Predictor

    return Predictor.load(
        folder,
        backbone=config.model.backbone,
        device=device,
        precision=config.training.precision,
        trust=config.model.trust,
    )


def _open_zero_shot(name: str, labels: str, template: str | None, config: RunConfig, device: str) -> Predictor:
    """Load a causal model that chooses among labels."""
    from textune.errors import ConfigError
    from textune.inference.zero_shot import ZeroShot
    from textune.tokens.choices import DEFAULT_TEMPLATE, read_labels

    if config.model.backbone is not None:
        raise ConfigError(
            f"backbone={config.model.backbone}: with --zero-shot, RUN names the model", hint="leave it out"
        )
    return ZeroShot.open(
        name,
        read_labels(labels),
        template=DEFAULT_TEMPLATE if template is None else template,
        max_length=config.tokens.max_length,
        device=device,
        precision=config.training.precision,
        trust=config.model.trust,
    )


_READING = ("backbone", "precision", "trust", "text", "text_pair", "encoding", "delimiter")
_OF_WRITING = ("prompt", "max_new_tokens", "temperature", "top_p", "seed")
_USED = (*_READING, *_OF_WRITING)
"""The settings that mean something to a prediction."""
_USED_ZERO_SHOT = (*_READING, "max_length")
_SETTING = re.compile(r"([A-Za-z_][A-Za-z_.-]*)=")


def _sort_words(
    what: list[str], known: Collection[str], run: Path, used: Collection[str] = _USED
) -> tuple[list[str], list[str]]:
    """Return settings and texts; what comes after -- is text. Raises ConfigError for what may be meant as a setting."""
    from textune.errors import ConfigError, show_command, suggest

    literal = _count_after_dashes(what)
    words: list[str] = []
    texts: list[str] = []
    for place, word in enumerate(what):
        found = None if place >= len(what) - literal else _SETTING.match(word)
        key = found[1].replace("-", "_") if found else ""
        as_text = f"if it is a text, put -- before it: {show_command('predict', run, '--', word)}"
        if key in used:
            words.append(word)
        elif key in known:
            raise ConfigError(f"{key}=: is not a setting of predict", hint=as_text)
        elif key and " " not in word and (close := suggest(key, known)):
            raise ConfigError(f"unknown setting '{key}'{close}", hint=as_text)
        else:
            texts.append(word)
    return words, texts


def _count_after_dashes(what: list[str]) -> int:
    """Return how many of the last words came after --, which the parser takes away."""
    arguments = get_words()
    after = len(arguments) - arguments.index("--") - 1 if "--" in arguments else 0
    return min(after, len(what))


def _answer_lines(predictor: Predictor, probabilities: bool, json_output: bool) -> None:
    """Print an answer for every line of standard input, blank ones too, as soon as it has arrived."""
    from textune.errors import DataError
    from textune.inference.lines import LineReader
    from textune.progress import open_progress

    reader, rows = LineReader(sys.stdin.buffer), 0
    header = ("label", *predictor.labels, "text") if probabilities else ("label", "probability", "text")
    for lines in reader.batches():
        filled = [line for line in lines if line.strip()]
        answers = iter(predictor.classify(filled) if filled else ())
        predictions = [next(answers) if line.strip() else None for line in lines]
        if not rows and not json_output:
            typer.echo("\t".join(header))
        for line, prediction in zip(lines, predictions, strict=True):
            if json_output:  # one object in all, an answer on every line of it
                answer = {"text": line} | ({"label": None} if prediction is None else vars(prediction))
                typer.echo((", " if rows else '{"predictions": [') + format_json(answer))
            else:
                typer.echo("\t".join((*_show(predictor, prediction, probabilities), line)))
            rows += 1
    if not rows:
        raise DataError("standard input contains no text", hint="give one text per line")
    if json_output:
        typer.echo("]}")
    if reader.foreign:
        open_progress().warn(f"{reader.foreign:,} lines are not UTF-8; they were read as Windows-1252")


def _show(predictor: Predictor, prediction: AnyPrediction | None, probabilities: bool) -> tuple[str, ...]:
    """Return the cells of an answer: the label, and one probability or that of every class."""
    from textune.evaluation import NO_LABEL

    if prediction is None:
        return ("",) * (1 + (len(predictor.labels) if probabilities else 1))
    show = predictor.task.format_value
    shown = prediction.probabilities if probabilities else prediction.answer
    label = ", ".join(prediction.answer) or NO_LABEL
    values = tuple(map(show, shown.values()))
    return (label, *values) if probabilities else (label, ", ".join(values))


def _find_file(texts: list[str], literal: Sequence[str] = ()) -> Path | None:
    """Return the file that is meant: any path that exists, and any word that ends like a table.

    literal: texts that are no file, whatever they look like.
    Raises DataError for a folder, a missing file, and a file among texts.
    """
    from textune.errors import DataError

    existing = [text for text in texts if text != "-" and _exists(text)]
    if existing and len(texts) + len(literal) > 1:
        raise DataError(
            f"{existing[0]}: give either one file or only texts",
            hint="if it is a text, and not the file of this name, write it differently or run in another folder",
        )
    if existing and Path(existing[0]).is_dir():
        raise DataError(f"{existing[0]}: is a folder", hint="give one file")
    if existing:
        return Path(existing[0])
    if len(texts) == 1 and not literal and _names_table(texts[0]) and len(texts[0].split()) == 1:
        raise DataError(f"{texts[0]}: no such file")
    return None


def _exists(word: str) -> bool:
    try:
        return bool(word.strip()) and os.path.exists(word)  # noqa: PTH110  Path raises for a name that is too long
    except ValueError:  # a NUL character
        return False


def _names_table(word: str) -> bool:
    """Return whether a word ends like a file that can be read, whether it exists or not."""
    if len(word) >= 4096 or not Path(word).suffix or " " in Path(word).suffix:
        return False
    from textune.data import Location, list_readable  # imported late: a text alone needs no tables

    return Location(Path(word)).suffix in list_readable()


def _choose_output(file: Path, output: Path | None, overwrite: bool) -> Path:
    """Return the file to write; raise ConfigError where it cannot be written or must not be replaced."""
    from textune.data import Location
    from textune.errors import ConfigError
    from textune.inference.files import check_output, list_writable

    suffix = Location(file).suffix if Location(file).suffix in list_writable() else ".csv"
    target = output or file.with_name(f"{file.name.removesuffix('.gz').rpartition('.')[0]}.predicted{suffix}")
    check_output(target)
    if target.exists() and not overwrite:
        raise ConfigError(f"{target}: already exists", hint="choose another --output, or add --overwrite")
    return target


def _predict_file(
    predictor: Predictor,
    file: Path,
    target: Path,
    config: RunConfig,
    probabilities: bool,
    exact: bool,
    json_output: bool,
) -> None:
    from textune.inference.files import FileForm, predict_file
    from textune.progress import open_progress
    from textune.run.tables import read_options

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
            typer.echo("> ", nl=False)
            text = input()
        except EOFError:
            return
        if not text.strip():
            return
        best = predictor.classify([text])[0]
        shown = best.probabilities if probabilities else best.answer
        typer.echo(
            "  ".join(f"{label} {predictor.task.format_value(value)}" for label, value in shown.items()) or NO_LABEL
        )
