"""What a command sets for the libraries below it, and that a person's own settings stand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from textune.cli.environment import tune_libraries

NAMES = ("GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_PROBE = """
from textune.cli.environment import tune_libraries
tune_libraries()
import torch
square = torch.ones(64, 64, dtype=torch.bfloat16)
for _ in range(2):
    for rows in range(100, 300):
        torch.ones(rows, 64, dtype=torch.bfloat16) @ square
"""


def has_bf16_products() -> bool:
    """Whether this build's oneDNN multiplies in bf16 here."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the environment as it was."""
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k not in (*NAMES, "OMP_WAIT_POLICY")})


def test_a_person_s_own_settings_stand() -> None:
    os.environ |= {"OMP_WAIT_POLICY": "active", "LRU_CACHE_CAPACITY": "7"}
    tune_libraries()
    assert {name: os.environ.get(name) for name in NAMES} == dict(zip(NAMES, (None, "64", "7"), strict=True))


def test_a_command_sets_them_and_an_import_does_not() -> None:
    code = f"""
import os, textune, textune.run
print([os.environ.get(n) for n in {NAMES}])
from textune.cli import main
try:
    main(["info"])
finally:
    print([os.environ.get(n) for n in {NAMES}])
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == "[None, None, None]"
    assert done.stdout.splitlines()[-1] == "['20000', '64', '64']"


@pytest.mark.skipif(not has_bf16_products(), reason="oneDNN has no bf16 products here")
@pytest.mark.parametrize("own", [None, "1024"])
def test_the_libraries_read_them(own: str | None) -> None:
    variables = {"ONEDNN_VERBOSE": "2"} | ({} if own is None else dict.fromkeys(NAMES[1:], own))
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    compiled = done.stdout.count("create:cache_miss")
    assert 200 <= compiled < 300 if own else compiled >= 400, "200 shapes twice; 64 are kept"
