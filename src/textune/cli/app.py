"""The typer application: every command, in the order of the help."""

from __future__ import annotations

import typer

from textune.cli import (
    app_command,
    cache,
    catalogue,
    compare,
    demo,
    doctor,
    errors,
    evaluate,
    explain,
    export,
    inspect,
    peft_import,
    plan,
    predict,
    runs,
    sweep,
    tokens,
    train,
)
from textune.cli.commands import CommandGroup, SettingsCommand, TextCommand
from textune.cli.output import in_one_piece

app = typer.Typer(
    name="textune",
    cls=CommandGroup,
    help="Fine-tune small, reliable text classifiers from labelled text, and measure them against simple baselines.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings are flags, or name=value: textune train reviews.csv --text content label=stars epochs=3",
)


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", "-V", help="Show the version and exit.")) -> None:
    if version:
        show_version()
        raise typer.Exit


def show_version() -> None:
    """Show the version."""
    from textune.version import __version__

    typer.echo(__version__)


def show_help(command: str = typer.Argument(None, metavar="[COMMAND]")) -> None:
    """Show the help of textune or of a command."""
    words = ["--help"] if command is None else [command, "--help"]
    app(words, prog_name="textune", standalone_mode=False)


app.command("demo")(demo.demo)
app.command("inspect", cls=SettingsCommand)(in_one_piece(inspect.inspect))
app.command("tokens", cls=TextCommand)(in_one_piece(tokens.tokens))
app.command("plan", cls=SettingsCommand)(plan.plan)
app.command("train", cls=SettingsCommand)(train.train)
app.command("resume")(train.resume)
app.command("sweep", cls=SettingsCommand)(sweep.sweep)
app.command("evaluate", cls=SettingsCommand)(evaluate.evaluate)
app.command("errors", cls=SettingsCommand)(in_one_piece(errors.errors))
app.command("report")(in_one_piece(evaluate.report))
app.command("runs")(in_one_piece(runs.runs))
app.command("list", hidden=True)(in_one_piece(runs.runs))
app.command("compare", cls=SettingsCommand)(compare.compare)
app.command("predict", cls=TextCommand)(predict.predict)
app.command("explain", cls=TextCommand)(explain.explain)
app.command("import", cls=SettingsCommand)(peft_import.import_adapter)
app.command("export")(export.export)
app.command("push")(export.push)
app.command("app")(app_command.app)
app.command("methods")(in_one_piece(catalogue.methods))
app.command("backbones")(in_one_piece(catalogue.backbones))
app.command("settings")(in_one_piece(catalogue.settings))
app.command("doctor")(in_one_piece(doctor.doctor))
app.command("cache")(in_one_piece(cache.cache))
app.command("version", hidden=True)(show_version)
app.command("help", hidden=True)(show_help)
