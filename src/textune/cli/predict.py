"""`textune predict`."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.completion import complete_run
from textune.cli.named import check_settings, check_single, check_table, choose_output, find_table
from textune.cli.output import (
    DEVICE_HELP,
    JSON_HELP,
    JsonList,
    count_rows,
    gather_settings,
    get_words,
    print_json,
    print_table,
)
from textune.cli.words import OWN_VALUE

if TYPE_CHECKING:
    from textune.config import RunConfig
    from textune.data import Location
    from textune.inference import Choices, Decided, Predictor
    from textune.inference.files import FileForm
    from textune.tasks import Task


def predict(
    run: str | None = typer.Argument(None, metavar="RUN", help="A run folder.", autocompletion=complete_run),
    what: list[str] = typer.Argument(
        None, metavar="[TEXT|FILE|-] [KEY=VALUE]...", help="Texts, one file, or - for stdin."
    ),
    model: str | None = typer.Option(None, "--model", "--run", help="Same as RUN."),
    text: list[str] | None = typer.Option(None, "--text", help="A text, also one that looks like a file or a setting."),
    table: str | None = typer.Option(None, "--file", "--data", help="Same as FILE."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Output: .csv, .tsv, .jsonl, .parquet or .xlsx."),
    probabilities: bool = typer.Option(False, "--probabilities", help="Show the probability of every class."),
    abstain: str | None = typer.Option(
        None, "--abstain", metavar="[P]", help="No label below this confidence; without P: that of abstain_for=."
    ),
    sets: str | None = typer.Option(
        None, "--sets", metavar="[P]", help="Sets of labels that hold the true one in this share; default: 0.9."
    ),
    exact: bool = typer.Option(False, "--exact", help="Do not escape cells that a spreadsheet would run as formulas."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the output file."),
    zero_shot: str | None = typer.Option(
        None, "--zero-shot", metavar="LABELS", help="Choose among labels without tuning: RUN is a causal model."
    ),
    template: str | None = typer.Option(None, "--template", help="Prompt of --zero-shot, with {text} and {labels}."),
    device: str = typer.Option("auto", "--device", help=DEVICE_HELP),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Classify texts or answer prompts: typed, in a file or on stdin."""
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
    command, head = "predict", ["predict", folder]
    if zero_shot is not None:
        command, template_words = "predict zero-shot", [] if template is None else ["--template", template]
        head += ["--zero-shot", zero_shot, *template_words]
    words, texts = sort_words(what or [], known_settings(), head, command)
    config = build_config(gather_settings(words))
    if table == "-":  # standard input, as without the option
        texts, table = [*texts, table], None
    file = find_table(texts, table, literal=text or [])
    texts += text or []
    if file is None and output is not None:
        raise ConfigError("--output only applies to a file of texts", hint="leave it out, or name a FILE")
    if file is None:
        check_settings(texts, config)
        if zero_shot is None:
            check_single(folder)
    target = None if file is None else choose_output(file, output, overwrite)
    if zero_shot is not None and not (abstain is None and sets is None):
        raise ConfigError("--abstain and --sets need a tuned run, not --zero-shot", hint="leave them out")
    choices = _read_choices(folder, abstain, sets)  # refused before the model is loaded
    if zero_shot is None:
        _read_task(folder).check_writing(config.writing)
    if file is not None and zero_shot is None:
        check_table(folder, file, config)
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
            write.answer_lines(predictor, json_output, config.data.encoding)
        return
    if file is not None and target is not None:
        from textune.inference.files import FileForm

        form = FileForm(config.data.text, config.data.text_pair, probabilities, exact, choices)
        _predict_file(predictor, file, target, config, form, json_output)
        return
    shown = Shown(predictor, choices, probabilities)
    if texts and texts != ["-"]:
        _print(shown, texts, json_output)
    elif not texts and sys.stdin.isatty():
        _converse(shown)
    else:
        _answer_lines(shown, json_output, config.data.encoding)


def _read_choices(folder: Path, abstain: str | None, sets: str | None) -> Choices:
    from textune.inference import Choices, read_choices

    if abstain is None and sets is None:
        return Choices()
    below, coverage = (True if value == OWN_VALUE else value for value in (abstain, sets))
    return read_choices(_read_task(folder), below, coverage)


def _read_task(folder: Path) -> Task:
    from textune.bundle import read_manifest
    from textune.tasks import task_of

    return task_of(read_manifest(folder, verify=False))


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


_SETTING = re.compile(r"([A-Za-z_][A-Za-z_.-]*)=")


def sort_words(
    what: list[str], known: Collection[str], head: Sequence[object], command: str
) -> tuple[list[str], list[str]]:
    """Return settings and texts; what comes after -- is text. Raises ConfigError for what may be meant as a setting.

    head: the words of the command before them, for its message. command: whose settings they are.
    """
    from textune.config import USED
    from textune.errors import ConfigError, show_command, suggest

    literal = _count_after_dashes(what)
    words: list[str] = []
    texts: list[str] = []
    for place, word in enumerate(what):
        found = None if place >= len(what) - literal else _SETTING.match(word)
        key = found[1].replace("-", "_") if found else ""
        as_text = f"if it is a text, put -- before it: {show_command(*head, '--', word)}"
        if key in USED[command]:
            words.append(word)
        elif key == "device":
            raise ConfigError(
                f"{key}=: is not a setting of {command}", hint=f"write --device {word[len(key) + 1 :]}; {as_text}"
            )
        elif key in known:
            raise ConfigError(f"{key}=: is not a setting of {command}", hint=as_text)
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


