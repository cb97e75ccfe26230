"""Shared by the commands: JSON output, tables, and settings from arguments."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from textune.cli.tables import find_width, layout_facts, layout_table, wrap_sentence
from textune.errors import show_command

if TYPE_CHECKING:
    from textune.bundle import Manifest
    from textune.evaluation import Headline
    from textune.run import Run
    from textune.tasks import AnyEvaluation

P = ParamSpec("P")
T = TypeVar("T")
TEXT = "a text to classify"
"""The text of a printed command."""
JSON_HELP = "Print one JSON object to standard output; progress goes to standard error."
DEVICE_HELP = "cpu, cuda, mps or auto (the fastest available)."


def in_one_piece(command: Callable[P, T]) -> Callable[P, T]:
    """Let a command's output that no terminal shows be written at once, at its end.

    A reader that has enough after the first lines, such as head, then breaks no pipe.
    """

    @functools.wraps(command)
    def run(*words: P.args, **flags: P.kwargs) -> T:
        if sys.stdout.isatty():
            return command(*words, **flags)
        gathered = io.StringIO()
        try:
            with contextlib.redirect_stdout(gathered):
                return command(*words, **flags)
        finally:
            if gathered.tell():
                typer.echo(gathered.getvalue(), nl=False)

    return run


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object; NaN and infinity become null."""
    typer.echo(format_json(content))


