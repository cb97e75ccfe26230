"""The commands tell malloc to keep what is freed; nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

_PROBE = """
import json, mmap, sys
from textune.cli.allocator import tune_allocator
said = tune_allocator()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * mmap.PAGESIZE // 2**20
before = resident()
block = bytearray(200 * 2**20)
full = resident()
del block
print(json.dumps([said, full - before, resident() - before]))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")


def probe(**variables: str) -> list[object]:
    """What was said, and the resident megabytes with a large block and after it was freed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "TEXTUNE_MALLOC"))}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=kept | variables, capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout))


def test_freed_memory_is_kept() -> None:
    said, full, after = probe()
    assert "TEXTUNE_MALLOC=off" in str(said)
    assert full >= 190 and after >= 190


@pytest.mark.parametrize(
    "variables",
    [{"TEXTUNE_MALLOC": "off"}, {"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}],
    ids=lambda variables: next(iter(variables)),
)
def test_it_can_be_switched_off_and_leaves_a_persons_own_choice(variables: dict[str, str]) -> None:
    said, full, after = probe(**variables)
    assert said is None
    assert full >= 190 and after < 20


def test_a_library_call_changes_nothing() -> None:
    code = "import sys, textune, textune.run, textune.training; print('textune.cli.allocator' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
