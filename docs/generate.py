"""Writes the reference and the pages made from recorded results: methods, performance, leaderboard, accuracy.

python docs/generate.py          rewrites them
python docs/generate.py --check  fails where one is stale
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accuracy_page import build_accuracy_page
from leaderboard_page import build_leaderboard_page
from methods_page import build_methods_page, table
from performance_page import build_performance_page
from results_page import build_results_page

_OPENING = """# Reference

This page is written by `make docs` from the program itself, so it says what the program does.
"""


def build_reference() -> str:
    """Return the whole page as Markdown."""
    parts = [
        _OPENING,
        *describe_commands(),
        *describe_settings(),
        *describe_sweep(),
        *describe_methods(),
        *describe_families(),
    ]
    return "\n".join([*parts, *describe_python(), *describe_exit_codes()]).rstrip() + "\n"


def describe_commands() -> Iterator[str]:
    """Yield the help of textune and of every command, as a terminal of 80 columns shows it."""
    os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = "80"
    from typer.testing import CliRunner

    from textune.cli.app import app

    runner = CliRunner()
    yield "## Commands\n"
    names = [str(command.name) for command in app.registered_commands]
    for name in ("", *names):
        words = [name, "--help"] if name else ["--help"]
        result = runner.invoke(app, words, prog_name="textune")
        assert result.exit_code == 0, result.output
        yield f"### textune {name}".rstrip() + "\n"
        yield "```text\n" + "\n".join(line.rstrip() for line in result.output.strip().splitlines()) + "\n```\n"


def describe_settings() -> Iterator[str]:
    """Yield the table of settings, group by group."""
    from textune.config import (
        DataConfig,
        ModelConfig,
        RunConfig,
        TokenConfig,
        TrainingConfig,
        WritingConfig,
        known_settings,
    )
    from textune.config.defaults import fill_in_model

    yield "## Settings\n"
    yield (
        "The same names as `key=value` words, as YAML keys and as arguments of `textune.train`. A setting that is "
        "*automatic*\nis decided from the data, and the run says what it decided and why, or it is not used; "
        "[why these rules](explanation.md).\n"
    )
    known, defaults = known_settings(), fill_in_model(RunConfig()).to_dict()
    groups = (
        ("Data", DataConfig),
        ("Text", TokenConfig),
        ("Model", ModelConfig),
        ("Training", TrainingConfig),
        ("Models that write", WritingConfig),
    )
    for title, kind in groups:
        yield f"### {title}\n"
        described = [
            (f"`{f.name}`", show(defaults.get(f.name)), allowed(f), f.metadata["help"])
            for f in dataclasses.fields(kind)
        ]
        yield table(("setting", "default", "allowed", "meaning"), described)
    names = ("method", "name", "runs_dir")
    rows = [(f"`{n}`", show(defaults[n]["name"] if n == "method" else defaults[n]), known[n]) for n in names]
    yield "### The run\n"
    yield table(("setting", "default", "meaning"), rows)


def describe_sweep() -> Iterator[str]:
    """Yield the table of what stands under `sweep:`."""
    from textune.search.settings import known_sweep_settings

    yield "### A sweep\n"
    yield (
        "These stand under `sweep:`, or as words: `sweep.trials=20`. `space` has the settings to try: a list of "
        "values,\nor `{low: 1e-4, high: 1e-2, log: true}`, `{low: 4, high: 32, step: 4}`; a method's options are "
        "`method.OPTION`.\n"
    )
    settings = known_sweep_settings()
    yield table(
        ("setting", "default", "allowed", "meaning"),
        [(f"`{name}`", "see there" if f.default in ("", 0, None) else show(f.default), allowed(f), f.metadata["help"])
         for name, f in settings.items()],
    )  # fmt: skip


def describe_methods() -> Iterator[str]:
    """Yield each registered method with its options."""
    from textune.methods import methods

    yield "## Methods\n"
    yield table(
        ("method", "what is trained", "default peak rate", "merges into a plain model", "paper"),
        [
            (f"`{key}`", m.summary, f"{m.learning_rate:g}", "yes" if m.mergeable else "no", m.paper.removeprefix("https://"))
            for key, m in methods
        ],
    )  # fmt: skip
    for key, method in methods:
        options = dataclasses.fields(method.options_type)
        if options:
            yield f"### Options of {key}\n"
            yield table(
                ("option", "default", "allowed", "meaning"),
                [(f"`method.{f.name}`", show(f.default), allowed(f), f.metadata["help"]) for f in options],
            )


def describe_families() -> Iterator[str]:
    """Yield the model families and the embedded model."""
    from textune.backbones import MINILM
    from textune.backbones.families import families

    yield "## Backbones\n"
    yield f"`minilm`, the default, is {MINILM.id} (its weights must have the SHA-256 `{MINILM.sha256[:16]}...`)."
    yield "Any folder or hub model of these families can be tuned:\n"
    rows = [(f"`{name}`", code(f.linear), code(f.head_modules)) for name, f in families]
    yield table(("family", "layers that LoRA adapts by default", "head"), rows)


def describe_python() -> Iterator[str]:
    """Yield the public names with signatures and first lines."""
    import textune
    from textune.inference import Predictor
    from textune.sklearn import TextClassifier

    yield "## Python\n"
    yield "```python\nimport textune\n```\n"
    for name in (n for n in textune.__all__ if not n.startswith("_")):
        yield from describe_name(f"textune.{name}", getattr(textune, name))
    yield "### Methods of a Predictor\n"
    for name in ("load", "classify", "predict", "predict_proba", "predict_logits", "predict_sets", "generate"):
        yield from describe_name(f"Predictor.{name}", getattr(Predictor, name), level=4)
    yield from describe_name("textune.sklearn.TextClassifier", TextClassifier)


def describe_name(name: str, thing: Any, level: int = 3) -> Iterator[str]:
    """Yield a heading, the signature of a function, and the docstring."""
    yield f"{'#' * level} {name}\n"
    if not inspect.isclass(thing):
        yield f"```text\n{name}{wrap_signature(inspect.signature(thing))}\n```\n"
    yield inspect.cleandoc(thing.__doc__ or "") + "\n"


def wrap_signature(signature: inspect.Signature) -> str:
    """Return a signature on one line, or one parameter a line where that is too long."""
    text = str(signature)
    if len(text) <= 80:
        return text
    parameters, keyword_only = [], False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parameters.append("*")
        parameters.append(str(p))
    returns = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    return "(\n    " + ",\n    ".join(parameters) + f",\n){returns}"


def describe_exit_codes() -> Iterator[str]:
    """Yield the errors with the exit codes of the command line."""
    from textune import errors

    yield "## Errors and exit codes\n"
    kinds = [e for e in vars(errors).values() if inspect.isclass(e) and issubclass(e, errors.TextuneError)]
    rows = [(f"`{e.__name__}`", str(e.exit_code), (e.__doc__ or "").splitlines()[0]) for e in kinds]
    yield table(("error", "exit code", "meaning"), rows)
    yield "`--debug`, with any command, shows the traceback of an error.\n"
    yield "A stopped run exits with 130 (Ctrl-C) or 143 (SIGTERM), a fault of textune itself with 70.\n"


def show(value: Any) -> str:
    """Return a default as a table shows it."""
    if value is None:
        return "automatic"
    return {" ": "(one space)", "": "(empty)"}.get(value, f"`{value}`") if isinstance(value, str) else f"`{value}`"


def allowed(f: dataclasses.Field[Any]) -> str:
    """Return which values a setting takes."""
    choices, low, high = f.metadata["choices"], f.metadata["low"], f.metadata["high"]
    return (
        code(choices)
        if choices
        else ""
        if low is None
        else f"{low:,} to {high:,.0f}"
        if high >= 1
        else f"{low:,} to {high:,}"
    )


def code(names: Iterable[str]) -> str:
    """Return names as inline code with commas between them."""
    return ", ".join(f"`{name}`" for name in names)


PAGES = {
    "reference.md": build_reference,
    "methods.md": build_methods_page,
    "performance.md": build_performance_page,
    "leaderboard.md": build_leaderboard_page,
    "accuracy.md": build_accuracy_page,
    "results.md": build_results_page,
}


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compares them where `--check` is given; return the exit code."""
    stale = False
    for name, build in PAGES.items():
        path, new = Path(__file__).with_name(name), build()
        if "--check" not in arguments:
            path.write_text(new, encoding="utf-8")
            continue
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        difference = list(difflib.unified_diff(old.splitlines(), new.splitlines(), f"docs/{name}", "now", lineterm=""))
        if difference:
            sys.stdout.write("\n".join([*difference[:40], f"docs/{name} is stale: run make docs\n"]))
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
