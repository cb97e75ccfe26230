"""`textune import`."""

from __future__ import annotations

from pathlib import Path

import typer

from textune.cli.output import JSON_HELP, gather_settings, print_json


def import_adapter(
    folder: str = typer.Argument(..., metavar="FOLDER", help="An adapter as peft's save_pretrained writes it."),
    settings: list[str] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="name=, task=, max_length=, text=, text_pair=, runs_dir=, ..."
    ),
    backbone: str = typer.Option(
        None,
        "--backbone",
        help="The model that it was trained on: a hub id, a folder or minilm; default: what it names.",
    ),
    labels: str = typer.Option(None, "--labels", help="Labels in the order of the head's rows: 0=negative,1=positive"),
    output: Path = typer.Option(None, "--output", "-o", help="Folder to write; default: runs/NAME."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Adopt a peft adapter made elsewhere as a run, after a check that it gives the same logits."""
    from textune.bundle import read_manifest
    from textune.peft_import.importer import import_adapter as adopt
    from textune.progress import open_progress

    flags = {key: value for key, value in (("backbone", backbone), ("labels", labels)) if value is not None}
    run = adopt(folder, output=output, progress=open_progress(), **(gather_settings(settings or []) | flags))
    manifest = read_manifest(run, verify=False)
    if json_output:
        print_json(
            {
                "run": str(run),
                "method": manifest.method,
                "backbone": manifest.base_model.id,
                "labels": list(manifest.labels),
                "task": manifest.task,
                "max_length": manifest.max_length,
                "parameters": manifest.trainable_parameters,
                "imported": manifest.imported,
            }
        )
        return
    typer.echo(f'{run}: use it as any run, as in\n  textune predict {run} "a text to classify"')