def format_json(content: Mapping[str, Any]) -> str:
    """Return one JSON object on one line; NaN and infinity become null, and control characters escapes."""
    text = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False)
    return re.sub("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda match: f"\\u{ord(match[0]):04x}", text)


class JsonList:
    """Prints a JSON object that holds one list, entry by entry.

    Use it in a `with` statement: the list is closed even after an error, so that the output stays valid JSON.
    """

    def __init__(self, name: str) -> None:
        self._name, self._opened = name, False

    def add(self, entry: Mapping[str, Any]) -> None:
        """Print an entry on a line of its own."""
        before = ", " if self._opened else f'{{"{self._name}": ['
        self._opened = True
        typer.echo(before + format_json(entry))

    def __enter__(self) -> JsonList:
        return self

    def __exit__(self, *error: object) -> None:
        if self._opened:
            typer.echo("]}")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print aligned columns in the terminal's width; `right`: the indices of right-aligned columns."""
    _print_lines(layout_table(header, rows, right, find_width()))


def print_facts(facts: Sequence[tuple[str, str]], whole: Sequence[str] = ("next",)) -> None:
    """Print one aligned name and value per line. whole: names of values that are never wrapped, such as a command."""
    _print_lines(layout_facts(facts, whole, find_width()))


def print_sentences(sentences: Iterable[str]) -> None:
    """Print sentences, each on lines of its own."""
    _print_lines([line for sentence in sentences for line in wrap_sentence(sentence, find_width())])


def _print_lines(lines: Sequence[str]) -> None:
    if lines:  # in one piece: a reader that has enough after the first line, such as head -1, breaks no pipe
        typer.echo("\n".join(lines))


def summarise_run(run: Run) -> dict[str, Any]:
    """Return a run's scores for `--json`."""
    from textune.tasks import read_evaluation

    models = run.metrics["models"]
    tuned = models["tuned"]
    return {
        "run": str(run.folder),
        "report": str(run.report) if run.report.is_file() else None,
        "split": run.metrics["split"],
        "rows": tuned["rows"],
        **read_evaluation(tuned).summary,
        "intervals": tuned["intervals"],
        "baselines": {key: read_evaluation(model).summary for key, model in models.items()},
        "trainable_parameters": run.manifest.trainable_parameters,
        "total_parameters": run.manifest.total_parameters,
        "test_reads": run.manifest.test_reads,
        "summary": run.metrics["summary"],
        "verdict": " ".join(find_verdict(run)),
        "warnings": run.metrics["warnings"],
    }


def print_run(run: Run, trust: str | None = None) -> None:
    """Print the tuned model beside its baselines, the paths of the report and the bundle, and the verdict."""
    from textune.evaluation.text import percent
    from textune.progress import format_seconds
    from textune.tasks import read_evaluation, task_of

    names = task_of(run.manifest).model_names
    rows, total = [], run.metrics["models"]["tuned"]["rows"]
    for key, model in run.metrics["models"].items():
        seconds = model["seconds"]
        evaluation = read_evaluation(model)
        rows.append(
            (
                names[key] if evaluation.rows == total else f"{names[key]} ({evaluation.rows} of these rows)",
                percent(evaluation.headline.value),
                _show_interval(evaluation.headline),
                *(percent(figure.value) for figure in evaluation.further),
                "" if seconds is None else format_seconds(seconds),
            )
        )
    typer.echo()
    header = (
        f"on {total:,} {run.metrics['split']} rows",
        evaluation.headline.name,
        "95% interval",
        *(figure.name for figure in evaluation.further),
        "time",
    )
    print_table(header, rows, right=range(1, len(header)))
    typer.echo()
    size = run.metrics["summary"].get("size on disk", "")
    print_facts(
        [
            ("report", _show_report(run)),
            ("bundle", f"{run.folder} ({size})" if size else str(run.folder)),
            ("next", next_command(run.folder, run.manifest, trust=trust)),
        ]
    )
    typer.echo()
    print_sentences([" ".join(find_verdict(run))])


def _show_report(run: Run) -> str:
    """Return the path of a run's report, or what writes it where it is missing."""
    if run.report.is_file():
        return str(run.report)
    return f"missing; write it with: {show_command('report', run.folder, '-o', 'report.html')}"


def _show_interval(figure: Headline) -> str:
    from textune.evaluation.text import percent

    return f"{percent(figure.interval.low)} to {percent(figure.interval.high)}"


def find_verdict(run: Run) -> Sequence[str]:
    """Return what the report says first of a run, in two sentences."""
    if stored := run.metrics.get("verdict"):
        return list(stored)
    from textune.report import judge
    from textune.tasks import read_evaluation, task_of

    names = task_of(run.manifest).model_names
    rows = [{"name": names[key], "evaluation": read_evaluation(model)} for key, model in run.metrics["models"].items()]
    return judge(rows, run.metrics["split"]).answer


def next_command(
    folder: Path,
    manifest: Manifest,
    *,
    trained: Path | None = None,
    backbone: str | None = None,
    trust: str | None = None,
) -> str:
    """Return a command that uses a run, ready to be pasted.

    trained: the run that an export was made from. backbone, trust: of this call's own command line; what a run's
    settings trust is never suggested.
    """
    from textune.bundle import SETTINGS
    from textune.config import load_settings

    escaped = (trust or "").replace("'", "'\"'\"'")
    trusted = f" trust='{escaped}'" if trust else ""
    written = (trained or folder) / SETTINGS
    settings = load_settings(written) if written.is_file() else {}
    loading = []
    if place := _name_backbone(manifest, backbone or settings.get("backbone")):
        loading.append(f"backbone={place}")
    if manifest.columns.text_pair is None:
        text = "a prompt" if manifest.writing else TEXT
        return show_command("predict", folder, text, *loading) + trusted
    for role in ("test", "data"):  # a pair cannot be typed, a table has both texts
        table = Path(str(settings.get(role) or ""))
        if table.is_file() and os.access(table.parent, os.W_OK) and not (role == "test" and _has_own_columns(settings)):
            reading = [f"{name}={settings[name]}" for name in ("encoding", "delimiter") if settings.get(name)]
            return (
                show_command("predict", folder, table, "-o", _name_answers(table, folder), *loading, *reading) + trusted
            )
    return show_command("inspect", folder)


def _name_answers(table: Path, folder: Path) -> Path:
    """Return a file beside a table that is not there yet, named by the run: what is there may be another's answers."""
    from itertools import chain, count

    from textune.data import Location
    from textune.inference.writers import choose_ending

    ending = choose_ending(Location(table).suffix)
    stem = f"{table.name.removesuffix('.gz').rpartition('.')[0]}.{folder.resolve().name}"
    names = chain([f"{stem}{ending}"], (f"{stem}-{number}{ending}" for number in count(2)))
    return next(place for place in map(table.with_name, names) if not place.exists())


def _name_backbone(manifest: Manifest, backbone: Any) -> str | None:
    """Return the backbone's folder if it is a local one that this machine does not remember."""
    if not manifest.base_model.local or manifest.exported or not backbone:
        return None
    from textune.backbones import recall_local

    return None if recall_local(manifest.base_model.sha256) else str(backbone)


def _has_own_columns(settings: Mapping[str, Any]) -> bool:
    """Return whether the columns of the test table have other names than those of the training table."""
    return any(settings.get(name) for name in ("test_text", "test_text_pair"))


def count_rows(say: Callable[[str], None], done: str, every: int = 1) -> Callable[[int], None]:
    """Return a callback for more rows, which says how many are done. every: rows after which it says so."""
    from textune.printable import count

    rows = reported = 0

    def advance(more: int) -> None:
        nonlocal rows, reported
        rows += more
        if rows - reported >= every:
            reported = rows
            say(f"{count(rows, 'row')} {done}")

    return advance


def print_evaluation(evaluation: AnyEvaluation) -> None:
    """Print the headline metric with its interval, and the classification report."""
    from textune.evaluation.text import percent

    headline = evaluation.headline
    lines, width = (
        [f"{headline.name} {percent(headline.value)} (95% interval {_show_interval(headline)})", ""],
        find_width(),
    )
    for line in evaluation.report_text().splitlines():
        is_table = "  " in line
        lines += [line] if is_table else wrap_sentence(line, width)
    _print_lines(lines)


def gather_settings(words: Sequence[str], first: str | None = None, command: str = "train") -> dict[str, Any]:
    """Merge the first argument (data, or a YAML file of settings) with the key=value words after it.

    command: which reads them, for advice on a word that is no setting.
    """
    from textune.config import USED, load_given_settings, merge_settings, parse_settings

    words = list(words)
    if first is not None and "=" in first and not Path(first).exists() and not first.startswith(("hub:", "embedded:")):
        words.insert(0, first)
        first = None
    settings = parse_settings(words, one_table=command in USED)
    if first is None:
        return settings
    if Path(first).suffix.lower() in (".yaml", ".yml"):
        return load_given_settings(first, settings)
    return merge_settings({"data": first}, settings)


_words: list[str] = []


def set_words(words: Sequence[str]) -> None:
    """Note the command line as it was typed."""
    _words[:] = words


def get_words() -> list[str]:
    """Return the command line as it was typed: the parser takes -- away."""
    return list(_words)
