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
    from textune.inference import LoadOptions


def export(
    run: str = typer.Argument(..., metavar="RUN", help="A run folder.", autocompletion=complete_run),
    words: list[str] = typer.Argument(
        None, metavar="[FORM] [KEY=VALUE]...", help="The form, as --to; backbone=, trust="
    ),
    to: str = typer.Option(
        None, "--to", "--format", help="merged (for transformers, the default), or onnx or onnx-int8 (no torch needed)."
    ),
    output: Path = typer.Option(None, "--output", "-o", help="Output folder; default: RUN-FORM."),
    backbone: str = typer.Option(None, "--backbone", help="Path of the base model, if it was a local folder."),
    data: str = typer.Option(None, "--data", help="onnx-int8: labelled rows to evaluate on; default: validation rows."),
    force: bool = typer.Option(False, "--force", help="onnx-int8: accept a less accurate or unevaluated model."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the folder."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Export a run for use with other tools."""
    from textune.bundle import EXPORTED_FORMS, read_manifest
    from textune.config import parse_settings
    from textune.errors import ConfigError
    from textune.files import hold_place

    forms = list(dict.fromkeys([*(word for word in words or [] if "=" not in word), *([] if to is None else [to])]))
    if len(forms) > 1:
        raise ConfigError(f"two forms: {forms[0]} and --to {forms[1]}", hint="give one of them")
    to = forms[0] if forms else "merged"
    if to not in ("merged", *EXPORTED_FORMS):
        raise ConfigError(f"--to {to}: unknown form", hint=f"known: merged, {', '.join(EXPORTED_FORMS)}")
    if to != "onnx-int8" and (data or force):
        raise ConfigError("--data and --force only apply with --to onnx-int8")
    from textune.inference import LoadOptions

    given = parse_settings([word for word in words or [] if "=" in word]) | (
        {} if backbone is None else {"backbone": backbone}
    )
    if wrong := [name for name in given if name not in ("backbone", "trust")]:
        raise ConfigError(f"{wrong[0]}=: an export takes no such setting", hint="it takes backbone= and trust=")
    base = LoadOptions(given.get("backbone"), trust=given.get("trust"))
    if to != "merged":
        target = output or _default_target(run, to)
        with hold_place(target):
            _export_onnx(run, to, target, data, force, base, overwrite, json_output)
        return
    from textune.export.merged import describe_export, describe_losses, export_merged
    from textune.progress import open_progress

    folder = Path(run)
    target = output or _default_target(run, to)
    with hold_place(target):
        written = export_merged(folder, target, backbone=base.backbone, overwrite=overwrite, trust=base.trust)
    summary = describe_export(written)
    manifest = read_manifest(folder, verify=False)
    if losses := describe_losses(manifest):
        open_progress().warn(losses)
        summary["lost"] = losses
    if json_output:
        print_json(summary)
        return
    typer.echo(f"{written} ({summary['megabytes']} MB), verified by loading it again. To use it:")
    several = summary["thresholds"] is not None
    top_k = ", top_k=None" if several else ""
    paired = manifest.columns.text_pair is not None
    text = '{"text": "a text", "text_pair": "a second text"}' if paired else f'"{TEXT}"'
    place = json.dumps(str(written), ensure_ascii=False)
    typer.echo(
        "  from transformers import pipeline\n"
        f'  pipeline("text-classification", {place}, truncation=True{top_k})({text})'
    )
    if several:
        typer.echo(
            f"It returns the probability of every label. Pipelines do not apply thresholds: see {summary['thresholds']}"
        )


def _default_target(run: str, form: str) -> Path:
    """Return the folder beside the run, also for a run that is named by . or .. alone."""
    folder = Path(run) if Path(run).name not in ("", "..") else Path(run).resolve()
    return folder.parent / f"{folder.name}-{form}"


def _export_onnx(
    run: str,
    form: str,
    target: Path,
    data: str | None,
    force: bool,
    base: LoadOptions,
    overwrite: bool,
    json_output: bool,
) -> None:
    from textune.bundle import read_manifest
    from textune.export.marker import check_output
    from textune.export.onnx import describe_onnx, export_onnx
    from textune.progress import open_progress

    check_output(target, overwrite)
    examples = None
    if data is not None:
        from textune.config import build_config
        from textune.inference import Predictor
        from textune.run.other_rows import read_labelled

        predictor = Predictor.load(run, backbone=base.backbone, device="cpu", trust=base.trust)
        examples = read_labelled(predictor, data, build_config({}))
    quality = export_onnx(
        run,
        target,
        form=form,
        measure_on=None if examples is None else (examples, f"rows of {Path(data or '').name}"),
        force=force,
        backbone=base,
        overwrite=overwrite,
    )
    if form == "onnx-int8" and quality is None:
        open_progress().warn("int8 was not evaluated: there are no validation rows")
    elif quality is not None and not quality.accepted:
        open_progress().warn(f"int8 is less accurate: {quality.describe()}")
    summary = describe_onnx(target, quality)
    if json_output:
        print_json(summary)
        return
    typer.echo(f"{target} ({summary['megabytes']} MB), verified by loading it again.")
    if quality is not None:
        typer.echo(quality.describe())
    manifest = read_manifest(target, verify=False)
    command = next_command(target, manifest, trained=Path(run))
    typer.echo(f"To use it, without torch and transformers: {command}")
    texts = f'"{TEXT}"' + (' "a second text"' if manifest.columns.text_pair is not None else "")
    if (script := target / "predict.py").is_file():
        typer.echo(f"Without textune, see the README there: python {shlex.quote(str(script))} {texts}")


def push(
    folder: str = typer.Argument(..., metavar="RUN", help="A run, or a folder written by export --to merged."),
    hub_id: str = typer.Argument(..., metavar="HUB-ID", help="owner/name"),
    public: bool = typer.Option(False, "--public", help="Make it public; default: private."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Upload a run or merged model to the Hugging Face hub.

    Texts from the data, logs and checkpoints are not uploaded.
    """
    from textune.export.merged import push_folder

    address = push_folder(folder, hub_id, private=not public)
    print_json({"address": address}) if json_output else typer.echo(address)
