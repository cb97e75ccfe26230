"""Label likelihood in the ladder: where the backbone is causal, on as many rows as time permits, and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from textune.inference.zero_shot import ZeroShot
from textune.run import Run, likelihood
from tiny import build_causal, call_here, train_tiny, write_reviews

SMALL = {"epochs": 1, "max_length": 60, "labels": "negative=bad,positive=good"}


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_causal(tmp_path_factory.mktemp("causal") / "tiny-causal")


@pytest.fixture(scope="module")
def run(causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("likelihood")
    return train_tiny(write_reviews(place / "reviews.csv"), causal, place / "run", test_fraction=0.25, **SMALL)


def test_the_ladder_has_the_row_and_its_figures_are_those_of_zero_shot(run: Run, causal: Path) -> None:
    models = run.metrics["models"]
    assert list(models) == ["majority", "tfidf", "probe", "base", "likelihood", "tuned"]
    assert models["likelihood"]["rows"] == models["tuned"]["rows"] == 10
    import pyarrow.parquet as pq

    table = pq.read_table(run.folder / "evaluation" / "predictions.parquet").to_pydict()
    zero_shot = ZeroShot.open(str(causal), ("bad", "good"), max_length=60, precision="fp32", device="cpu")
    found = zero_shot.predict(table["text"])
    assert models["likelihood"]["accuracy"] == np.mean([a == b for a, b in zip(found, table["label"], strict=True)])
    assert "label likelihood without tuning" in run.report.read_text(encoding="utf-8")


def test_some_rows_are_said_to_be_some(
    causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(likelihood, "MOST_ROWS", 6)
    monkeypatch.setattr(likelihood, "FEWEST_ROWS", 5)
    data = write_reviews(tmp_path / "reviews.csv")
    settings = SMALL | {"max_length": 60, "threads": 1, "precision": "fp32", "device": "cpu", "learning_rate": 5e-3}
    words = [f"{key}={value}" for key, value in settings.items()]
    code, out, err = call_here(
        capsys, "train", str(data), f"backbone={causal}", f"runs_dir={tmp_path}", "name=run", "test_fraction=0.25",
        "contrast_steps=0", *words,
    )  # fmt: skip
    assert code == 0, err
    assert "label likelihood without tuning (6 of these rows)" in out
    assert "label likelihood without tuning (6 of 10 rows)" in (tmp_path / "run/evaluation/report.html").read_text()


@pytest.mark.parametrize(
    ("rows", "work", "device", "expected"),
    [(1000, 1e9, "cpu", 200), (50, 1e9, "cpu", 50), (1000, 4e10, "cpu", 100), (1000, 1e12, "cpu", None),
     (1000, 1e12, "cuda", 200), (4, 1e12, "cpu", 4), (3, 1e9, "mps", 3)],
)  # fmt: skip
def test_rows_are_bounded_by_the_work(rows: int, work: float, device: str, expected: int | None) -> None:
    chosen = likelihood.choose_rows(rows, work, device, seed=0)
    if expected is None:
        assert chosen is None
        return
    assert chosen is not None and len(chosen) == expected == len(set(chosen.tolist()))
    assert (np.diff(chosen) > 0).all() and chosen.max() < rows
    assert np.array_equal(chosen, likelihood.choose_rows(rows, work, device, seed=0))


@pytest.mark.parametrize("case", ["encoder", "no output layer", "several labels", "labels too long"])
def test_where_it_does_not_apply_the_ladder_is_as_before(
    backbones: dict[str, Path], causal: Path, tmp_path: Path, case: str
) -> None:
    data = write_reviews(tmp_path / "reviews.csv", rows=24)
    backbone = {"encoder": backbones["bert"], "no output layer": backbones["llama"]}.get(case, causal)
    settings = SMALL | {"several labels": {"task": "multi_label"}, "labels too long": {"max_length": 24}}.get(case, {})
    run = train_tiny(data, backbone, tmp_path / "run", **settings)
    assert "likelihood" not in run.metrics["models"]
