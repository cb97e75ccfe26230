"""A search that goes on or ends: with what it began with, from a whole journal, told by the figure that chose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import openpyxl
import pytest
import yaml

from label_tables import as_list, write_table
from sweeps import check, sweep_tiny
from textune.bundle import SWEEP
from textune.config import build_config
from textune.errors import BundleError, DataError
from textune.progress import Silent
from textune.run.prepare import Shared
from textune.run.tables import prepare_data
from textune.search.journal import JOURNAL
from textune.search.settings import build_sweep
from textune.search.space import parse_space
from textune.search.start import describe_start, hash_models, refuse_changed_start
from textune.search.sweep import Sweep, load_sweep, resume_sweep
from tiny import build_backbone, make_rows, write_reviews

SPACE = {"learning_rate": [1e-3, 5e-3]}


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    place = tmp_path_factory.mktemp("stopped")
    rows = write_reviews(place / "rows.csv")
    (place / "test.csv").write_text("no,labels,here\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        sweep_tiny(rows, backbone, place / "s", SPACE, epochs=1, test=place / "test.csv")
    hint = caught.value.hint or ""
    assert f"textune resume {place / 's'}" in hint and "test table" in hint
    shutil.copytree(place, place.with_suffix(".kept"))
    return place / "s"


@pytest.fixture
def stopped(stopped_once: Path) -> Path:
    """The folder of a search whose trials are over and whose test table could not be read; its rows lie beside it.

    A search knows its tables by their paths: each test finds it at the same place, as it was.
    """
    shutil.rmtree(stopped_once.parent)
    shutil.copytree(stopped_once.parent.with_suffix(".kept"), stopped_once.parent)
    return stopped_once


def go_on(folder: Path) -> Sweep:
    write_reviews(folder.parent / "test.csv", 20)
    return resume_sweep(folder, progress=Silent())


def change(folder: Path, **settings: Any) -> None:
    path = folder / SWEEP
    flat = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in settings.items():
        place, key = (flat["sweep"], name.removeprefix("sweep_")) if name.startswith("sweep_") else (flat, name)
        place[key] = value
    path.write_text(yaml.safe_dump(flat), encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"batch_size": 4}, "batch_size: 8 when the search began, 4 now"),
        ({"sweep_space": {"learning_rate": [1e-3, 1e-2]}}, "sweep.space: "),
        ({"sweep_metric": "loss"}, "sweep.metric: None when the search began, 'loss' now"),
    ],
)
def test_changed_settings_are_refused_and_the_journal_stays(stopped: Path, changed: dict[str, Any], told: str) -> None:
    before = (stopped / JOURNAL).read_bytes()
    change(stopped, **changed)
    with pytest.raises(BundleError, match="the search cannot go on: the settings changed") as caught:
        go_on(stopped)
    assert told in caught.value.message
    added = (stopped / JOURNAL).read_bytes().removeprefix(before).splitlines()
    assert all(b'"directions"' in line for line in added), "opening it is noted, and no trial is enqueued"


def test_changed_rows_are_refused(stopped: Path) -> None:
    write_reviews(stopped.parent / "rows.csv", rows=44)
    with pytest.raises(BundleError, match="the search cannot go on: the data changed") as caught:
        go_on(stopped)
    assert "training: " in caught.value.message and "when the search began" in caught.value.message


def test_where_trials_are_trained_may_change(stopped: Path) -> None:
    change(stopped, sweep_workers=2)
    assert go_on(stopped).content["winner"]["test_reads"] == 1


def test_workers_that_move_the_rungs_may_not_change(reviews: Path, backbone: Path) -> None:
    flat = {"data": str(reviews), "text": "text", "label": "label", "backbone": str(backbone)}
    data = prepare_data(build_config(flat), hold_test=True)

    def begin(workers: int, halving: Any) -> dict[str, Any]:
        space = {"learning_rate": {"low": 1e-4, "high": 1e-2}}
        own = {"space": space, "halving": halving, "workers": workers, "folds": 0}
        return describe_start(*build_sweep(flat | {"sweep": own}), data, {})

    assert begin(4, False) == begin(8, False)
    refuse_changed_start(begin(1, {"reduction": 3}), begin(9, {"reduction": 3}))
    with pytest.raises(BundleError, match=r"sweep\.bracket: 4 when the search began, 8 now"):
        refuse_changed_start(begin(4, {"reduction": 2}), begin(8, {"reduction": 2}))


def test_a_damaged_journal_names_its_line(stopped: Path) -> None:
    path = stopped / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"{", b"\xff", 1), *lines[3:]]))
    with pytest.raises(BundleError, match=r"journal\.log: line 3 is damaged"):
        go_on(stopped)
    path.write_bytes(b"".join(lines))
    assert go_on(stopped).content["winner"]["number"] in (0, 1)


def test_one_method_in_the_space_is_the_one_that_is_checked(backbone: Path, tmp_path: Path) -> None:
    own = {"space": {"method": ["adapter"], "method.reduction_factor": [8, 16]}}
    assert check(backbone, own).trials == 2
    space, problems = parse_space({"method": ["bitfit"], "learning_rate": {"low": 1e-4, "high": 1e-2}},
                                  build_config({"data": "x.csv", "backbone": str(backbone)}))  # fmt: skip
    assert not problems and next(space.list_tried(every=False))["method"] == "bitfit"


def test_several_labels_are_told_by_the_figure_that_chose(backbone: Path, tmp_path: Path) -> None:
    done = sweep_tiny(write_table(tmp_path / "rows.csv", as_list), backbone, tmp_path / "s", SPACE, epochs=2,
                      validation_fraction=0.25)  # fmt: skip
    first, tuned = done.content["winner"]["headline"], done.winner.metrics["models"]["tuned"]
    assert first["name"] == "micro F1" and first["value"] == tuned["micro"]["f1"]
    page = done.report.read_text(encoding="utf-8")
    assert f"{100 * first['value']:.1f}%<small>micro F1 of the winner" in page


def test_what_no_process_saw_whole_is_no_cost(stopped: Path) -> None:
    costs = json.loads((go_on(stopped).winner.folder / "evaluation" / "metrics.json").read_text())["costs"]
    assert costs["peak_memory_mb"] is None and costs["run_seconds"] is None and costs["training_seconds"] > 0
    page = (stopped / "winner" / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "peak memory" not in page
    shutil.rmtree(stopped)


def test_a_changed_base_model_is_refused(stopped: Path, backbone: Path, tmp_path: Path) -> None:
    """Trials on one model cannot be compared with trials on another."""
    other = build_backbone("bert", tmp_path / "other", seed=7)
    kept = shutil.copytree(backbone, tmp_path / "kept")
    try:
        shutil.copytree(other, backbone, dirs_exist_ok=True)
        with pytest.raises(BundleError, match="the search cannot go on: the models changed"):
            go_on(stopped)
    finally:
        shutil.copytree(kept, backbone, dirs_exist_ok=True)
    assert go_on(stopped).content["winner"]["number"] in (0, 1)


def test_every_searched_base_model_counts(backbones: dict[str, Path], reviews: Path) -> None:
    names = [str(backbones["bert"]), str(backbones["distilbert"])]
    config, search = build_sweep({"data": str(reviews), "backbone": names})
    hashes = hash_models(config, search, cast(Any, SimpleNamespace(dialogues=None)), Shared())
    assert list(hashes) == names and len(set(hashes.values())) == 2


@pytest.mark.parametrize("kind", ["a score", "a step", "its digest", "a name", "no object", "another program's"])
def test_a_changed_outcome_chooses_no_winner(kind: str, stopped: Path) -> None:
    path = stopped / JOURNAL
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if '"outcome"' in line)
    entry = json.loads(lines[number])
    outcome = entry["user_attr"]["outcome"]
    if kind == "no object":
        entry["user_attr"]["outcome"] = 3
    elif kind == "another program's":
        entry = {}
    elif kind == "a name":
        outcome["stepz"] = outcome.pop("steps")
    else:
        name = {"a score": "score", "a step": "steps", "its digest": "digest"}[kind]
        outcome[name] = "0" * 64 if name == "digest" else outcome[name] + 1
    lines[number] = json.dumps(entry) + "\n"
    path.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(BundleError, match=r"journal\.log: is damaged: it holds"):
        go_on(stopped)


def test_a_changed_summary_is_named(stopped: Path) -> None:
    path = go_on(stopped).folder / "sweep.json"
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace('"accuracy": 0.', '"accuracy": 0.9', 1), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != content
    with pytest.raises(BundleError, match=r"sweep\.json: changed or damaged"):
        load_sweep(stopped)


@pytest.mark.parametrize("name", ["journal.log", "trials/0001", "trials/0000/metrics.jsonl"])
def test_nothing_is_written_through_a_link_of_a_search_from_elsewhere(name: str, stopped: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (stopped / name).rename(outside)
    (stopped / name).symlink_to(outside)
    before = {path: path.read_bytes() for path in (outside, *outside.rglob("*")) if path.is_file()}
    with pytest.raises(BundleError, match=f"{name}: is a symbolic link"):
        go_on(stopped)
    assert {path: path.read_bytes() for path in (outside, *outside.rglob("*")) if path.is_file()} == before


def test_the_winner_is_finished_with_a_review_file_that_moved(backbone: Path, tmp_path: Path) -> None:
    rows, fixes, test = write_reviews(tmp_path / "rows.csv"), tmp_path / "fixes.csv", tmp_path / "test.csv"
    text, label, _ = rows.read_text(encoding="utf-8").splitlines()[1].split(",")
    other = "positive" if label == "negative" else "negative"
    fixes.write_text(f"table,row,correct_label,text\ndata,1,{other},{text}\n", encoding="utf-8")
    test.write_text("no,labels,here\n", encoding="utf-8")
    with pytest.raises(DataError):
        sweep_tiny(rows, backbone, tmp_path / "s", SPACE, epochs=1, test=test, fixes=str(fixes))
    moved = fixes.rename(tmp_path / "moved.csv")
    write_reviews(test, 20)
    done = resume_sweep(tmp_path / "s", fixes=str(moved), progress=Silent())
    assert done.winner.manifest.fixes["changed"] == 1


def test_a_sheet_may_hold_the_test(backbone: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.xlsx"
    sheets = openpyxl.Workbook()
    for name, count in (("train", 40), ("test", 20)):
        sheet = sheets.create_sheet(name)
        for row in (("text", "label"), *make_rows(count, 2)):
            sheet.append(row)
    sheets.save(book)
    done = sweep_tiny(Path(f"{book}#train"), backbone, tmp_path / "s", SPACE, epochs=1, test=f"{book}#test")
    assert done.winner.metrics["models"]["tuned"]["rows"] == 20
