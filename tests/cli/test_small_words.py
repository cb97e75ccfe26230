"""Words of commands and reports that were wrong for one thing, for a pair, for a folder."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textune.bundle import read_manifest
from textune.cli.explain import _check_page
from textune.config.long_text import LongText
from textune.errors import BundleError, ConfigError
from textune.evaluation.errors import find_confident_set_errors
from textune.inference.generation import Sampling
from textune.report.charts import has_validation_loss
from textune.report.markdown import escape_markdown


def test_a_page_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="is a folder, not a file"):
            _check_page(tmp_path / "page.html", overwrite)


def test_no_label_becomes_a_formula() -> None:
    assert escape_markdown("$a_b$ $$x$$") == r"\$a\_b\$ \$\$x\$\$"


def test_a_missed_label_has_the_probability_of_its_absence() -> None:
    shares, truth = np.array([[0.9, 0.338], [0.8, 0.1]]), np.array([[1, 1], [0, 0]])
    found = find_confident_set_errors(shares, truth, shares > 0.5, ["a", "b"], ["x", "y"], [1, 2])
    said = {error.decision: f"{error.probability:.1%}{error.probability_of}" for error in found}
    assert said == {"false positive: a": "80.0%", "false negative: b": "66.2% that this label is absent"}


def test_the_legend_names_validation_only_where_it_was_measured() -> None:
    steps: list[dict[str, Any]] = [{"kind": "step", "step": i, "loss": 1.0} for i in range(3)]
    assert not has_validation_loss(steps)


def test_one_token_is_no_tokens() -> None:
    assert "share 1 token," in LongText("window", 1, 3).describe()
    assert "share 2 tokens," in LongText("window", 2, 3).describe()


@pytest.mark.parametrize("changed", [{"temperature": 1e-5}, {"top_p": 0.0}, {"max_new_tokens": 0}, {"seed": -1}])
def test_a_value_out_of_range_is_told_the_range(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"out of range; it must be .*\d"):
        Sampling().with_settings(**changed)


def test_a_name_of_the_hub_is_told_how_to_get_it(work: Path) -> None:
    with pytest.raises(BundleError, match="hf download owner/name --local-dir"):
        read_manifest("owner/name")
    (work / "mine").mkdir()
    for folder in ("mine/name", "runs/name", "name", "a/b/c"):
        with pytest.raises(BundleError) as caught:
            read_manifest(folder)
        assert caught.value.hint is None, folder


def test_the_pictures_of_the_slides_need_a_folder() -> None:
    script = Path(__file__).parents[2] / "slides" / "pictures.py"
    with pytest.raises(SystemExit, match="usage"):
        runpy.run_path(str(script))["main"]([])
