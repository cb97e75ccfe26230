"""A textune command in a process of its own: its time and its peak memory are its own, and stopping reaches it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from textune.errors import TextuneError
from textune.process.interrupt import RunInterrupted, StopRequest

_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Finished:
    """How the command ended. output, errors: what it printed; errors is empty where they went to the person."""

    code: int
    output: str
    errors: str


def run_child(words: Sequence[str], *, quiet: bool = False, environment: Mapping[str, str] | None = None) -> Finished:
    """Run `textune WORDS`; quiet: what it prints on standard error is kept instead of shown.

    Ctrl-C and SIGTERM reach the command, which may write a checkpoint; raises RunInterrupted when it has ended.
    """
    command = [sys.executable, "-P", "-m", "textune", *words]
    open_text = partial(tempfile.TemporaryFile, "w+", encoding="utf-8")
    with open_text() as output, open_text() as errors:
        with StopRequest() as stop:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors if quiet else None,
                env=os.environ | dict(environment or {}),
            )
            try:
                code = _wait(process, stop)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if stop.signal_number is not None or code in (130, 143):
            raise RunInterrupted(
                "stopped", stop.signal_number or code - 128, hint="start it with the same command again"
            )
        output.seek(0)
        errors.seek(0)
        return Finished(code, output.read(), errors.read())


def _wait(process: subprocess.Popen[bytes], stop: StopRequest) -> int:
    """Return the exit code; a request to stop is passed on once."""
    passed = False
    while True:
        try:
            return process.wait(_SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            if stop.signal_number is not None and not passed:
                # not SIGINT: a terminal's Ctrl-C has reached the command, too, and a second one would end it at once
                process.send_signal(signal.SIGTERM)
                passed = True


def explain_failure(what: str, finished: Finished) -> TextuneError:
    """Return the error of a command that failed, with its exit code and, where it was kept, its own message."""
    _, told, message = finished.errors.rpartition("error: ")
    if told:
        first, _, hint = message.strip().partition("\n  ")
        error = TextuneError(f"{what}: {first}", hint=hint or None)
    elif finished.code < 0:
        error = TextuneError(f"{what}: ended by signal {-finished.code}", hint="signal 9 often means: no memory left")
    else:
        error = TextuneError(f"{what}: ended with exit code {finished.code}; its message stands above")
    error.exit_code = finished.code if finished.code > 0 else 1
    return error
