"""The command line: one file per command, with torch and other heavy imports inside the commands."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from textune.cli.environment import VERBOSE, tune_libraries
from textune.cli.streams import BROKEN_PIPE, finish, open_streams, report_output, say
from textune.errors import TextuneError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with 0, or with the error's exit code and its message on standard error.

    `--debug` at any position shows tracebacks, and `--verbose` what is done for speed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if "--verbose" in words:
        os.environ[VERBOSE] = "1"
    words = [word for word in words if word not in ("--debug", "--verbose")]
    open_streams()
    sys.exit(finish(_run(words, debug)))


def _run(words: list[str], debug: bool) -> int:
    import typer

    from textune.cli.app import app
    from textune.cli.output import set_words

    set_words(words)
    tune_libraries()
    if not debug:
        _quiet_libraries()
    try:
        result = app(words, prog_name="textune", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except TextuneError as error:
        if debug:
            raise
        say(f"error: {error}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say("stopped")
        return 130
    except BrokenPipeError:
        return BROKEN_PIPE
    except SystemExit as stop:  # typer and rich turn a broken pipe into an exit of their own
        if isinstance(stop.__context__, BrokenPipeError):
            return BROKEN_PIPE
        raise
    except OSError as error:
        if (code := report_output()) is not None:
            return code
        if debug or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _report_bug(error, debug)
        place = error.filename or "writing"
        say(f"error: {place}: the disk is full\n  free some space and try again")
        return 5
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error; typer has its own copy of click
            with contextlib.suppress(OSError):
                error.show()
            return int(error.exit_code)
        return _report_bug(error, debug)


def _report_bug(error: Exception, debug: bool) -> int:
    """Print an unexpected error; with `debug`, raise it."""
    if debug:
        raise error
    reason = str(error).splitlines()[0] if str(error) else ""
    say(f"error: this is a bug in textune: {type(error).__name__}: {reason}\n  --debug shows the traceback")
    return 70


def _quiet_libraries() -> None:
    """Silence the libraries' warnings and progress bars."""
    import warnings

    from textune.bundle import OldBundleWarning
    from textune.config.aliases import AliasNote

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        say(f"{'note' if issubclass(category, AliasNote) else 'warning'}: {message}")

    warnings.filterwarnings("ignore")
    warnings.filterwarnings("once", category=OldBundleWarning)
    warnings.filterwarnings("once", category=AliasNote)
    warnings.showwarning = show
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
