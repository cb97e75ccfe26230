"""Run a textune command in a child process, which has its own peak memory and receives stop signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from textune.errors import PYTHON, READER, TextuneError, in_shell
from textune.process.interrupt import RunInterrupted, StopRequest

_POLL_SECONDS = 0.2
_MESSAGE = re.compile(rf"^{TextuneError.kind}: (.*)", re.MULTILINE | re.DOTALL)
"""What the command line prints of an error, which may quote another one, such as `CUDA error: out of memory`."""


@dataclass(frozen=True)
class Finished:
    """The result of a command. output, errors: what it printed; errors is empty if it went to the terminal."""

    code: int
    output: str
    errors: str


def run_child(
    words: Sequence[str],
    *,
    quiet: bool = False,
    environment: Mapping[str, str] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Finished:
    """Run `textune WORDS`; quiet: capture standard error instead of showing it.

    meanwhile: called once the command has started; if it raises, the command is killed.
    Ctrl-C and SIGTERM are passed to the command, which may write a checkpoint. Raises RunInterrupted when it ends.
    """
    command = [sys.executable, "-P", "-m", "textune", *words]
    open_text = partial(tempfile.TemporaryFile, "w+", encoding="utf-8")
    with open_text() as output, open_text() as errors:
        with StopRequest() as stop:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors if quiet else _find_standard_error(),
                env=os.environ | ({} if in_shell() else {READER: PYTHON}) | dict(environment or {}),
            )
            try:
                if meanwhile is not None:
                    meanwhile()
                code = _wait(process, stop)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if stop.signal_number is not None or code in (130, 143):
            raise RunInterrupted(
                "on request", stop.signal_number or code - 128, hint="run the same command again to continue"
            )
        output.seek(0)
        errors.seek(0)
        return Finished(code, output.read(), errors.read())


def _find_standard_error() -> int | None:
    """Return the file number of what messages are printed to, which need not be 2."""
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _wait(process: subprocess.Popen[bytes], stop: StopRequest) -> int:
    """Return the exit code; pass a stop request on once."""
    forwarded = False
    while True:
        try:
            return process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if stop.signal_number is not None and not forwarded:
                # not SIGINT: Ctrl-C in a terminal reaches the command directly, and a second one would kill it
                process.send_signal(signal.SIGTERM)
                forwarded = True


def explain_failure(what: str, finished: Finished) -> TextuneError:
    """Return the error of a failed command, with its exit code and its message if that was captured."""
    found = _MESSAGE.search(finished.errors)
    if found is not None:
        first, _, hint = found[1].strip().partition("\n  ")
        error = TextuneError(f"{what}: {first}", hint=hint or None)
    elif finished.code < 0:
        error = TextuneError(f"{what}: killed by signal {-finished.code}", hint="signal 9 often means out of memory")
    else:
        error = TextuneError(f"{what}: failed with exit code {finished.code}; see its output above")
    error.exit_code = finished.code if finished.code > 0 else 1
    return error
