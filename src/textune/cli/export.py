"""`textune export` and `textune push`."""

from __future__ import annotations

from pathlib import Path

import typer

from textune.cli.output import JSON_HELP, print_json


def export(
    run: str = typer.Argument(..., metavar="RUN"),
    to: str = typer.Option("merged", "--to", help="merged: one model for transformers, without textune and peft."),
    output: Path = typer.Option(None, "--output", "-o", help="Folder to write; default: RUN-merged."),
    backbone: str = typer.Option(None, "--backbone", help="Where the base model is, if it was a local folder."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the folder."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Write a run in a form that other tools load."""
    from textune.errors import ConfigError

    if to != "merged":
        raise ConfigError(f"--to {to}: not known", hint="known: merged")
    from textune.bundle import read_manifest
    from textune.export import describe_export, export_merged, tell_what_is_lost
    from textune.progress import open_progress

    folder = Path(run)
    written = export_merged(folder, output or folder.with_name(f"{folder.name}-merged"), backbone=backbone,
                            overwrite=overwrite)  # fmt: skip
    told = describe_export(written)
    if lost := tell_what_is_lost(read_manifest(folder, verify=False)):
        open_progress().warn(lost)
        told["lost"] = lost
    if json_output:
        print_json(told)
        return
    typer.echo(f"{written} ({told['megabytes']} MB), checked by a fresh load. Use it so:")
    several = told["thresholds"] is not None
    more = ", top_k=None" if several else ""
    typer.echo(
        "  from transformers import pipeline\n"
        f'  pipeline("text-classification", "{written}", truncation=True{more})("a text")'
    )
    if several:
        typer.echo(
            f"It gives every label's probability; a pipeline knows no thresholds, they are in {told['thresholds']}"
        )


def push(
    folder: str = typer.Argument(..., metavar="RUN", help="A run, or a folder written by export --to merged."),
    hub_id: str = typer.Argument(..., metavar="HUB-ID", help="owner/name"),
    public: bool = typer.Option(False, "--public", help="Let everybody see it; default: private."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Publish a run or a merged model on the Hugging Face hub, without any text of the data."""
    from textune.export import push_folder

    address = push_folder(folder, hub_id, private=not public)
    print_json({"address": address}) if json_output else typer.echo(address)
