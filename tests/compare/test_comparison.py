"""Comparisons: groups by seed, the same rows or a refusal, what is said of a difference, and runs that are resumed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import textune
from reports import take_script_away
from textune.bundle.checks import compute_digest
from textune.compare import compare_runs, list_configs, read_run, train_missing
from textune.compare.api import compare, parse_seeds
from textune.compare.goal import _hold_seeds, _share_over_seeds
from textune.compare.records import refuse_other_rows
from textune.config import RunConfig, build_config
from textune.errors import BundleError, ConfigError, DataError, ModelError
from textune.evaluation import Difference, Interval
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.report.comparison import Candidate, conclude, mark_fronts, note
from textune.report.comparison_page import (
    check_output,
    render_comparison,
    render_comparison_markdown,
    write_comparison,
)
from textune.run import resume, train, train_config
from textune.run.other_rows import evaluate
from textune.run.tables import prepare_data
from tiny import (
    FAST,
    StopAt,
    as_words,
    call_textune,
    copy_changeable,
    settings_for,
    start_textune,
    train_tiny,
    write_reviews,
)

CHANCES: dict[str, Any] = {"split_seed": 1, "epochs": 4}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> dict[str, Path]:
    """LoRA with two seeds, and the head alone with two, all measured on the same 40 rows."""
    place = tmp_path_factory.mktemp("compared")
    reviews = write_reviews(place / "reviews.csv", rows=100)
    made = {}
    for method in ("lora", "head"):
        for seed in (1, 2):
            settings = CHANCES | {"method": method, "seed": seed, "test_fraction": 0.4}
            made[f"{method}-{seed}"] = train_tiny(reviews, backbone, place / f"{method}-{seed}", **settings).folder
    return made


@pytest.fixture
def altered(runs: dict[str, Path], tmp_path: Path) -> Callable[[Callable[[pa.Table], pa.Table]], Path]:
    """Make a copy of the head's first run whose stored answers are another table."""

    def alter(change: Callable[[pa.Table], pa.Table]) -> Path:
        copy = copy_changeable(runs["head-1"], tmp_path / "copy")
        answers = copy / "evaluation" / "predictions.parquet"
        pq.write_table(change(pq.read_table(answers)), answers)
        return copy

    return alter


def test_runs_that_differ_by_seed_are_one_candidate(runs: dict[str, Path]) -> None:
    found = compare_runs(list(runs.values()))
    by_name = {c.name: c for c in found.candidates}
    assert by_name.keys() == {"lora", "head"}
    for method, candidate in by_name.items():
        stored = [json.loads((runs[f"{method}-{s}"] / "evaluation/metrics.json").read_text()) for s in (1, 2)]
        each = [run["models"]["tuned"]["accuracy"] for run in stored]
        assert candidate.seeds == (1, 2)
        assert candidate.value == pytest.approx(np.mean(each))
        assert candidate.spread == pytest.approx(np.std(each, ddof=1))
        assert candidate.interval.low <= candidate.value <= candidate.interval.high
        assert candidate.macro_f1_interval.low <= candidate.macro_f1 <= candidate.macro_f1_interval.high
        for cost in ("training_seconds", "run_seconds", "peak_memory_mb", "weight_megabytes"):
            assert candidate.costs[cost] == pytest.approx(np.mean([run["costs"][cost] for run in stored]))
    assert by_name["head"].costs["trainable_parameters"] < by_name["lora"].costs["trainable_parameters"]
    assert "trainable_parameters" in by_name["head"].fronts
    (pair,) = found.pairs
    assert set(pair.test.mcnemar) == {1, 2}
    assert pair.adjusted == pair.test.p
    assert found.candidates[0].value >= found.candidates[1].value
    assert compare_runs(list(runs.values())[::-1]) == found
    assert found.test_reads == 4


def test_one_seed_has_the_figures_of_its_own_report(runs: dict[str, Path]) -> None:
    found = compare_runs([runs["lora-1"], runs["head-2"]])
    first = next(c for c in found.candidates if c.name == "lora")
    tuned = json.loads((runs["lora-1"] / "evaluation/metrics.json").read_text())["models"]["tuned"]
    assert vars(first.interval) == tuned["intervals"]["accuracy"]
    assert first.spread is None
    assert found.pairs[0].test.mcnemar == {}
    assert any("One seed only" in line for line in note(found))