@dataclass(frozen=True)
class Shown:
    """How answers are shown. probabilities: of every class, instead of those of the labels given."""

    predictor: Predictor
    choices: Choices
    probabilities: bool

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the cells."""
        values = tuple(self.predictor.labels) if self.probabilities else ("probability",)
        return ("label", *values, *(["set"] if self.choices.coverage is not None else []))

    def list_cells(self, decided: Decided | None) -> tuple[str, ...]:
        """Return the cells of an answer; empty ones without one."""
        from textune.evaluation import NO_LABEL
        from textune.inference import ABSTAINED

        if decided is None:
            return ("",) * len(self.header)
        prediction, show = decided.prediction, self.predictor.task.format_value
        label = ABSTAINED if decided.abstained else ", ".join(prediction.answer) or NO_LABEL
        values = tuple(map(show, (prediction.probabilities if self.probabilities else prediction.answer).values()))
        cells = (label, *values) if self.probabilities else (label, ", ".join(values))
        return cells if decided.label_set is None else (*cells, f"{{{', '.join(decided.label_set)}}}")


def _answer_lines(shown: Shown, json_output: bool, encoding: str | None) -> None:
    """Print an answer for every line of standard input, blank ones too, as soon as it has arrived."""
    from textune.errors import DataError
    from textune.inference.lines import LineReader
    from textune.printable import holds_text
    from textune.progress import open_progress

    reader, rows = LineReader(sys.stdin.buffer, encoding), 0
    with JsonList("predictions") as listed:
        for lines in reader.batches():
            filled = [line for line in lines if holds_text(line)]
            answers = iter(shown.predictor.decide(filled, shown.choices) if filled else ())
            decided = [next(answers) if holds_text(line) else None for line in lines]
            if not rows and not json_output:
                typer.echo("\t".join((*shown.header, "text")))
            for line, one in zip(lines, decided, strict=True):
                if json_output:
                    listed.add({"text": line} | ({"label": None} if one is None else one.to_dict()))
                else:
                    typer.echo("\t".join((*shown.list_cells(one), line)))
                rows += 1
    if not rows:
        raise DataError("standard input contains no text", hint="give one text per line")
    _tell_cut(shown)
    if reader.foreign:
        open_progress().warn(reader.describe_foreign())


def _predict_file(
    predictor: Predictor, file: Location | str, target: Path, config: RunConfig, form: FileForm, json_output: bool
) -> None:
    from textune.inference.files import predict_file
    from textune.printable import count
    from textune.progress import open_progress
    from textune.run.tables import read_options

    progress = open_progress()
    advance = count_rows(progress.say, "classified", every=50_000)
    done = predict_file(predictor, file, target, form=form, reading=read_options(config.data), advance=advance)
    for note in done.notes:
        progress.say(note)
    if json_output:
        print_json(vars(done) | {"output": str(done.output)})
        return
    counts = ", ".join(f"{label} {n:,}" for label, n in done.label_counts.items() if n)
    typer.echo(f"{count(done.rows, 'row')}: {counts}")
    if done.without_text:
        typer.echo(f"{count(done.without_text, 'row')} without text got no label")
    if done.abstained is not None:
        typer.echo(f"{count(done.abstained, 'row')} abstained, with an empty label")
    if done.escaped_cells:
        typer.echo(
            f"{done.escaped_cells:,} cells that look like formulas got an apostrophe (--exact keeps them unchanged)"
        )
    typer.echo(f"added columns {', '.join(done.columns_added)}: {done.output}")


def _print(shown: Shown, texts: list[str], json_output: bool) -> None:
    decided = shown.predictor.decide(texts, shown.choices)
    _tell_cut(shown)
    if json_output:
        print_json({"predictions": [{"text": t} | one.to_dict() for t, one in zip(texts, decided, strict=True)]})
        return
    rows = [(*shown.list_cells(one), text) for text, one in zip(texts, decided, strict=True)]
    numbers = len(shown.predictor.labels) if shown.probabilities else 1
    print_table((*shown.header, "text"), rows, right=range(1, 1 + numbers))


def _converse(shown: Shown) -> None:
    from textune.evaluation import NO_LABEL
    from textune.inference import ABSTAINED
    from textune.printable import holds_text

    typer.echo("type a text and press Enter; an empty line or Ctrl-D quits", err=True)
    while True:
        try:
            typer.echo("> ", nl=False)
            text = input()
        except EOFError:
            return
        if not holds_text(text):
            return
        best = shown.predictor.decide([text], shown.choices)[0]
        values = best.prediction.probabilities if shown.probabilities else best.prediction.answer
        format_value = shown.predictor.task.format_value
        line = "  ".join(f"{label} {format_value(value)}" for label, value in values.items()) or NO_LABEL
        line = f"{ABSTAINED}  {line}" if best.abstained else line
        typer.echo(line if best.label_set is None else f"{line}  {{{', '.join(best.label_set)}}}")
        _tell_cut(shown)


def _tell_cut(shown: Shown) -> None:
    """Say how many texts were cut."""
    from textune.progress import open_progress

    if (cut := shown.predictor.long_texts.take_note()) is not None:
        open_progress().say(f"note: {cut}")
