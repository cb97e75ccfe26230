"""The reference names all that there is to set, and what a loaded run can do."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from textune.inference import Predictor
from tiny import call_here

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = call_here(capsys, "settings", "--json")
    listed = {row["setting"] for row in json.loads(printed)["settings"]}
    described = set(re.findall(r"^\| `([\w.]+)` \|", REFERENCE, re.MULTILINE))
    assert code == 0 and {"epochs", "packing", "method.r"} <= listed
    assert not listed - described


@pytest.mark.parametrize(
    "name", ["load", "classify", "predict", "predict_proba", "predict_logits", "predict_sets", "generate"]
)
def test_what_a_loaded_run_can_do_is_in_the_reference(name: str) -> None:
    heading = f"#### Predictor.{name}\n"
    assert heading in REFERENCE
    assert inspect.cleandoc(getattr(Predictor, name).__doc__ or "-") in REFERENCE.partition(heading)[2]
