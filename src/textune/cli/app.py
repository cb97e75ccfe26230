"""The typer application: every command, in the order of the help."""

from __future__ import annotations

import typer

from textune.cli import (
    cache,
    catalogue,
    compare,
    demo,
    doctor,
    evaluate,
    export,
    inspect,
    peft_import,
    plan,
    predict,
    sweep,
    tokens,
    train,
)

app = typer.Typer(
    name="textune",
    help="Fine-tune small, reliable text classifiers from labelled text, and measure them against simple baselines.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings are key=value pairs, as in YAML: textune train reviews.csv text=content label=stars epochs=3",
)


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
    if version:
        from textune.version import __version__

        typer.echo(__version__)
        raise typer.Exit


app.command("demo")(demo.demo)
app.command("inspect")(inspect.inspect)
app.command("tokens")(tokens.tokens)
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.command("resume")(train.resume)
app.command("sweep")(sweep.sweep)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(evaluate.report)
app.command("compare")(compare.compare)
app.command("predict")(predict.predict)
app.command("import")(peft_import.import_adapter)
app.command("export")(export.export)
app.command("push")(export.push)
app.command("methods")(catalogue.methods)
app.command("backbones")(catalogue.backbones)
app.command("doctor")(doctor.doctor)
app.command("cache")(cache.cache)
