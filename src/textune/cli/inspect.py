"""`textune inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textune.cli.completion import complete_setting
from textune.cli.output import JSON_HELP, gather_settings, print_facts, print_json, print_sentences

if TYPE_CHECKING:
    from textune.bundle import Manifest


def inspect(
    data: str = typer.Argument(..., metavar="DATA|RUN", help="A table as for train, or a run folder."),
    settings: list[str] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="text=, label=, test=, max_length=, ...", autocompletion=complete_setting
    ),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Check data before training, or show what a run contains.

    For data: rows, labels and their balance, lengths, duplicates, conflicting labels and empty cells.
    """
    from textune.bundle import find_run

    if not data.startswith(("hub:", "embedded:")) and (folder := find_run(data)).is_dir():
        if (folder / "textune.json").is_file():
            _refuse_settings(folder, settings)
            _inspect_run(folder, json_output)
            return
        if _inspect_other(folder, settings, json_output):
            return
    from textune.config import build_config
    from textune.progress import open_progress
    from textune.run.inspection import inspect_data

    found = inspect_data(build_config(gather_settings(settings or [], data)))
    prepared, tokens, facts = found.prepared, found.tokens, found.facts
    progress = open_progress()
    if json_output:
        lengths = {
            "mean": float(tokens.full_lengths.mean()),
            "longest": int(tokens.full_lengths.max()),
            "max_length": tokens.max_length,
            "long_share": tokens.long_share,
            "cut_share": tokens.cut_share,
        }
        print_json(
            {
                "facts": _gather_facts(facts),
                "data": prepared.facts.to_dict(),
                "tokens": lengths,
                "notes": list(prepared.notes),
                "warnings": list(prepared.warnings),
            }
        )
        return
    print_facts(facts)
    typer.echo()
    print_sentences(prepared.notes)
    for warning in prepared.warnings:
        progress.warn(warning)


def _gather_facts(facts: Sequence[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Return the facts by name; one that occurs several times, such as a contradiction, has a list of its values."""
    gathered: dict[str, list[str]] = {}
    for name, value in facts:
        gathered.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in gathered.items()}


def _refuse_settings(folder: Path, settings: list[str] | None) -> None:
    """Raise ConfigError for settings beside a folder that has its own."""
    from textune.errors import ConfigError

    if settings:
        raise ConfigError(
            f"{folder}: is a run's folder, and {settings[0]} only applies to a table",
            hint="leave out the settings, or name a table",
        )


def _inspect_other(folder: Path, settings: list[str] | None, json_output: bool) -> bool:
    """Print what a sweep, a comparison or an interrupted run is; return False for any other folder."""
    from textune.evaluation.text import percent
    from textune.report.wording import format_date
    from textune.run.listing import read_entry

    entry = read_entry(folder)
    if entry is None:
        return False
    _refuse_settings(folder, settings)
    if json_output:
        print_json(entry.to_dict())
        return True
    report = folder / "report.html"
    facts = [
        ("kind", entry.kind if not entry.state else f"{entry.kind}, {entry.state}"),
        ("method", entry.method),
        ("base model", entry.backbone),
        ("data", entry.data),
        (entry.figure or "score", "" if entry.score is None else f"{percent(entry.score)} on {entry.rows:,} rows"),
        ("made", format_date(entry.created)),
        ("report", str(report) if report.is_file() else ""),
    ]
    print_facts([(name, value) for name, value in facts if value])
    return True


def _inspect_run(folder: Path, json_output: bool) -> None:
    import dataclasses

    from textune.bundle import read_manifest

    manifest = read_manifest(folder)
    if json_output:
        print_json(dataclasses.asdict(manifest))
        return
    from textune.backbones.pooling import describe_pooling
    from textune.report.wording import format_date, show_setting

    created = format_date(manifest.created)
    options = show_setting(manifest.method_options) if manifest.method_options else ""
    print_facts(
        [
            ("task", manifest.task),
            *([] if manifest.writing else [("labels", ", ".join(manifest.labels))]),
            (
                "base model",
                f"{manifest.base_model.id} ({manifest.base_model.family}), "
                f"SHA-256 {manifest.base_model.sha256[:12]}...",
            ),
            ("method", f"{manifest.method} ({options})" if options else manifest.method),
            ("trainable", f"{manifest.trainable_parameters:,} of {manifest.total_parameters:,} parameters"),
            ("max_length", f"{manifest.max_length} tokens"),
            *([] if manifest.writing else [("pooling", describe_pooling(manifest.pooling))]),
            ("prompt" if manifest.writing else "text", f" {manifest.columns.joiner!r} ".join(manifest.columns.text)),
            *([] if manifest.columns.text_pair is None else [("second text", manifest.columns.text_pair)]),
            _describe_score(manifest),
            ("test reads", str(manifest.test_reads)),
            ("created", f"{created} by textune {manifest.textune_version}" + _describe_origin(manifest)),
            *_describe_form(manifest),
            ("files", f"{len(manifest.files)}, all matching the SHA-256 in the manifest"),
        ]
    )


def _describe_form(manifest: Manifest) -> list[tuple[str, str]]:
    exported = manifest.exported
    if not exported:
        return []
    quality = exported.get("quality")
    change = f"; {quality['figure']} {quality['before']:.2%} in fp32, {quality['after']:.2%} in int8" if quality else ""
    return [("exported to", f"{exported['form']}{change}")]


def _describe_score(manifest: Manifest) -> tuple[str, str]:
    figures = manifest.metrics
    from textune.evaluation.text import percent
    from textune.tasks import task_of

    name, key = task_of(manifest).figure
    if key not in figures:
        return name, "not evaluated; evaluate it on a labelled table"
    return name, f"{percent(figures[key])} on {figures['rows']:,} {figures['split']} rows"


def _describe_origin(manifest: Manifest) -> str:
    imported = manifest.imported
    return f", imported: {imported['peft_type']} from peft {imported['peft_version']}" if imported else ""
