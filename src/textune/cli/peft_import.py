"""`textune import`."""

from __future__ import annotations

from pathlib import Path

import typer

from textune.cli.output import JSON_HELP, gather_settings, next_command, print_json


def import_adapter(
    folder: str = typer.Argument(..., metavar="FOLDER", help="An adapter folder written by peft's save_pretrained."),
    settings: list[str] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="name=, task=, max_length=, text=, text_pair=, runs_dir=, ..."
    ),
    backbone: str = typer.Option(
        None,
        "--backbone",
        help="Base model: a hub id, a folder or minilm; default: the one in adapter_config.json.",
    ),
    labels: str = typer.Option(
        None, "--labels", help="Labels in the head's output order, or by its numbers: 0=negative,1=positive"
    ),
    output: Path = typer.Option(None, "--output", "-o", help="Output folder; default: runs/NAME."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Import a peft adapter as a run, with a check of its logits."""
    from textune.bundle import read_manifest
    from textune.peft_import.importer import import_adapter as adopt
    from textune.progress import open_progress

    flags = {key: value for key, value in (("backbone", backbone), ("labels", labels)) if value is not None}
    arguments = gather_settings(settings or []) | flags
    run = adopt(folder, output=output, progress=open_progress(), **arguments)
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
    command = next_command(run, manifest, backbone=arguments.get("backbone"), trust=arguments.get("trust"))
    typer.echo(f"{run}: use it like any run, for example:\n  {command}")
