"""The tables of trials pair what belongs together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT / "docs") not in sys.path:
    sys.path.append(str(ROOT / "docs"))

from rule_figures import describe_trials  # noqa: E402  (from docs)


def make_trial(name: str, seed: int, accuracy: float, **settings: object) -> str:
    return json.dumps(
        {"name": name, "data": "d", "size": "1000", "seed": seed, "settings": settings, "last": {"accuracy": accuracy}}
    )


def test_a_trial_is_paired_with_the_rules_value_of_its_seed(tmp_path: Path) -> None:
    lines = [
        make_trial("rates_1000", 1, 0.80, learning_rate=5e-4),
        make_trial("rates_1000", 1, 0.82, learning_rate=1e-3),
        make_trial("rates_1000", 2, 0.70, learning_rate=5e-4),
        make_trial("rates_1000", 2, 0.74, learning_rate=1e-3),
        make_trial("rates_1000", 3, 0.10, learning_rate=1e-3),  # without a partner
        make_trial("warmup_1000", 2, 0.69, warmup_fraction=0.3),
        make_trial("names", 1, 0.99, learning_rate=1e-3),
    ]
    path = tmp_path / "rules.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    page = "\n".join(describe_trials(path))
    assert "| data | rows | seeds | **0.0005** | 0.001 |" in page
    assert "| d | 1,000 | 2 | 75.0 | 78.0 |" in page
    assert "0.001: +3.00 points (2 pairs, standard error 1.00)" in page
    assert "| d | 1,000 | 1 | 70.0 | 69.0 |" in page, "the rules' rate has the rules' warm-up"
    assert "0.3: -1.00 points (1 pair)" in page


def test_a_trial_with_a_further_setting_belongs_to_another_question(tmp_path: Path) -> None:
    lines = [
        make_trial("many_all", 1, 0.92, learning_rate=5e-4),
        make_trial("many_all", 1, 0.93, learning_rate=1e-3),
        make_trial("many_all", 1, 0.10, label_smoothing="0.1"),
        make_trial("many_all", 1, 0.20, learning_rate=1e-3, epochs=10),
        make_trial("pooling_head", 1, 0.80, method="head", pooling="mean"),
        make_trial("pooling_head", 1, 0.70, method="head", pooling="first"),
    ]
    path = tmp_path / "rules.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    page = "\n".join(describe_trials(path))
    assert "| d | 1,000 | 1 | 92.0 | 93.0 |" in page
    assert "| d | 1,000 | 1 | 70.0 | 80.0 |" in page, "all trials of that question have the method"


def test_without_trials_there_is_no_section(tmp_path: Path) -> None:
    assert list(describe_trials(tmp_path / "none.jsonl")) == []