def test_groups_are_named_by_what_tells_them_apart(backbone: Path, backbones: dict[str, Path], tmp_path: Path) -> None:
    reviews = write_reviews(tmp_path / "reviews.csv")
    settings = {"epochs": 1, "split_seed": 0}
    made = [
        train_tiny(reviews, backbone, tmp_path / "a", **settings),
        train_tiny(reviews, backbone, tmp_path / "b", method={"name": "lora", "r": 2}, **settings),
        train_tiny(reviews, backbones["bert"], tmp_path / "c", method="head", **settings),
    ]
    names = {c.name for c in compare_runs([run.folder for run in made]).candidates}
    assert names == {"lora on tiny-distilbert r=8", "lora on tiny-distilbert r=2", "head on tiny-bert"}


def test_other_rows_are_refused_with_the_reason(runs: dict[str, Path], backbone: Path, tmp_path: Path) -> None:
    source = runs["lora-1"].parent / "reviews.csv"
    other = train_tiny(source, backbone, tmp_path / "other", epochs=1, split_seed=2, test_fraction=0.4)
    with pytest.raises(DataError, match=r"not measured on the same rows: \d+ rows differ") as caught:
        compare_runs([runs["lora-1"], other.folder])
    assert "split_seed" in (caught.value.hint or "")
    fewer = train_tiny(source, backbone, tmp_path / "fewer", epochs=1, split_seed=1, test_fraction=0.2)
    with pytest.raises(DataError, match="20 rows and 40 rows"):
        compare_runs([runs["lora-1"], fewer.folder])
    without = train_tiny(source, backbone, tmp_path / "without", epochs=1, test_fraction=0.0)
    with pytest.raises(DataError, match="validation rows and test rows"):
        compare_runs([runs["lora-1"], without.folder])


def test_other_labels_and_texts_are_refused(
    runs: dict[str, Path], altered: Callable[[Callable[[pa.Table], pa.Table]], Path], tmp_path: Path
) -> None:
    swapped = altered(lambda table: table.set_column(2, "label", table["predicted_label"]))
    with pytest.raises(DataError, match=r"row \d+ is labeled '(negative|positive)' and"):
        compare_runs([runs["lora-1"], swapped])
    shutil.rmtree(swapped)
    shouted = altered(lambda table: table.set_column(1, "text", pc.utf8_upper(table["text"])))
    with pytest.raises(DataError, match="texts of the rows differ"):
        compare_runs([runs["lora-1"], shouted])
    (shouted / "evaluation" / "predictions.parquet").unlink()
    with pytest.raises(BundleError, match="cannot read the predictions"):
        read_run(shouted)


def test_too_few_and_the_same_run_twice_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    for folders in ([runs["lora-1"]], [runs["lora-1"], runs["lora-1"]]):
        with pytest.raises(ConfigError, match="at least two different runs"):
            compare_runs(folders)
    copy = shutil.copytree(runs["lora-1"], tmp_path / "copy")
    with pytest.raises(ConfigError, match="are the same run"):
        compare_runs([runs["lora-1"], copy])


def test_runs_of_one_seed_on_other_splits_are_not_called_the_same(
    backbone: Path, reviews: Path, tmp_path: Path
) -> None:
    split = {"epochs": 1, "test": str(reviews), "validation_fraction": 0.3}
    folders = [train_tiny(reviews, backbone, tmp_path / f"{s}", split_seed=s, **split).folder for s in (1, 2)]
    with pytest.raises(ConfigError, match="but other training rows"):
        compare_runs(folders)


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "textune.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content | {"digest": compute_digest(content)}))


def test_equal_settings_on_other_data_are_two_candidates(runs: dict[str, Path], tmp_path: Path) -> None:
    """As after a second `textune train` when rows were added, on the same test table."""
    copy = shutil.copytree(runs["lora-1"], tmp_path / "more-rows")
    rewrite_manifest(copy, data_fingerprint="0" * 64)
    found = compare_runs([runs["lora-1"], copy])
    assert [c.seeds for c in found.candidates] == [(1,), (1,)] and len({c.name for c in found.candidates}) == 2
    other = shutil.copytree(runs["lora-2"], tmp_path / "another-seed")
    rewrite_manifest(other, data_fingerprint="0" * 64)
    found = compare_runs([runs["lora-1"], copy, other])
    assert sorted(c.seeds for c in found.candidates) == [(1,), (1, 2)]


