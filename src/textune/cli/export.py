"""`textune export` and `textune push`."""

from __future__ import annotations

from pathlib import Path

import typer

from textune.cli.output import JSON_HELP, print_json


def export(
    run: str = typer.Argument(..., metavar="RUN"),
    to: str = typer.Option("merged", "--to", help="merged (for transformers), onnx or onnx-int8 (without torch)."),
    output: Path = typer.Option(None, "--output", "-o", help="Folder to write; default: RUN-FORM."),
    backbone: str = typer.Option(None, "--backbone", help="Where the base model is, if it was a local folder."),
    data: str = typer.Option(None, "--data", help="onnx-int8: labelled rows to measure it on; else validation rows."),
    force: bool = typer.Option(False, "--force", help="onnx-int8: take it although it answers worse, or unmeasured."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the folder."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Write a run in a form that other tools load."""
    from textune.bundle import EXPORTED_FORMS, read_manifest
    from textune.errors import ConfigError

    if to not in ("merged", *EXPORTED_FORMS):
        raise ConfigError(f"--to {to}: not known", hint=f"known: merged, {', '.join(EXPORTED_FORMS)}")
    if to != "onnx-int8" and (data or force):
        raise ConfigError("--data and --force belong to --to onnx-int8")
    if to != "merged":
        _export_onnx(run, to, output, data, force, backbone, overwrite, json_output)
        return
    from textune.export.merged import describe_export, export_merged, tell_what_is_lost
    from textune.progress import open_progress

    folder = Path(run)
    written = export_merged(
        folder, output or folder.with_name(f"{folder.name}-merged"), backbone=backbone, overwrite=overwrite
    )
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


def _export_onnx(
    run: str,
    form: str,
    output: Path | None,
    data: str | None,
    force: bool,
    backbone: str | None,
    overwrite: bool,
    json_output: bool,
) -> None:
    from textune.export.onnx import check_output, describe_onnx, export_onnx
    from textune.progress import open_progress

    target = output or Path(run).with_name(f"{Path(run).name}-{form}")
    check_output(target, overwrite)
    examples = None
    if data is not None:
        from textune.config import build_config
        from textune.inference import Predictor
        from textune.run.other_rows import read_labelled

        predictor = Predictor.load(run, backbone=backbone, device="cpu")
        examples = read_labelled(predictor, data, build_config({}))
    quality = export_onnx(
        run,
        target,
        form=form,
        measure_on=None if examples is None else (examples, f"rows of {Path(data or '').name}"),
        force=force,
        backbone=backbone,
        overwrite=overwrite,
    )
    if form == "onnx-int8" and quality is None:
        open_progress().warn("what int8 costs was not measured: there are no validation rows")
    elif quality is not None and not quality.accepted:
        open_progress().warn(f"int8 answers worse: {quality.describe()}")
    told = describe_onnx(target, quality)
    if json_output:
        print_json(told)
        return
    typer.echo(f"{target} ({told['megabytes']} MB), checked by a fresh load.")
    if quality is not None:
        typer.echo(quality.describe())
    typer.echo(f'Use it without torch and transformers: textune predict {target} "a text"')


def push(
    folder: str = typer.Argument(..., metavar="RUN", help="A run, or a folder written by export --to merged."),
    hub_id: str = typer.Argument(..., metavar="HUB-ID", help="owner/name"),
    public: bool = typer.Option(False, "--public", help="Let everybody see it; default: private."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Publish a run or a merged model on the Hugging Face hub, without any text of the data."""
    from textune.export.merged import push_folder

    address = push_folder(folder, hub_id, private=not public)
    print_json({"address": address}) if json_output else typer.echo(address)
