"""Bundles that earlier versions wrote load, and give the logits that were stored with them: these stay for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textune.bundle import OldBundleWarning
from textune.inference import Predictor

FIRST = Path(__file__).parent / "made_by_0_1"
EXPECTED: dict[str, Any] = json.loads((FIRST / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bundle_of_the_first_format_gives_its_logits(name: str) -> None:
    expected = EXPECTED[name]
    backbone = str(FIRST / expected["backbone"])
    with pytest.warns(OldBundleWarning, match="no digest"):
        predictor = Predictor.load(FIRST / name, backbone=backbone, precision="fp32", device="cpu")
    logits = predictor.predict_logits(expected["texts"])
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-5 * np.abs(expected["logits"]).max())
    np.testing.assert_allclose(predictor.predict_proba(expected["texts"]), expected["probabilities"], atol=1e-5)
    answers = [list(a) if isinstance(a, tuple) else a for a in predictor.predict(expected["texts"])]
    assert answers == expected["answers"]
