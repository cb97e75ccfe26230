"""`textune predict` for models that write: answers stream to a terminal, and come whole anywhere else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.output import JsonList, count_rows, print_json
from textune.cli.streams import say

if TYPE_CHECKING:
    from textune.config import RunConfig
    from textune.data import Location
    from textune.errors import TextuneError
    from textune.inference import Predictor
    from textune.inference.generation import Generator, Written

_LINES_AT_ONCE = 32
"""Lines of standard input that are answered before their answers are printed."""


def set_sampling(generator: Generator, config: RunConfig, words: list[str]) -> None:
    """Take limits and sampling from the command's settings. words: key=value, as given."""
    named = {word.partition("=")[0].replace("-", "_") for word in words}
    seed = config.training.seed if "seed" in named else None
    generator.set_writing(config.writing, seed, draws_rows=config.data.sample is not None)


def write_answers(predictor: Predictor, prompts: list[str], json_output: bool) -> None:
    """Print the answer to each prompt; a single one streams to a terminal."""
    if json_output:
        answers = predictor.generate(prompts)
        print_json({"predictions": [describe(p, a) for p, a in zip(prompts, answers, strict=True)]})
        return
    if len(prompts) == 1 and sys.stdout.isatty():
        stream_answer(predictor, prompts[0])
        return
    answers = predictor.generate(prompts)
    for answer in answers:
        sys.stdout.write(f"{answer.text}\n")  # as it is: typer would take escapes out of it
    tell_limited(predictor, len(answers))


def tell_limited(predictor: Predictor, answers: int) -> None:
    """Say how many answers the limit ended."""
    generator = predictor.generator
    if generator is not None and generator.limited:
        which = "the answer" if answers == 1 else f"{generator.limited:,} of {answers:,} answers"
        say(f"note: {which} reached the limit of {generator.sampling.max_new_tokens:,} tokens (max_new_tokens=)")
        generator.limited = 0


def describe(prompt: str, answer: Written | None) -> dict[str, object]:
    """Return an answer for JSON."""
    if answer is None:
        return {"prompt": prompt, "answer": None}
    return {"prompt": prompt, "answer": answer.text, "tokens": answer.tokens, "endless": answer.endless}


def stream_answer(predictor: Predictor, prompt: str) -> None:
    """Print an answer piece by piece."""

    def show(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    try:
        predictor.generate([prompt], on_text=show)
    except KeyboardInterrupt:
        show("\n")
        raise
    show("\n")
    tell_limited(predictor, 1)


def converse(predictor: Predictor) -> None:
    """Answer prompts that are typed, one after another."""
    from textune.printable import holds_text

    typer.echo("type a prompt and press Enter; an empty line or Ctrl-D quits", err=True)
    while True:
        try:
            typer.echo("> ", nl=False)
            prompt = input()
        except EOFError:
            return
        if not holds_text(prompt):
            return
        stream_answer(predictor, prompt)


def answer_lines(predictor: Predictor, json_output: bool, encoding: str | None = None) -> None:
    """Print an answer for every line of standard input as soon as it is written; line breaks in it become spaces."""
    from textune.errors import DataError
    from textune.inference.lines import LineReader
    from textune.printable import holds_text
    from textune.progress import open_progress

    generator = predictor.generator
    assert generator is not None
    reader, rows, written = LineReader(sys.stdin.buffer, encoding), 0, 0
    with JsonList("predictions") as listed:
        for lines in reader.batches(_LINES_AT_ONCE):
            lines, refused = _take_good(generator, lines, rows)
            filled = [line for line in lines if holds_text(line)]
            answers = iter(generator.write(filled, start=written) if filled else ())
            written += len(filled)
            for line in lines:
                answer = next(answers) if holds_text(line) else None
                if json_output:
                    listed.add(describe(line, answer))
                else:
                    sys.stdout.write("\n" if answer is None else f"{' '.join(answer.text.split())}\n")
                    sys.stdout.flush()
                rows += 1
            if refused is not None:
                tell_limited(predictor, written)
                raise refused
    tell_limited(predictor, written)
    if not rows:
        raise DataError("standard input contains no text", hint="give one prompt per line")
    if reader.foreign:
        open_progress().warn(reader.describe_foreign())


def _take_good(generator: Generator, lines: list[str], before: int) -> tuple[list[str], TextuneError | None]:
    """Return the lines above the first one that is no prompt, and its error. before: lines of earlier batches."""
    from textune.errors import TextuneError
    from textune.printable import holds_text

    for place, line in enumerate(lines):
        if holds_text(line):
            try:
                generator.check_prompts([line], [f"standard input, line {before + place + 1}"])
            except TextuneError as error:
                return lines[:place], error
    return lines, None


def write_file(
    predictor: Predictor, file: Location | str, target: Path, config: RunConfig, exact: bool, json_output: bool
) -> None:
    """Add an answer to every row of a table."""
    from textune.cli.named import name_texts
    from textune.inference.files import FileForm, predict_file
    from textune.printable import count
    from textune.progress import open_progress
    from textune.run.tables import read_options

    done = predict_file(
        predictor,
        file,
        target,
        form=FileForm(name_texts(config), exact=exact),
        reading=read_options(config.data),
        advance=count_rows(open_progress().say, "answered"),
    )
    for note in done.notes:
        open_progress().say(note)
    tell_limited(predictor, done.rows - done.without_text)
    if json_output:
        print_json({k: v for k, v in vars(done).items() if k != "label_counts"} | {"output": str(done.output)})
        return
    typer.echo(f"{count(done.rows - done.without_text, 'row')} answered")
    if done.without_text:
        typer.echo(f"{count(done.without_text, 'row')} without a prompt got no answer")
    if done.escaped_cells:
        typer.echo(
            f"{done.escaped_cells:,} cells that look like formulas got an apostrophe (--exact keeps them unchanged)"
        )
    typer.echo(f"added columns {', '.join(done.columns_added)}: {done.output}")
