"""The baseline of each backbone in a comparison: logistic regression on its frozen embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textune.compare import compare_runs
from textune.evaluation import Difference
from textune.report.comparison import conclude
from textune.report.comparison_page import render_comparison_markdown, write_comparison
from textune.tasks import PROBE
from tiny import call_here, copy_changeable, train_tiny, write_reviews


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> dict[str, Path]:
    """Runs on the same 40 test rows: two methods and two seeds, another backbone, another pooling."""
    place = tmp_path_factory.mktemp("baselines")
    reviews = write_reviews(place / "reviews.csv", rows=100)
    of_runs: dict[str, tuple[str, dict[str, Any]]] = {
        "lora-1": ("distilbert", {}),
        "lora-2": ("distilbert", {"seed": 2}),
        "ia3-1": ("distilbert", {"method": "ia3"}),
        "bert-1": ("bert", {"method": "bitfit"}),
        "mean-1": ("distilbert", {"pooling": "mean"}),
    }
    shared = {"seed": 1, "split_seed": 1, "epochs": 1, "test_fraction": 0.4}
    return {
        name: train_tiny(reviews, backbones[family], place / name, **shared | settings).folder
        for name, (family, settings) in of_runs.items()
    }


def read_metrics(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8")))


@pytest.fixture
def altered(runs: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Make a copy of a run whose stored figures are changed."""

    def alter(name: str, change: Callable[[dict[str, Any]], object]) -> Path:
        copy, metrics = copy_changeable(runs[name], tmp_path / name), read_metrics(runs[name])
        change(metrics)
        (copy / "evaluation" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        return copy

    return alter


def test_methods_and_seeds_on_one_backbone_share_a_baseline(runs: dict[str, Path]) -> None:
    found = compare_runs([runs[name] for name in ("lora-1", "lora-2", "ia3-1")])
    (baseline,) = found.baselines
    stored = [read_metrics(runs[name])["models"]["probe"] for name in ("lora-1", "lora-2", "ia3-1")]
    assert stored[0]["accuracy"] == stored[2]["accuracy"], "the method makes no difference"
    assert baseline.name == PROBE and baseline.seeds == (1, 2) and set(baseline.candidates) == {"lora", "ia3"}
    assert baseline.value == pytest.approx(np.mean([figures["accuracy"] for figures in stored[:2]]))
    assert baseline.spread == pytest.approx(np.std([figures["accuracy"] for figures in stored[:2]], ddof=1))
    assert baseline.costs["training_seconds"] == pytest.approx(np.mean([figures["seconds"] for figures in stored]))
    assert baseline.costs["trainable_parameters"] is None
    assert baseline not in found.candidates and len(found.pairs) == 1
    (baseline,) = compare_runs([runs["lora-1"], runs["lora-2"]]).baselines
    leads = [read_metrics(runs[name])["leads"]["probe"] for name in ("lora-1", "lora-2")]
    assert baseline.lead is not None and baseline.lead.mean == pytest.approx(np.mean([lead["mean"] for lead in leads]))
    assert baseline.lead.low <= np.mean([lead["low"] for lead in leads]) <= baseline.lead.mean <= baseline.lead.high


def test_one_seed_has_the_interval_and_the_lead_of_its_report(runs: dict[str, Path]) -> None:
    found = compare_runs([runs["lora-1"], runs["ia3-1"]])
    (baseline,) = found.baselines
    best = read_metrics(runs[f"{found.best.name}-1"])
    assert vars(baseline.interval) == best["models"]["probe"]["intervals"]["accuracy"]
    assert baseline.lead is not None and vars(baseline.lead) == best["leads"]["probe"]
    assert baseline.lead.p_value is not None, "of the rows, not of two intervals"


def test_each_backbone_and_each_pooling_has_its_own(runs: dict[str, Path]) -> None:
    found = compare_runs([runs["lora-1"], runs["bert-1"], runs["mean-1"]])
    names = [f"{PROBE} on tiny-{rest}" for rest in ("bert", "distilbert, pooling=first", "distilbert, pooling=mean")]
    assert sorted(baseline.name for baseline in found.baselines) == names
    values = [baseline.value for baseline in found.baselines]
    assert values == sorted(values, reverse=True)
    others = [one for one in found.baselines if found.best.name not in one.candidates]
    assert len(others) == 2 and all(one.lead is not None and one.lead.p_value is None for one in others)
    for one in others:
        assert one.lead is not None and one.lead.mean == pytest.approx(found.best.value - one.value)


def test_other_training_rows_are_another_baseline(backbones: dict[str, Path], tmp_path: Path) -> None:
    shared = {"seed": 1, "epochs": 1, "test": str(write_reviews(tmp_path / "test.csv", rows=20))}
    made = [
        train_tiny(table, backbones["distilbert"], tmp_path / method, method=method, **shared).folder
        for method, rows in (("lora", 40), ("ia3", 60), ("bitfit", 60))
        for table in [write_reviews(tmp_path / f"{method}.csv", rows=rows)]
    ]
    found = compare_runs(made)
    assert {baseline.name.partition(", for ")[::2] for baseline in found.baselines} == {
        (PROBE, "lora"),
        (PROBE, ", ".join(c.name for c in found.candidates if c.name != "lora")),
    }


def test_it_is_shown_wherever_a_comparison_is(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare_runs([runs["lora-1"], runs["ia3-1"]])
    line = next(line for line in render_comparison_markdown(found, "1").splitlines() if line.startswith(f"| {PROBE}"))
    assert f"{100 * found.baselines[0].value:.1f}%" in line
    write_comparison(found, tmp_path / "out", "1")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('<tr class="baseline">') == 1 and f'<th scope="row">{PROBE}<' in page
    content = json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    assert [one["value"] for one in content["baselines"]] == [found.baselines[0].value]
    assert f"{PROBE}: accuracy" in str(found)
    code, out, _ = call_here(capsys, "compare", str(runs["lora-1"]), str(runs["ia3-1"]))
    assert code == 0 and f"\n{PROBE}  " in out and "the runs' own baseline" in out


@pytest.mark.parametrize(
    ("lead", "told"),
    [
        (Difference(-0.02, 0.03, 0.003, 0.8), "is within 0.3 points of {best} and trains in 3.0 s"),
        (Difference(-0.02, 0.02, 0.0, 1.0), "has the same accuracy as {best} and trains in 3.0 s"),
        (Difference(-0.05, -0.01, -0.03, 0.01), "scored 3.0 points higher than {best} and trains in 3.0 s"),
        (Difference(-0.02, 0.06, 0.02, 0.4), None),
        (Difference(0.001, 0.006, 0.003, 0.01), None),
        (Difference(0.0, 0.0, 0.0, 1.0), None),
    ],
)
def test_a_probe_as_good_as_the_best_is_named(lead: Difference, told: str | None, runs: dict[str, Path]) -> None:
    found = compare_runs([runs["lora-1"], runs["ia3-1"]])
    costs = dict(found.baselines[0].costs) | {"training_seconds": 3.0}
    changed = replace(found, baselines=(replace(found.baselines[0], lead=lead, costs=costs),))
    sentences = [sentence for sentence in conclude(changed) if "linear probe" in sentence]
    expected = [] if told is None else [f"The linear probe (method=head) {told.format(best=found.best.name)}."]
    assert sentences == expected
    on_backbone = replace(changed, baselines=(replace(changed.baselines[0], backbone="tiny-bert"),))
    assert ("(method=head) on tiny-bert" in " ".join(conclude(on_backbone))) == (told is not None)


def test_runs_that_measured_none_are_left_out(runs: dict[str, Path], altered: Callable[..., Path]) -> None:
    old = altered("ia3-1", lambda metrics: metrics["models"].pop("probe"))
    (baseline,) = compare_runs([runs["lora-1"], old]).baselines
    assert baseline.candidates == ("lora",)
    none = altered("lora-1", lambda metrics: metrics["models"].pop("probe"))
    found = compare_runs([none, old])
    assert found.baselines == () and PROBE not in render_comparison_markdown(found, "1")


def test_without_a_lead_or_seconds_it_is_still_shown(runs: dict[str, Path], altered: Callable[..., Path]) -> None:
    def forget(metrics: dict[str, Any]) -> None:
        del metrics["leads"]["probe"]
        metrics["models"]["probe"]["seconds"] = None

    found = compare_runs([altered(name, forget) for name in ("lora-1", "ia3-1")])
    (baseline,) = found.baselines
    assert baseline.lead is not None and baseline.lead.p_value is None
    assert baseline.costs["training_seconds"] is None


def test_several_labels_have_micro_f1(backbones: dict[str, Path], tmp_path: Path) -> None:
    from label_tables import as_list, write_table

    table = write_table(tmp_path / "moods.csv", as_list)
    made = [
        train_tiny(table, backbones["distilbert"], tmp_path / method, method=method, seed=1, epochs=1)
        for method in ("lora", "ia3")
    ]
    (baseline,) = compare_runs([run.folder for run in made]).baselines
    assert baseline.value == made[0].metrics["models"]["probe"]["micro"]["f1"]
