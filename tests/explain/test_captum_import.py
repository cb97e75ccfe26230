"""captum's integrated gradients alone are imported, and what others import of captum stays whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import textune

SCRIPT = """
import sys
from textune.explain.captum_import import import_integrated_gradients
{first}
found = import_integrated_gradients()
assert found is import_integrated_gradients()
assert ("matplotlib" in sys.modules) == {whole}, "the rest of captum"
assert ("captum" in sys.modules) == {whole}
import captum.attr
from captum.attr import IntegratedGradients, visualization
assert captum.attr.IntegratedGradients is IntegratedGradients and visualization
import torch
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
x, base = torch.ones(1, 3), torch.zeros(1, 3)
results = [each(model).attribute(x, base, n_steps=16) for each in (found, IntegratedGradients)]
assert torch.equal(*results)
"""


def run(first: str, whole: bool) -> None:
    script = SCRIPT.format(first=first, whole=whole)
    folder = str(Path(textune.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": folder})
    assert done.returncode == 0, done.stderr


def test_nothing_else_is_imported_and_a_later_import_is_whole() -> None:
    run("", whole=False)


def test_captum_that_is_imported_already_is_used() -> None:
    run("import captum.attr", whole=True)
