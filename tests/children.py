"""Processes that need not import torch anew: forked from the tests' server, in the place of a new interpreter."""

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
    """What textune and the tests use of `subprocess.Popen`, for `python -P -m textune ...` and `python SCRIPT ...`.

    Streams are files, or their numbers.
    """

    def __init__(
        self, command: Sequence[str], *, stdin: Any, stdout: Any, stderr: Any, env: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:  # fmt: skip
        words = list(command[1:] if command[1].endswith(".py") else command[3:])
        assert words[0] == "textune" or len(words) == len(command) - 1, command
        place = str((cwd or Path.cwd()).absolute())
        with Path(os.devnull).open("rb") as nothing:
            given = (
                nothing if stdin == subprocess.DEVNULL else stdin,
                stdout,
                sys.stderr if stderr is None else stderr,
            )
            streams = _Streams(*(stream if isinstance(stream, int) else stream.fileno() for stream in given))
            process = open_forkserver().Process(target=_run, args=(words, place, dict(env), streams))
            process.start()
        self._process: Any = process

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
    """The numbers of standard input, output and error on their way to the other process."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, tuple(map(reduction.DupFd, self.numbers))


def _receive(*numbers: Any) -> _Streams:
    return _Streams(*(number.detach() for number in numbers))


def _run(words: list[str], place: str, environment: dict[str, str], streams: _Streams) -> None:
    import torch

    torch.set_num_threads(1)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        os.dup2(streams.numbers[number], number)
        os.close(streams.numbers[number])
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False, buffering=1))  # noqa: SIM115
    sys.argv = words
    if words[0].endswith(".py"):
        sys.path.insert(0, place)
        runpy.run_path(words[0], run_name="__main__")
    else:
        runpy.run_module(words[0], run_name="__main__")
