"""While bitsandbytes is imported nothing is compiled, and what it would compile is compiled when it is called."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from textune.backbones.quiet import quiet_bitsandbytes


def test_compilation_is_put_off_and_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[str, dict[str, Any]]] = []

    def compile_now(function: Any, **options: Any) -> Any:
        compiled.append((function.__name__, options))
        return function

    monkeypatch.setattr(torch, "compile", compile_now)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    with quiet_bitsandbytes():

        @torch.compile(dynamic=False)
        def double(x: int) -> int:
            return 2 * x

        def triple(x: int) -> int:
            return 3 * x

        later = torch.compile(triple)
        assert compiled == []
    assert torch.compile is compile_now
    assert [double(1), double(2), later(1), later(2)] == [2, 4, 3, 6]
    assert compiled == [("double", {"dynamic": False}), ("triple", {})]
    monkeypatch.setitem(sys.modules, "bitsandbytes", torch)
    with quiet_bitsandbytes():
        assert torch.compile is compile_now, "it is imported already"


def test_an_error_puts_the_compiler_back() -> None:
    before = torch.compile
    with pytest.raises(ZeroDivisionError), quiet_bitsandbytes():
        1 / 0
    assert torch.compile is before
