"""`textune export` and `textune push`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.completion import complete_run
from textune.cli.output import JSON_HELP, TEXT, next_command, print_json

if TYPE_CHECKING:
    from textune.bundle import Manifest
    from textune.export.api import Exported


def export(
    run: str = typer.Argument(..., metavar="RUN", help="A run folder.", autocompletion=complete_run),
    words: list[str] = typer.Argument(
        None,
        metavar="[FORM] [KEY=VALUE]...",
        help="The form, as --to; backbone=, trust=; for --data text=, label=",
    ),
    to: str = typer.Option(
        None,
        "--to",
        "--format",
        help="merged (for transformers, the default), onnx, onnx-int8 (no torch), or space.",
    ),
    output: Path = typer.Option(None, "--output", "-o", help="Output folder; default: RUN-FORM."),
    backbone: str = typer.Option(None, "--backbone", help="Path of the base model, if it was a local folder."),
    data: str = typer.Option(None, "--data", help="onnx-int8: labelled rows to evaluate on; default: validation rows."),
    force: bool = typer.Option(False, "--force", help="onnx-int8: accept a less accurate or unevaluated model."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the folder."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Export a run for use with other tools."""
    from textune.bundle import find_run, read_manifest
    from textune.config import parse_settings
    from textune.errors import ConfigError, flag, suggest
    from textune.export.api import FORMS, MERGED, SPACE, check_request, export_run

    typed = [word for word in words or [] if "=" not in word]
    if other := [word for word in typed if word not in FORMS and (len(typed) > 1 or not suggest(word, FORMS))]:
        hint = f"if it names the folder, write {flag('output', other[0])}; the forms are {', '.join(FORMS)}"
        raise ConfigError(f"{other[0]}: no form of an export", hint=hint)
    forms = list(dict.fromkeys([*typed, *([] if to is None else [to])]))
    if len(forms) > 1:
        raise ConfigError(f"two forms: {forms[0]} and --to {forms[1]}", hint="give one of them")
    settings = parse_settings([word for word in words or [] if "=" in word])
    settings |= {} if backbone is None else {"backbone": backbone}
    request = check_request(forms[0] if forms else MERGED, data, force, settings)
    folder = find_run(run)
    exported = export_run(folder, output, request, overwrite=overwrite)
    if exported.form == MERGED:
        _print_merged(exported, read_manifest(folder, verify=False), json_output)
    elif exported.form == SPACE:
        _print_space(exported.folder, json_output)
    else:
        _print_onnx(exported, folder, json_output)


def _print_merged(exported: Exported, manifest: Manifest, json_output: bool) -> None:
    """Print where the merged model is and how transformers loads it."""
    from textune.export.merged import describe_export
    from textune.report.snippets import needs_lines_to_pool, quote_second, reload_merged

    summary = describe_export(exported.folder) | ({"lost": exported.losses} if exported.losses else {})
    if json_output:
        print_json(summary)
        return
    typer.echo(f"{exported.folder} ({summary['megabytes']} MB), verified by loading it again. To use it:")
    several = summary["thresholds"] is not None
    top_k = ", top_k=None" if several else ""
    paired = manifest.columns.text_pair is not None
    second = quote_second(exported.folder) if paired else ""
    text = f'{{"text": "a text", "text_pair": {second}}}' if paired else f'"{TEXT}"'
    place = json.dumps(str(exported.folder), ensure_ascii=False)
    if manifest.writing or needs_lines_to_pool(manifest):
        lines = reload_merged(manifest, str(exported.folder), exported.folder).splitlines()
        typer.echo("\n".join(f"  {line}" for line in lines))
        return
    typer.echo(
        "  from transformers import pipeline\n"
        f'  pipeline("text-classification", {place}, truncation=True{top_k})({text})'
    )
    if several:
        typer.echo(
            f"It returns the probability of every label. Pipelines do not apply thresholds: see {summary['thresholds']}"
        )


def _print_space(folder: Path, json_output: bool) -> None:
    """Print where the Space is, how to open it here, and how to publish it."""
    from textune.errors import show_command
    from textune.export.space import describe_space

    summary = describe_space(folder)
    if json_output:
        print_json(summary)
        return
    place = shlex.quote(str(folder))
    typer.echo(f"{folder} ({summary['megabytes']} MB): a Space with its {summary['model']} model. To open it here:")
    typer.echo(f"  python -m venv space-env && space-env/bin/pip install -r {place}/requirements.txt")
    typer.echo(f"  space-env/bin/python {place}/app.py")
    typer.echo(f"To publish it: {show_command('push', folder, 'OWNER/NAME')}")


def _print_onnx(exported: Exported, run: Path, json_output: bool) -> None:
    """Print where the graph is, what int8 cost, and the commands that classify with it."""
    from textune.bundle import read_manifest
    from textune.export.onnx import describe_onnx

    folder, quality = exported.folder, exported.quality
    summary = describe_onnx(folder, quality)
    if json_output:
        print_json(summary)
        return
    typer.echo(f"{folder} ({summary['megabytes']} MB), verified by loading it again.")
    if quality is not None:
        typer.echo(quality.describe())
    manifest = read_manifest(folder, verify=False)
    command = next_command(folder, manifest, trained=run)
    typer.echo(f"To use it, without torch and transformers: {command}")
    texts = f'"{TEXT}"' + (' "a second text"' if manifest.columns.text_pair is not None else "")
    if (script := folder / "predict.py").is_file():
        typer.echo(f"Without textune, see the README there: python {shlex.quote(str(script))} {texts}")


def push(
    folder: str = typer.Argument(..., metavar="RUN", help="A run, or a folder written by export --to merged or space."),
    hub_id: str = typer.Argument(..., metavar="HUB-ID", help="owner/name"),
    public: bool = typer.Option(
        False, "--public", help="Make it public; default: private. An existing repository must match."
    ),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Upload a run, merged model or Space to the Hugging Face hub.

    Texts from the data, logs and checkpoints are not uploaded. A run or Space pushed there before is replaced.
    """
    from textune.bundle import find_run
    from textune.export.merged import push_folder

    address = push_folder(find_run(folder), hub_id, private=not public)
    print_json({"address": address}) if json_output else typer.echo(address)
