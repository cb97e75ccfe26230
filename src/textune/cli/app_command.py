"""`textune app`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from textune.cli.completion import complete_run


def app(
    runs: list[Path] = typer.Argument(
        None,
        metavar="[RUN]...",
        help="Runs, or folders of runs, beside those in runs/.",
        autocompletion=complete_run,
    ),
    address: str = typer.Option("127.0.0.1", "--address", help="Where to listen; other addresses need a password."),
    port: int = typer.Option(None, "--port", help="The port; by default the first free one from 8501."),
    password: str = typer.Option(
        None, "--password", help="What visitors must type; TEXTUNE_APP_PASSWORD sets it unseen by other users."
    ),
) -> None:
    """Open the app in a browser: try, train, compare and learn.

    Ctrl-C ends the app. Trainings that it started go on, and it finds them again.
    """
    from textune.bundle import find_run
    from textune.errors import BundleError, MissingExtraError

    folders = tuple(find_run(run) for run in runs or ())
    for folder in folders:
        if not folder.is_dir():
            raise BundleError(
                f"{folder}: no such folder", hint="give runs, or folders of runs; textune runs lists them"
            )
    try:
        import streamlit  # noqa: F401
    except ImportError:
        raise MissingExtraError("textune app needs Streamlit", hint="pip install 'textune[app]'") from None
    from textune.app.launch import read_password, start_app
    from textune.app.options import AppOptions

    options = AppOptions(folders, read_password(password), debug="--debug" in sys.argv)
    start_app(options, address=address, port=port, tell=_tell)


def _tell(url: str) -> None:
    typer.echo(f"{url}\nCtrl-C ends the app; trainings that it started go on")
