"""Children of textune's own (`process.child`) that need not import torch anew: forked from the tests' server."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from tiny import open_forkserver


class Forked:
    """What `run_child` uses of `subprocess.Popen`, for a command that begins as `python -P -m textune`."""

    def __init__(self, command: Sequence[str], *, stdin: int, stdout: Any, stderr: Any, env: Mapping[str, str]) -> None:
        assert list(command[1:4]) == ["-P", "-m", "textune"] and stdin == subprocess.DEVNULL
        streams = _Streams(stdout.fileno(), stderr if isinstance(stderr, int) else (stderr or sys.stderr).fileno())
        words, place = list(command[4:]), str(Path.cwd())
        self._process: Any = open_forkserver().Process(target=_run, args=(words, place, dict(env), streams))
        self._process.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def poll(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("textune", timeout or 0.0)
        return int(self._process.exitcode)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


class _Streams:
    """Standard output and standard error on their way to the other process."""

    def __init__(self, output: int, errors: int) -> None:
        self.output, self.errors = output, errors

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (reduction.DupFd(self.output), reduction.DupFd(self.errors))


def _receive(output: Any, errors: Any) -> _Streams:
    return _Streams(output.detach(), errors.detach())


def _run(words: list[str], place: str, environment: dict[str, str], streams: _Streams) -> None:
    import torch

    torch.set_num_threads(1)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, mode, source in ((0, "r", nothing), (1, "w", streams.output), (2, "w", streams.errors)):
        os.dup2(source, number)
        stream = open(number, mode, encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        setattr(sys, ("stdin", "stdout", "stderr")[number], stream)
    sys.argv = ["textune", *words]
    runpy.run_module("textune", run_name="__main__", alter_sys=False)
