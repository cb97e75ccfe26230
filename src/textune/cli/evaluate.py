"""`textune evaluate` and `textune report`."""

from __future__ import annotations

from pathlib import Path

import typer

from textune.cli.completion import complete_run, complete_setting
from textune.cli.output import (
    DEVICE_HELP,
    JSON_HELP,
    gather_settings,
    print_evaluation,
    print_json,
    print_sentences,
    print_table,
)


def evaluate(
    run: str = typer.Argument(..., metavar="RUN", help="A run folder.", autocompletion=complete_run),
    data: str = typer.Argument(..., metavar="DATA", help="A labelled table."),
    settings: list[str] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="text=, label=, sample=, backbone=, ...", autocompletion=complete_setting
    ),
    device: str = typer.Option("auto", "--device", help=DEVICE_HELP),
    output: Path = typer.Option(None, "--output", "-o", help="New folder for metrics.json and predictions.parquet."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Evaluate a finished run on other labelled rows.

    Rows that the run was trained on are counted, and the figure on the others is given.
    """
    from textune.bundle import find_run, read_manifest
    from textune.cli.write import set_sampling
    from textune.config import build_used
    from textune.evaluation.seen import name_measured
    from textune.inference import Predictor
    from textune.progress import open_progress
    from textune.run.other_rows import check_output, describe_unknown, measure_rows, read_labelled
    from textune.run.predictions import collect_errors

    place = None if output is None else check_output(output)
    config = build_used("evaluate", gather_settings(settings or [], command="evaluate"))
    folder = find_run(run)
    examples = read_labelled(read_manifest(folder, verify=False), data, config)  # refused before the model is loaded
    predictor = Predictor.load(
        folder,
        backbone=config.model.backbone,
        device=device,
        precision=config.training.precision,
        trust=config.model.trust,
    )
    if predictor.generator is not None:
        set_sampling(predictor.generator, config, settings or [])
    for note in (*examples.notes, *describe_unknown(predictor, examples)):
        open_progress().say(note)
    measured = measure_rows(predictor, examples, folder, place)
    evaluation, seen = measured.evaluation, measured.seen
    errors = collect_errors(predictor, measured.probabilities, examples)
    if measured.unwritten is not None:
        open_progress().warn(f"{measured.unwritten}; add --output FOLDER to keep the results elsewhere")
    if json_output:
        if seen.seen or not seen.checked:
            open_progress().warn("; ".join(seen.describe()))
        facts = {"seen_rows": seen.to_dict(), "unwritten": measured.unwritten}
        print_json(evaluation.to_dict() | facts | {"confident_errors": [vars(e) for e in errors]})
        return
    print_sentences(seen.describe())
    where = name_measured(evaluation.rows, len(examples), f"all {len(examples):,} rows")
    typer.echo(f"\non {where}, seen ones included:" if seen.seen else "")
    print_evaluation(evaluation)
    if place is not None:
        typer.echo(f"\nresults  {place}")
    if errors:
        typer.echo("\nmost confident errors")
        rows = [
            (str(e.row), e.true, e.decision or e.predicted, f"{e.probability:.1%}{e.probability_of}", _short(e.text))
            for e in errors[:5]
        ]
        header = ("row", "true", "error" if errors[0].decision else "predicted", "probability", "text")
        print_table(header, rows, right=(0, 3))


def report(
    run: str = typer.Argument(..., metavar="RUN", help="A run folder.", autocompletion=complete_run),
    form: str | None = typer.Option(None, "--format", help="html or markdown: print the whole report."),
    output: Path | None = typer.Option(None, "--output", "-o", help="File for the report, .html or .md."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Print a run's scores and the path of its HTML report.

    --format markdown prints the report in short, for a pull request.
    """
    from textune.cli.output import print_run, summarise_run
    from textune.errors import ConfigError
    from textune.run import load_run
    from textune.tasks import read_evaluation

    if form is not None or output is not None:
        if json_output:
            raise ConfigError("--json prints scores, not the report", hint="leave out --json")
        _write_report(run, form, output, overwrite)
        return
    finished = load_run(run)
    if json_output:
        print_json(summarise_run(finished) | {"models": finished.metrics["models"]})
        return
    print_evaluation(read_evaluation(finished.metrics["models"]["tuned"]))
    print_run(finished)


def _write_report(run: str, form: str | None, output: Path | None, overwrite: bool) -> None:
    """Print the whole report, or write it to a file."""
    from textune.run import load_run
    from textune.run.stored_report import check_report_path, choose_form, render_run, write_run

    chosen = choose_form(form, output)
    place = None if output is None else check_report_path(output, overwrite=overwrite)
    finished = load_run(run)
    if place is None:
        typer.echo(render_run(finished, chosen), nl=False)
        return
    write_run(finished, place, chosen)
    typer.echo(f"report  {place}")


def _short(text: str, longest: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
