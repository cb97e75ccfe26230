"""Libraries are imported without what only costs time, and are left as they were."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from textune.backbones.quiet import quiet_bitsandbytes

IMPORTS = """
import sys, torch
from textune.backbones.quiet import quiet_bitsandbytes
compile = torch.compile
with quiet_bitsandbytes():
    import peft
assert "torch._inductor.compile_fx" not in sys.modules, "the compiler was imported"
assert torch.compile is compile
"""


def test_peft_is_imported_without_the_compiler() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, timeout=300)


def test_what_a_library_compiles_on_import_is_compiled_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    compiled: list[str] = []

    def compile_now(function, *, dynamic: bool = False):  # type: ignore[no-untyped-def]
        compiled.append(f"{function.__name__} {dynamic}")
        return lambda *numbers: -function(*numbers)

    monkeypatch.setattr(torch, "compile", compile_now)
    with quiet_bitsandbytes():

        @torch.compile(dynamic=True)
        def add(left: int, right: int) -> int:
            return left + right

        double = torch.compile(lambda number: 2 * number)
    assert torch.compile is compile_now and not compiled
    assert [add(2, 3), add(4, 4)] == [-5, -8] and compiled == ["add True"]
    assert double(4) == -8 and compiled == ["add True", "<lambda> False"]
