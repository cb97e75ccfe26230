"""A number is not a process: what was started is known by the moment of its start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from textune.app.processes import find_start, send_signal, start_process


def test_a_process_has_one_start_as_long_as_it_runs(tmp_path: Path) -> None:
    pid = start_process(
        [sys.executable, "-c", "input() if 0 else __import__('time').sleep(60)"], tmp_path / "log", os.environ
    )
    start = find_start(pid)
    assert start is not None and find_start(pid) == start
    assert os.getsid(pid) == pid, "it is in a session of its own"
    assert not send_signal(pid, f"{start}0"), "another process of the same number is left alone"
    assert find_start(pid) == start
    assert send_signal(pid, start, signal.SIGKILL)
    wait_for_end(pid)
    assert not send_signal(pid, start)


def test_what_has_ended_and_was_not_waited_for_is_no_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        wait_for_end(process.pid)


def wait_for_end(pid: int) -> None:
    until = time.monotonic() + 20
    while find_start(pid) is not None:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_it_prints_is_appended(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    pid = start_process(
        [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)"], tmp_path / "log", os.environ
    )
    wait_for_end(pid)
    assert set((tmp_path / "log").read_text().split()) == {"before", "out", "err"}