def test_data_are_the_same_however_they_are_given(
    runs: dict[str, Path], backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs["head-1"].parent)
    settings = CHANCES | {"method": "head", "test_fraction": 0.4}
    columns = {"text": "text", "label": "label"}
    named = train_tiny("reviews.csv", backbone, tmp_path / "named", seed=3, **settings, **columns)
    of_frame = settings_for("", backbone, tmp_path / "framed", seed=4, **settings)
    framed = train(**of_frame | {"data": pacsv.read_csv("reviews.csv")}, progress=Silent())
    found = compare_runs([runs["head-1"], named.folder, framed.folder, runs["lora-1"]])
    assert {c.name: c.seeds for c in found.candidates} == {"head": (1, 3, 4), "lora": (1,)}


def test_seeds_with_splits_of_their_own_stay_with_their_table(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    test = write_reviews(tmp_path / "test.csv", rows=20)
    folders = []
    for version, rows in (("v1", 40), ("v2", 48)):
        (tmp_path / version).mkdir()
        table = write_reviews(Path(version, "train.csv"), rows=rows)
        for seed, data in ((1, table), (2, table.absolute())):
            place = tmp_path / f"{version}-{seed}"
            folders.append(train_tiny(data, backbone, place, method="head", epochs=1, seed=seed, test=str(test)).folder)
    found = {c.name: c.seeds for c in compare_runs(folders).candidates}
    assert found == {f"head data={Path(version, 'train.csv')}": (1, 2) for version in ("v1", "v2")}


def test_a_backbone_is_the_same_wherever_it_lies(runs: dict[str, Path], tmp_path: Path) -> None:
    moved = shutil.copytree(runs["lora-2"], tmp_path / "moved")
    path = moved / "config.yaml"
    path.write_text(re.sub(r"backbone: .*", "backbone: elsewhere/tiny", path.read_text()))
    assert [c.seeds for c in compare_runs([runs["lora-1"], moved]).candidates] == [(1, 2)]


def test_labels_that_no_model_knows_are_classes_of_their_own(runs: dict[str, Path], tmp_path: Path) -> None:
    copies = []
    for seed in (1, 2):
        copy = copy_changeable(runs[f"lora-{seed}"], tmp_path / f"strange-{seed}")
        answers = copy / "evaluation" / "predictions.parquet"
        table = pq.read_table(answers)
        labels = [f"new{i % 3}" if i < 12 else label for i, label in enumerate(table["label"].to_pylist())]
        pq.write_table(table.set_column(2, "label", pa.array(labels, pa.large_string())), answers)
        copies.append(copy)
    from textune.compare.comparison import _estimate_macro_f1

    records = [read_run(copy) for copy in copies]
    assert records[0].unknown.shape == (40, 3) and records[0].unknown.sum() == 12
    interval = _estimate_macro_f1(records[:1])
    assert interval.high < 0.45, "three of five classes are always missed"


def test_labels_may_stand_by_their_names_in_the_test_table(backbone: Path, tmp_path: Path) -> None:
    table = write_reviews(tmp_path / "reviews.csv", rows=60)
    test = write_reviews(tmp_path / "test.csv", rows=20)
    test.write_text(test.read_text().replace(",positive", ",good").replace(",negative", ",bad"))
    labels = "negative=bad,positive=good"
    folders = [
        train_tiny(table, backbone, tmp_path / f"{method}-{seed}", method=method, seed=seed, epochs=1, labels=labels,
                   split_seed=1, test=test).folder
        for method in ("lora", "head") for seed in (1, 2)
    ]  # fmt: skip
    assert read_run(folders[0]).unknown.shape == (20, 0)
    for candidate in compare_runs(folders).candidates:
        assert candidate.macro_f1_interval.low <= candidate.macro_f1 <= candidate.macro_f1_interval.high


def test_only_readings_of_the_compared_rows_are_counted(runs: dict[str, Path], tmp_path: Path) -> None:
    copies = [shutil.copytree(runs[name], tmp_path / name) for name in ("lora-1", "head-1")]
    evaluate(copies[0], write_reviews(tmp_path / "march.csv", rows=12), text="text", label="label")
    assert compare_runs(copies).test_reads == 2


def test_runs_that_build_on_another_are_found_again(backbone: Path, tmp_path: Path) -> None:
    table = write_reviews(tmp_path / "reviews.csv", rows=60)
    base = train_tiny(table, backbone, tmp_path / "base", epochs=1, labels="negative=bad,positive=good").folder
    settings = FAST | {"data": str(table), "text": "text", "label": "label", "epochs": 1, "init": str(base),
                       "runs_dir": str(tmp_path / "runs"), "test_fraction": 0.2}  # fmt: skip
    configs = list_configs(settings, ["lora"], [None], [1, 2])
    made = train_missing(configs, Silent(), launch=lambda config, _: train_config(config, progress=Silent()) and None)
    assert train_missing(configs, Silent(), launch=lambda *_: pytest.fail("trained twice")) == made


def test_answers_that_are_not_whole_are_told_with_their_place(
    altered: Callable[[Callable[[pa.Table], pa.Table]], Path], runs: dict[str, Path]
) -> None:
    damaged = altered(lambda table: table.drop_columns("label"))
    with pytest.raises(BundleError, match=rf"{re.escape(str(damaged))}.*damaged"):
        read_run(damaged)


def test_texts_are_compared_where_they_are_read_alike(runs: dict[str, Path], tmp_path: Path,
    altered: Callable[[Callable[[pa.Table], pa.Table]], Path]) -> None:  # fmt: skip
    shouted = altered(lambda table: table.set_column(1, "text", pc.utf8_upper(table["text"])))
    columns = json.loads((shouted / "textune.json").read_text())["columns"]
    rewrite_manifest(shouted, columns=columns | {"joiner": " | "})
    assert len(compare_runs([runs["lora-1"], shouted]).candidates) == 2
    elsewhere = read_run(shouted)
    for name, alike in (("reviews.csv", True), ("hotels.csv", False)):
        moved = replace(elsewhere, sources={"data": f"/elsewhere/{name}"})
        if alike:
            refuse_other_rows([read_run(runs["lora-1"]), moved])
            continue
        with pytest.raises(DataError, match=r"are of other columns of other tables \(.*hotels.csv and .*reviews.csv"):
            refuse_other_rows([read_run(runs["lora-1"]), moved])
    rewrite_manifest(shouted, columns=columns | {"label": "stars"})
    with pytest.raises(DataError, match="texts of the rows differ"):
        compare_runs([runs["lora-1"], shouted])


def test_costs_and_rules_hold_what_seeds_bring() -> None:
    rows = np.arange(400)

    def list_hits(shares: tuple[float, ...]) -> list[np.ndarray[Any, Any]]:
        return [np.stack([rows < 400 * share, np.ones(400)], axis=1).astype(np.int64) for share in shares]

    calm, wild = (_share_over_seeds(list_hits(shares)) for shares in ((0.8, 0.8, 0.8), (0.7, 0.8, 0.9)))
    assert calm.value == wild.value == pytest.approx(0.8) and calm.interval and wild.interval
    assert wild.interval.high - wild.interval.low > 3 * (calm.interval.high - calm.interval.low)
    lead = _hold_seeds(Difference(0.05, 0.15, 0.1, 0.0001), [0.7, 0.8, 0.9], [0.6, 0.7, 0.8])
    assert lead is not None and lead.low < 0 < lead.high and lead.p_value is not None and lead.p_value > 0.2
    alone = _hold_seeds(Difference(0.05, 0.15, 0.1, 0.0001), [0.8], [0.7])
    assert alone == Difference(0.05, 0.15, 0.1, 0.0001)


def test_labels_are_told_apart_by_those_that_differ(runs: dict[str, Path], tmp_path: Path) -> None:
    one, many = read_run(runs["lora-1"]), tuple(f"class{i}" for i in range(8))

    def tell(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
        two = [replace(one, manifest=replace(one.manifest, labels=labels)) for labels in (ours, theirs)]
        with pytest.raises(DataError) as caught:
            refuse_other_rows(two)
        return str(caught.value)

    assert "labels that only one of them has: class6, class7; and none" in tell(many[:6], many)
    assert "in another order" in tell(many, many[::-1])
    assert "class0, class1, class2, class3, class4 and more" in tell(many, ("a", "b"))


def test_folders_that_hold_runs_are_told_from_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["lora-1"], tmp_path / "runs" / "a")
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "sweep.yaml").write_text("sweep: {space: {learning_rate: [0.1]}}\n")
    for name, message, hint in (
        ("runs", "runs: a folder of runs, not a run", "runs/a"),
        ("search", "search: a search, not a run", "search/winner"),
        ("nowhere", "nowhere: there is neither a run nor a table, so there is nothing to compare", "finished runs"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            compare(tmp_path / name)
        assert hint in str(caught.value.hint)
        told = call_textune("compare", name, cwd=tmp_path, code=2).stderr
        assert message in told and hint in told
    for other in ("sweep.yaml", "plan.json"):
        (tmp_path / "table").mkdir(exist_ok=True)
        (tmp_path / "table" / other).write_text("{}")
    with pytest.raises(ConfigError, match="only one run: nothing to compare"):
        compare(data=str(tmp_path / "table"))


def test_what_was_not_computed_alike_is_noted(runs: dict[str, Path], tmp_path: Path) -> None:
    found = note(compare_runs([runs["lora-1"], runs["head-1"]]))
    assert not any("different hardware or engine settings" in line for line in found)
    copy = shutil.copytree(runs["head-1"], tmp_path / "elsewhere")
    engine = json.loads((copy / "textune.json").read_text())["engine"]
    rewrite_manifest(copy, engine=engine | {"threads": 64})
    found = compare_runs([runs["lora-1"], copy])
    assert any("64 threads" in line for line in note(found))
    assert not any("trains fastest" in line for line in conclude(found))
    assert not any("training_seconds" in c.fronts for c in found.candidates)


def test_an_output_that_cannot_be_is_told_before_training(
    reviews: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.txt").write_text("mine")
    words = [str(reviews), "methods=lora,head", f"backbone={backbone}"]
    told = call_textune("compare", *words, "--output", "file.txt/x", cwd=tmp_path, code=2).stderr
    assert "file.txt: is a file" in told and not (tmp_path / "runs").exists()
    monkeypatch.setattr("textune.bundle.folder.os.access", lambda *_: False)
    with pytest.raises(ConfigError, match="cannot be written to"):
        check_output(tmp_path / "new" / "folder")


def test_the_current_folder_takes_a_comparison(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    textune.compare(runs["lora-1"], runs["head-1"], output=".")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.md", "compare.json"}


def test_a_page_that_cannot_be_written_leaves_the_old_figures(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compare_runs([runs["lora-1"], runs["head-1"]])
    write_comparison(found, tmp_path, "1.0")
    monkeypatch.setattr("textune.report.comparison_page.write_page", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        write_comparison(found, tmp_path, "2.0")
    assert json.loads((tmp_path / "compare.json").read_text())["textune_version"] == "1.0"


def test_runs_of_older_versions_show_a_dash(runs: dict[str, Path], tmp_path: Path) -> None:
    copy = copy_changeable(runs["head-1"], tmp_path / "old")
    path = copy / "evaluation" / "metrics.json"
    content = json.loads(path.read_text())
    del content["costs"]
    path.write_text(json.dumps(content))
    found = compare_runs([runs["lora-1"], copy])
    old = next(c for c in found.candidates if c.name == "head")
    assert old.costs["training_seconds"] is None
    assert old.costs["trainable_parameters"] is not None
    assert "| – |" in render_comparison_markdown(found, "1")
    assert any("were not recorded" in line for line in note(found))


def test_what_is_said_of_a_difference(runs: dict[str, Path]) -> None:
    found = compare_runs([runs["lora-1"], runs["lora-2"], runs["head-1"], runs["head-2"]])
    told = " ".join(conclude(found))
    assert "equal" not in told
    assert found.pairs[0].ahead in (None, found.best.name)
    if found.pairs[0].ahead is None:
        assert "No significant difference" in told
    else:
        assert f"better than {found.candidates[1].name}" in told
    assert any("selecting on the test set" in line and "read at least 4 times" in line for line in note(found))


@pytest.mark.parametrize(("seeds_a", "seeds_b"), [((1,), (1,)), ((1, 2), (1,)), ((1, 2), (1, 2))])
def test_one_seed_is_a_verdict_about_two_models(
    runs: dict[str, Path], seeds_a: tuple[int, ...], seeds_b: tuple[int, ...]
) -> None:
    folders = [runs[f"lora-{seed}"] for seed in seeds_a] + [runs[f"head-{seed}"] for seed in seeds_b]
    found = compare_runs(folders)
    (pair,) = found.pairs
    assert pair.one_seed == (1 in (len(seeds_a), len(seeds_b)))
    best, other = (c.name for c in found.candidates)
    sign = 1 if pair.a == best else -1
    lead = Difference(*sorted((sign * 0.02, sign * 0.08)), sign * 0.05)
    clear = replace(pair, adjusted=0.001, test=replace(pair.test, lead=lead))
    told = " ".join(conclude(replace(found, pairs=(clear,))))
    about_models = f"These two trained models differ: {best} is ahead of {other} (by 5.0 points). One seed cannot rank"
    assert (about_models in told) == pair.one_seed
    assert (f"It is significantly better than {other}" in told) != pair.one_seed
    assert ("one seed cannot rank the methods" in clear.verdict) == pair.one_seed
    assert clear.ahead == best


def test_what_only_one_of_two_gets_right_is_shown(runs: dict[str, Path]) -> None:
    found = compare_runs([runs["lora-1"], runs["head-1"]])
    contrast = found.contrast
    assert contrast is not None and contrast.seeds == (1, 1)
    mcnemar = found.pairs[0].test.mcnemar[1]
    by_name = {side.name: side for side in contrast.sides}
    assert by_name[found.pairs[0].a].only == mcnemar.only_a and by_name[found.pairs[0].b].only == mcnemar.only_b
    assert contrast.apart + contrast.both + contrast.neither == found.rows
    read = {side.name: read_run(runs[f"{side.name}-1"]) for side in contrast.sides}
    for side, other in (contrast.sides, contrast.sides[::-1]):
        assert len(side.rows) == min(side.only, 5)
        for row in side.rows:
            at = read[side.name].rows.tolist().index(row.row)
            right = [bool((run.true[at] == run.predicted[at]).all()) for run in (read[side.name], read[other.name])]
            assert right == [True, False] and row.right == read[side.name].labels[at] and row.wrong != row.right
    page, markdown = render_comparison(found, "1.0"), render_comparison_markdown(found, "1.0")
    assert (
        f"Of {found.rows} rows, both get {contrast.both} right" in page and "## Where the first two differ" in markdown
    )
    assert json.dumps(found.to_dict())


def test_the_front_is_what_nothing_beats() -> None:
    interval = Interval(0.0, 1.0)
    points = {"a": (0.9, 10.0), "b": (0.9, 20.0), "c": (0.8, 5.0), "d": (0.95, 30.0), "e": (0.7, 6.0), "f": (0.9, 10.0)}
    made = [
        Candidate(name, (1,), value, None, interval, 0.0, interval,
                  {"training_seconds": seconds, "trainable_parameters": None})
        for name, (value, seconds) in points.items()
    ]  # fmt: skip
    assert [c.name for c in mark_fronts(made) if "training_seconds" in c.fronts] == ["a", "c", "d", "f"]
    assert not any("trainable_parameters" in c.fronts for c in mark_fronts(made))
    assert not any(c.fronts for c in mark_fronts(made, one_machine=False)), "times of two machines say nothing"


def test_pages_are_whole_escaped_and_load_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    evil = shutil.copytree(runs["head-1"], tmp_path / "<script>alert(1)<")
    found = compare_runs([runs["lora-1"], evil])
    page = take_script_away(render_comparison(found, "1.0"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 2
    assert not re.search(r"""(?:src|href)=["'](?!#)""", page)
    target = tmp_path / "out"
    assert write_comparison(found, target, "1.0") == target / "report.html"
    assert {p.name for p in target.iterdir()} == {"report.html", "report.md", "compare.json"}
    kept = json.loads((target / "compare.json").read_text())
    assert [c["name"] for c in kept["candidates"]] == [c.name for c in found.candidates]
    assert kept["pairs"][0]["verdict"] == found.pairs[0].verdict
    assert (
        "\\<script\\>" in (target / "report.md").read_text() or "&lt;script&gt;" in (target / "report.md").read_text()
    )
    for name in (".partial-report.md", ".DS_Store"):  # left by a kill, and by a file manager
        (target / name).touch()
    write_comparison(found, target, "1.0")
    assert not (target / ".partial-report.md").exists()
    (target / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="contains other files"):
        write_comparison(found, target, "1.0")


def test_several_labels_are_compared_by_micro_f1(backbone: Path, tmp_path: Path) -> None:
    from label_tables import as_list, write_table

    table = write_table(tmp_path / "moods.csv", as_list)
    folders = [
        train_tiny(table, backbone, tmp_path / f"{method}-{seed}", method=method, seed=seed, split_seed=0, epochs=1)
        for method in ("lora", "head")
        for seed in (1, 2)
    ]
    found = compare_runs([run.folder for run in folders])
    assert found.figure == "micro F1"
    each = [run.metrics["models"]["tuned"]["micro"]["f1"] for run in folders[:2]]
    lora = next(c for c in found.candidates if c.name == "lora")
    assert lora.value == pytest.approx(np.mean(each))
    assert 0 < found.pairs[0].test.p <= 1


def test_split_seed_gives_all_seeds_the_same_rows(reviews: Path) -> None:
    def fingerprint(**settings: Any) -> str:
        return prepare_data(build_config({"data": str(reviews), "sample": "40"} | settings)).fingerprint

    assert fingerprint(seed=1, split_seed=7) == fingerprint(seed=2, split_seed=7) == fingerprint(seed=7)
    assert fingerprint(seed=1) != fingerprint(seed=2)


def list_tiny(reviews: Path, backbone: Path, runs_dir: Path, seeds: tuple[int, ...] = (1, 2), **more: Any) -> Any:
    settings = FAST | {"data": str(reviews), "runs_dir": str(runs_dir), "epochs": 1, "batch_size": 16} | more
    return list_configs(settings, ["lora", "head"], [str(backbone)], seeds)


class Launcher:
    """Trains in this process, and may stop one of the runs after some steps."""

    def __init__(self, stop_run: int = 0, stop_step: int = 1) -> None:
        self.launched: list[tuple[str, bool]] = []
        self._stop_run, self._stop_step = stop_run, stop_step

    def __call__(self, config: RunConfig, interrupted: Path | None) -> None:
        self.launched.append((str(config.name), interrupted is not None))
        if interrupted is not None:
            resume(interrupted, progress=Silent())
            return
        stop = self._stop_step if len(self.launched) == self._stop_run else None
        train_config(config, progress=StopAt(stop))


def test_what_is_missing_is_trained_once_and_resumed(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    configs = list_tiny(reviews, backbone, tmp_path / "runs")
    assert len({c.name for c in configs}) == 4
    assert {c.split_seed for c in configs} == {1}
    first = Launcher(stop_run=2)
    with pytest.raises(RunInterrupted):
        train_missing(configs, Silent(), first)
    assert len(first.launched) == 2
    again = Launcher()
    folders = train_missing(configs, Silent(), again)
    assert again.launched == [(configs[1].name, True), (configs[2].name, False), (configs[3].name, False)]
    third = Launcher()
    assert train_missing(configs, Silent(), third) == folders
    assert third.launched == []
    assert len(compare_runs(folders).candidates) == 2


def test_other_settings_are_other_runs(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    one, other = (list_tiny(reviews, backbone, tmp_path, epochs=epochs) for epochs in (1, 2))
    assert not {c.name for c in one} & {c.name for c in other}
    assert [c.name for c in one] == [c.name for c in list_tiny(reviews, backbone, tmp_path)]


def test_finished_runs_on_other_data_are_not_reused(backbone: Path, tmp_path: Path) -> None:
    table = write_reviews(tmp_path / "reviews.csv", rows=40)
    configs = list_tiny(table, backbone, tmp_path / "runs", seeds=(1,))
    train_missing(configs, Silent(), Launcher())
    write_reviews(table, rows=44)
    with pytest.raises(BundleError, match="the data have changed"):
        train_missing(configs, Silent(), Launcher())


def test_what_cannot_be_had_is_told_before_training(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    settings = {"data": str(reviews), "runs_dir": str(tmp_path)}
    with pytest.raises(ModelError, match="no such folder"):
        list_configs(settings, ["lora", "head"], [str(tmp_path / "nowhere")], [1])
    with pytest.raises(ConfigError, match="each must be named once"):
        list_configs(settings, ["lora", "lora"], [str(backbone)], [1])
    with pytest.raises(ConfigError, match="named automatically"):
        list_configs(settings | {"name": "x"}, ["lora"], [str(backbone)], [1, 2])
    with pytest.raises(ConfigError, match="reads at most 56 tokens with prompt's 8 virtual tokens"):
        list_configs(settings | {"max_length": 64}, ["lora", "prompt"], [str(backbone)], [1])
    with pytest.raises(ConfigError, match="unknown option"):
        list_configs(settings | {"method": {"r": 4}}, ["lora", "head"], [str(backbone)], [1])


def test_seeds_are_a_number_of_them_or_a_list() -> None:
    assert parse_seeds("3", None) == [42, 43, 44]
    assert parse_seeds("2", "7") == [7, 8]
    assert parse_seeds("5,3", None) == [5, 3]
    assert parse_seeds("5,", None) == parse_seeds([5], None) == [5]
    assert parse_seeds(None, None) == [42]
    with pytest.raises(ConfigError, match="seeds="):
        parse_seeds("some", None)
    for none in ("0", -3):
        with pytest.raises(ConfigError, match=f"seeds={none}: must be a number of seeds"):
            parse_seeds(none, None)
    with pytest.raises(ConfigError, match=r"^seed=abc: must be a whole number"):
        parse_seeds(None, "abc")
    with pytest.raises(ConfigError, match=r"^seed=1\.5: must be a whole number"):
        parse_seeds("2", 1.5)
    with pytest.raises(ConfigError, match="seed="):
        parse_seeds(3, [1, 2])


def test_the_command_line(runs: dict[str, Path], tmp_path: Path) -> None:
    folders = [str(folder) for folder in runs.values()]
    done = call_textune("compare", *folders, "--output", "report", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert told["report"] == "report/report.html"
    assert (tmp_path / "report" / "report.md").is_file()
    shown = call_textune("compare", *folders, cwd=tmp_path).stdout
    assert re.search(r"lora +2 +\d+\.\d% ± ", shown)
    assert "selecting on the test set" in shown
    failed = call_textune("compare", *folders, "epochs=3", cwd=tmp_path, code=2)
    assert "finished runs take no settings" in failed.stderr
    assert "nothing to compare" in call_textune("compare", "reviews.csv", "epochs=3", cwd=tmp_path, code=2).stderr
    call_textune("compare", folders[0], "nowhere", cwd=tmp_path, code=5)
    assert "Traceback" not in failed.stderr


def test_a_run_killed_before_its_settings_stood_there_is_started_anew(
    reviews: Path, backbone: Path, tmp_path: Path
) -> None:
    settings = settings_for(reviews, backbone, tmp_path / "run", method="head")
    config = build_config(settings)
    die_in = ("textune.run.fit:write_settings", 1)
    call_textune("train", *as_words(settings), cwd=tmp_path, code=-signal.SIGKILL, die_in=die_in)
    assert "before its first step" in call_textune("resume", "run", cwd=tmp_path, code=5).stderr
    assert train_missing([config], Silent()) == [tmp_path / "run"]
    assert read_run(tmp_path / "run").seed == config.training.seed


@pytest.mark.slow
def test_stopped_and_started_again_by_the_same_command(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    settings = FAST | {"backbone": str(backbone), "epochs": 80, "checkpoint_every_steps": 20,
                       "eval_every_steps": 1000, "runs_dir": "runs"}  # fmt: skip
    words = ["compare", str(reviews), "methods=head,bitfit", *as_words(settings), "--json"]
    command = start_textune(*words, cwd=tmp_path)
    until = time.monotonic() + 120
    while not list((tmp_path / "runs").glob("*/checkpoints/step-*")):
        assert time.monotonic() < until, "no checkpoint came"
        time.sleep(0.05)
    command.signal(signal.SIGTERM)
    assert command.wait() == 143, command.stderr
    assert "same command" in command.stderr
    (left,) = (tmp_path / "runs").glob("*-head-42-*")
    assert (left / "plan.json").is_file() and not (left / "textune.json").is_file()
    done = call_textune(*words, cwd=tmp_path)
    assert "resuming at step" in done.stderr
    told = json.loads(done.stdout)
    assert {c["name"] for c in told["candidates"]} == {"head", "bitfit"}
    resumed = next(c for c in told["candidates"] if c["name"] == "head")
    assert resumed["costs"]["run_seconds"] is None
