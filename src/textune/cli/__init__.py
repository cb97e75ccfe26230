"""The command line: one file per command, with torch and other heavy imports inside the commands."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import sys
from collections.abc import Sequence

from textune.cli.environment import VERBOSE, tune_libraries
from textune.cli.quiet import quiet_libraries, quiet_process, show_own_warnings
from textune.cli.streams import BROKEN_PIPE, finish, guard_terminal, open_streams, report_output, say
from textune.errors import PYTHON, READER, BundleError, ConfigError, TextuneError, address_shell
from textune.files import is_disk_full

INTERRUPTED = 130
"""What a shell reports of a program that Ctrl-C ended: 128 + SIGINT."""
_COLLECTED_AFTER = (20_000, 20, 20)
"""New objects after which Python looks for cycles. Importing torch and transformers makes so many that Python's own
limit of 700 has it look a thousand times, and a tenth of the start goes there."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with 0, or with the error's exit code and its message on standard error.

    `--debug` at any position shows tracebacks, and `--verbose` what is done for speed; both also show what libraries
    print.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if "--verbose" in words:
        os.environ[VERBOSE] = "1"
    words = [word for word in words if word not in ("--debug", "--verbose")]
    open_streams()
    if arguments is None:
        gc.set_threshold(*_COLLECTED_AFTER)
        atexit.register(gc.freeze)  # the process ends a second sooner: nobody collects what torch left behind
    if arguments is None and not debug and not os.environ.get(VERBOSE):
        quiet_process()
    with address_shell(os.environ.get(READER) != PYTHON):
        code = finish(_run(words, debug))
    sys.exit(code)


def _run(words: list[str], debug: bool) -> int:
    import typer

    from textune.cli.app import app
    from textune.cli.output import set_words

    if any("\0" in word for word in words):
        return _report("an argument contains a NUL character", "remove it", ConfigError.exit_code)
    set_words(words)
    if hasattr(sys.stdout, "reconfigure"):  # what the terminal cannot show, or a name that is no UTF-8, ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    guard_terminal()
    tune_libraries()
    if not debug and not os.environ.get(VERBOSE):
        quiet_libraries()
    show_own_warnings()
    try:
        result = app(words, prog_name="textune", standalone_mode=False)
        if result == INTERRUPTED:  # typer makes this of Ctrl-C, and says nothing
            say("stopped")
        return result if isinstance(result, int) else 0
    except TextuneError as error:
        if debug:
            raise
        say(f"{error.kind}: {error}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say("stopped")
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except SystemExit as stop:  # typer and rich turn a broken pipe into an exit of their own
        if isinstance(stop.__context__, BrokenPipeError):
            return BROKEN_PIPE
        raise
    except OSError as error:
        if (code := report_output()) is not None:
            return code
        return _report_bug(error, debug) if debug or error.errno is None else _report_system(error)
    except RuntimeError as error:
        if debug or not str(error).startswith("Symlink loop"):  # pathlib raises no OSError for it
            return _report_bug(error, debug)
        return _report(str(error).lower(), "remove the link, or name another place")
    except MemoryError as error:
        return _report_bug(error, debug) if debug else _report("out of memory", "use less data, or a smaller model")
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error; typer has its own copy of click
            with contextlib.suppress(OSError):
                error.show()
            return int(error.exit_code)
        return _report_bug(error, debug)


_ADVICE = {
    errno.ENOSPC: "free some space and try again",
    errno.EDQUOT: "free some space and try again",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
}
"""What to do about an error of the system that no command foresaw."""


def _report_system(error: OSError) -> int:
    """Print an error of the file system or the machine: the place and the reason."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else (error.strerror or str(error)).lower()
    place = "writing" if error.filename is None else os.fsdecode(error.filename)
    return _report(f"{place}: {reason}", _ADVICE.get(error.errno or 0, "check the path"))


def _report(message: str, hint: str, code: int = BundleError.exit_code) -> int:
    say(f"error: {message}\n  {hint}")
    return code


def _report_bug(error: Exception, debug: bool) -> int:
    """Print an unexpected error, or the full disk behind it; with `debug`, raise it."""
    if debug:
        raise error
    if is_disk_full(error):
        return _report_system(OSError(errno.ENOSPC, str(error)))
    reason = str(error).splitlines()[0] if str(error) else ""
    say(f"error: this is a bug in textune: {type(error).__name__}: {reason}\n  --debug shows the traceback")
    return 70
