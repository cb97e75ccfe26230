"""`textune errors`: one label, several and pairs; other columns by row number; the review file and its way back."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import textune
from label_tables import as_list
from label_tables import make_rows as make_sets
from textune.bundle import SETTINGS, read_manifest
from textune.cli.errors import describe
from textune.config import build_config, load_settings, write_settings
from textune.errors import DataError
from textune.evaluation.slices import SliceSearch
from textune.files import hash_file
from textune.run import Run
from textune.run.error_analysis import ErrorAnalysis, find_errors
from textune.run.save import update_manifest
from tiny import call_here, make_rows, settings_for, train_tiny

Rows = list[dict[str, str]]
TEST_ROWS = 240


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def flip(label: str) -> str:
    return {"negative": "positive", "positive": "negative"}[label]


def make_single(rows: int) -> Rows:
    return [{"text": text, "label": label} for text, label in make_rows(rows)]


def make_pairs(rows: int) -> Rows:
    return [
        {"first": text, "second": f"about {i % 7}", "label": label} for i, (text, label) in enumerate(make_rows(rows))
    ]


def make_several(rows: int) -> Rows:
    return [{"text": text} | as_list(labels) for text, labels in make_sets(rows)]


LEARN: dict[str, Any] = {"method": "full", "epochs": 12, "learning_rate": 3e-3, "pooling": "mean"}
TRAIN_ROWS = 200
KINDS: dict[str, tuple[Callable[[int], Rows], dict[str, Any]]] = {
    "single": (make_single, {}),
    "pairs": (make_pairs, {"text": "first", "text_pair": "second", "label": "label"}),
    "several": (make_several, {}),
}


def plant(rows: Rows, label: str) -> Rows:
    """Add a column of no meaning, and give half of the rows with one of its values another label."""
    planted = []
    for i, row in enumerate(rows):
        flurb = ("ka", "ru", "mi", "so", "te")[(i * 7 // 3) % 5]
        other = row[label]
        if flurb == "mi" and i % 2:
            other = flip(other) if label == "label" else json.dumps(["blame"] if "praise" in other else ["praise"])
        planted.append(row | {label: other, "flurb": flurb, "price": str(i)})
    return planted


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> dict[str, Run]:
    """A run of each kind, tested on a table with a planted slice."""
    place, made = tmp_path_factory.mktemp("errors"), {}
    for kind, (make, settings) in KINDS.items():
        label = "labels" if kind == "several" else "label"
        rows = make(TRAIN_ROWS + TEST_ROWS)
        data = write(place / f"{kind}.csv", rows[:TRAIN_ROWS])
        test = write(place / f"{kind}-test.csv", plant(rows[TRAIN_ROWS:], label))
        made[kind] = train_tiny(data, backbone, place / kind, test=str(test), **LEARN | settings)
    return made


@pytest.fixture(scope="module")
def found(runs: dict[str, Run]) -> dict[str, ErrorAnalysis]:
    return {kind: run.find_errors() for kind, run in runs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_planted_slice_is_found_first(kind: str, found: dict[str, ErrorAnalysis]) -> None:
    analysis = found[kind]
    assert analysis.rows == TEST_ROWS and analysis.split == "test"
    assert analysis.slices.slices[0].description == "flurb is 'mi'"
    assert f"with the columns of {kind}-test.csv" in analysis.source
    assert analysis.confident and analysis.slices.examined["column"] >= 10
    for row in analysis.slices.slices[0].examples:
        assert analysis.excerpts[row]


@pytest.mark.parametrize("kind", KINDS)
def test_python_json_and_terminal_say_the_same(
    kind: str, runs: dict[str, Run], found: dict[str, ErrorAnalysis], capsys: Any
) -> None:
    folder = str(runs[kind].folder)
    code, shown, _ = call_here(capsys, "errors", folder, "--json")
    assert code == 0 and json.loads(shown) == json.loads(json.dumps(found[kind].to_dict()))
    code, shown, _ = call_here(capsys, "errors", folder)
    assert code == 0 and "flurb is 'mi'" in shown and "most confident errors" in shown
    assert max(map(len, shown.splitlines()[1:])) <= 80
    assert f"{found[kind].errors} of {TEST_ROWS} rows are wrong" in shown
    assert textune.find_errors(folder).to_dict() == found[kind].to_dict()


def test_a_run_is_found_by_its_name(runs: dict[str, Run], tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(runs["single"].folder)
    monkeypatch.chdir(tmp_path)
    code, shown, errors = call_here(capsys, "errors", "mine")
    assert code == 0 and "most confident errors" in shown and "read as runs/mine" in errors


def test_errors_are_those_of_the_evaluation(runs: dict[str, Run], found: dict[str, ErrorAnalysis]) -> None:
    for kind, run in runs.items():
        accuracy = run.metrics["models"]["tuned"]["accuracy"]
        assert 1 - found[kind].errors / TEST_ROWS == pytest.approx(accuracy)


def test_without_its_table_a_run_is_sliced_by_text_alone(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["single"]
    test = run.folder.parent / "single-test.csv"
    content = test.read_text(encoding="utf-8")
    try:
        lines = content.splitlines(keepends=True)
        test.write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]), encoding="utf-8")
        moved = find_errors(run.folder)
        test.unlink()
        gone = find_errors(run.folder)
    finally:
        test.write_text(content, encoding="utf-8")
    assert "no longer has the same rows" in moved.source
    assert "only texts and labels are known" in gone.source and "single-test.csv" in gone.source
    for analysis in (moved, gone):
        assert "column" not in analysis.slices.examined and analysis.slices.looks > 0
    # the table may be elsewhere, and have other columns
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_text(content, encoding="utf-8")
    again = find_errors(run.folder, str(elsewhere))
    assert again.rows == TEST_ROWS and "columns of elsewhere.csv" in again.source
    assert again.slices.slices[0].description == "flurb is 'mi'"


@pytest.mark.parametrize("gone", ["data", "data and test"])
def test_test_rows_are_reviewed_as_such_where_a_table_is_gone(gone: str, runs: dict[str, Run], tmp_path: Path) -> None:
    run, names = runs["single"], ["single.csv", "single-test.csv"]
    places = [run.folder.parent / name for name in names[: 1 + gone.count("and")]]
    for place in places:
        place.rename(tmp_path / place.name)
    try:
        analysis = find_errors(run.folder, review=tmp_path / "review.csv")
    finally:
        for place in places:
            (tmp_path / place.name).rename(place)
    assert {row["table"] for row in read(tmp_path / "review.csv")} == {"test"}
    assert ("with the columns of single-test.csv" in analysis.source) == (gone == "data")


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_review_of_a_run_on_data_frames_is_taken_back(split: str, backbone: Path, tmp_path: Path) -> None:
    rows = make_single(TRAIN_ROWS + 40)
    data, other = pl.DataFrame(rows[:TRAIN_ROWS]), pl.DataFrame(mistake(rows[TRAIN_ROWS:], "label", 4))
    frames = {split: other} | ({} if split == "test" else {"test_fraction": 0})
    settings = {k: v for k, v in settings_for("", backbone, tmp_path / "run", **LEARN).items() if k != "data"}
    run = textune.train(data, "text", "label", **settings | frames)
    review = tmp_path / "review.csv"
    run.find_errors(review=review)
    doubted = read(review)
    assert doubted and {row["table"] for row in doubted} == {split}
    doubted[0]["correct_label"] = doubted[0]["suggested_label"]
    settings |= {"name": "fixed", "fixes": str(write(tmp_path / "filled.csv", doubted))}
    assert textune.train(data, "text", "label", **settings | frames).manifest.fixes["changed"] == 1


def test_another_table_is_classified(runs: dict[str, Run], tmp_path: Path, capsys: Any) -> None:
    rows = [
        row | {"label": flip(row["label"]) if i % 4 == 0 else row["label"]} for i, row in enumerate(make_single(60))
    ]
    other = write(tmp_path / "other.csv", rows)
    run = tmp_path / "run"
    shutil.copytree(runs["single"].folder, run)
    code, shown, errors = call_here(capsys, "errors", str(run), str(other), "--json")
    analysis = json.loads(shown)
    assert code == 0 and analysis["rows"] == 60 and analysis["split"] == "other.csv"
    assert "classified now" in analysis["source"] and "trained on" in errors
    assert analysis["source"].startswith("all 60 labelled rows of other.csv")
    assert len((run / "test_reads.jsonl").read_text().splitlines()) == 2, "the reading is noted as evaluate's are"
    for sample, taken in {"5": "a sample of 5", "first:5": "the first 5"}.items():
        _, shown, _ = call_here(capsys, "errors", str(run), str(other), f"sample={sample}", "--json")
        assert json.loads(shown)["source"] == f"{taken} of the 60 labelled rows of other.csv, classified now"


def test_nearest_training_rows(runs: dict[str, Run], capsys: Any) -> None:
    analysis = runs["single"].find_errors(nearest=True)
    texts = [row["text"] for row in make_single(TRAIN_ROWS)]
    assert analysis.nearest.keys() == {error.row for error in analysis.confident}
    for near in analysis.nearest.values():
        assert len(near) == 3 and [n.similarity for n in near] == sorted((n.similarity for n in near), reverse=True)
        assert all(texts[n.row - 1] == n.text and -1.001 <= n.similarity <= 1.001 for n in near)
    assert any(
        "near (" in line
        for line in call_here(capsys, "errors", str(runs["single"].folder), "--nearest")[1].splitlines()
    )


def mistake(rows: Rows, label: str, every: int) -> Rows:
    return [
        row | {label: flip(row[label]) if row[label] in ("negative", "positive") else "music"}
        if i % every == 0
        else row
        for i, row in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Run:
    """A run on one table with flipped labels, from which the test rows are held out."""
    place = tmp_path_factory.mktemp("flawed")
    rows = mistake(make_single(600), "label", 20)
    for row in rows[:100]:
        row["text"] = "=1+1 " + row["text"]
    data = write(place / "reviews.csv", rows)
    return train_tiny(data, backbone, place / "flawed", test_fraction=0.4, **LEARN)


@pytest.fixture(scope="module")
def review(flawed: Run) -> Path:
    path = flawed.folder.parent / "review.csv"
    analysis = flawed.find_errors(review=path)
    assert analysis.review_file == str(path)
    return path


def test_flipped_labels_stand_in_the_review_file(flawed: Run, review: Path) -> None:
    rows = read(review)
    assert list(rows[0]) == ["table", "row", "label", "suggested_label", "correct_label", "score", "why", "text", "key"]
    assert {row["table"] for row in rows} == {"data"}
    held_out = {
        str(row) for row in pq.read_table(flawed.folder / "evaluation" / "predictions.parquet")["row"].to_pylist()
    }
    flipped = held_out & {str(i + 1) for i in range(0, 600, 20)}
    ranks = [at for at, row in enumerate(row for row in rows if row["row"] in held_out) if row["row"] in flipped]
    assert len(ranks) >= 0.7 * len(flipped) > 3 and np.median(ranks) < 2 * len(flipped)
    assert {row["row"] for row in rows} - held_out, "training rows are reviewed, too"
    assert all(row["correct_label"] == "" and row["suggested_label"] == flip(row["label"]) for row in rows)
    assert [float(r["score"]) for r in rows] == sorted((float(r["score"]) for r in rows), reverse=True)
    assert len({row["row"] for row in rows}) == len(rows)
    assert all("nearest training texts" in row["why"] for row in rows)
    formulas = [row["text"] for row in rows if "1+1" in row["text"]]
    assert all(text.startswith("'=") for text in formulas) and formulas


def test_labels_that_the_model_does_not_know_are_a_group_of_their_own(flawed: Run, tmp_path: Path) -> None:
    rows = [row | ({"label": "mixed"} if i < 40 else {}) for i, row in enumerate(make_single(160))]
    found = flawed.find_errors(str(write(tmp_path / "other.csv", rows)))
    first = found.slices.slices[0]
    assert (first.description, first.rows, first.errors) == ("the model does not know a true label", 40, 40)
    known = flawed.find_errors(str(write(tmp_path / "known.csv", make_single(160))))
    assert "does not know" not in json.dumps(known.to_dict()["slices"])


def test_a_review_file_is_not_overwritten(flawed: Run, review: Path, tmp_path: Path, capsys: Any) -> None:
    before = review.read_bytes()
    code, _, errors = call_here(capsys, "errors", str(flawed.folder), "--review", str(review))
    assert code == 2 and "already exists" in errors and "--overwrite" in errors
    review.write_text("old")
    code, shown, _ = call_here(capsys, "errors", str(flawed.folder), "--review", str(review), "--overwrite")
    assert code == 0 and review.read_bytes() == before
    assert f"fixes={review}" in shown and "correct_label" in shown
    for name, message in (("no/review.csv", "does not exist"), ("review.xlsx", "is CSV"), (".", "is a folder")):
        code, _, errors = call_here(capsys, "errors", str(flawed.folder), "--review", str(tmp_path / name))
        assert code == 2 and message in errors and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["my review.csv", "it's $HOME;.csv"])
def test_the_command_that_takes_a_review_back_can_be_pasted(name: str, flawed: Run, work: Path, capsys: Any) -> None:
    code, shown, _ = call_here(capsys, "errors", str(flawed.folder), "--review", name)
    command = re.search(r"^then +(textune .*)$", shown, re.MULTILINE)
    assert code == 0 and command is not None and (work / name).is_file()
    assert shlex.split(command[1]) == ["textune", "train", "DATA", f"fixes={name}"]


def test_fixes_are_taken_back(flawed: Run, review: Path, backbone: Path, tmp_path: Path, capsys: Any) -> None:
    rows, flipped = read(review), {str(i + 1) for i in range(0, 600, 20)}
    wrong = [row for row in rows if row["row"] in flipped]
    for row in wrong[:-1]:
        row["correct_label"] = row["suggested_label"]
    wrong[-1]["correct_label"] = "-"
    filled = write(tmp_path / "filled.csv", rows)
    data = flawed.folder.parent / "reviews.csv"
    run = train_tiny(data, backbone, tmp_path / "fixed", test_fraction=0.4, fixes=str(filled))
    expected = {"name": "filled.csv", "changed": len(wrong) - 1, "removed": 1, "confirmed": 0}
    assert read_manifest(run.folder).fixes == expected
    sentence = f"{len(wrong) - 1} labels changed, 1 row removed by filled.csv"
    assert sentence in (run.folder / "README.md").read_text(encoding="utf-8")
    assert sentence in run.metrics["summary"]["labels fixed"]
    assert "fixes:" in (run.folder / "config.yaml").read_text(encoding="utf-8")
    plan = json.loads((run.folder / "plan.json").read_text())
    assert sum(part["rows"] for part in plan["data"].values()) == 599
    analysis = run.find_errors(review=tmp_path / "second.csv")
    corrected = {row["row"] for row in wrong}
    again = {str(row.row) for row in analysis.review if row.table == "data"}
    assert len(again & corrected) <= len(corrected) // 3, "what was fixed is not doubted again"
    assert not [note for note in analysis.notes if "not looked at" in note]
    assert read_manifest(flawed.folder).fixes == {}


def test_a_second_review_begins_with_the_fixes_of_the_first(
    flawed: Run, review: Path, tmp_path: Path, capsys: Any
) -> None:
    rows = read(review)
    rows[0]["correct_label"], rows[1]["correct_label"] = rows[0]["suggested_label"], "-"
    first, run = write(tmp_path / "first.csv", rows), tmp_path / "fixed"
    shutil.copytree(flawed.folder, run)
    write_settings(build_config(load_settings(run / SETTINGS) | {"fixes": str(first)}), run / SETTINGS)
    update_manifest(run, files=read_manifest(run, verify=False).files | {SETTINGS: hash_file(run / SETTINGS)})
    code, shown, _ = call_here(capsys, "errors", str(run), "--review", str(tmp_path / "second.csv"))
    second = read(tmp_path / "second.csv")
    filled = [(row["row"], row["key"], row["correct_label"]) for row in rows[:2]]
    assert code == 0 and [(row["row"], row["key"], row["correct_label"]) for row in second[:2]] == filled
    assert len(second) > 2 and not any(row["correct_label"] for row in second[2:])
    assert len({row["row"] for row in second}) == len(second), "a row that is doubted again comes once"
    assert "the review file begins with 2 rows of" in shown
    analysis = find_errors(run, str(flawed.folder.parent / "reviews.csv"), review=tmp_path / "named.csv")
    assert not any(row["correct_label"] for row in read(tmp_path / "named.csv"))
    assert "the review file lacks 2 rows of" in analysis.to_dict()["notes"][-1]
    first.unlink()
    code, shown, _ = call_here(capsys, "errors", str(run), "--review", str(tmp_path / "third.csv"))
    assert code == 0 and not any(row["correct_label"] for row in read(tmp_path / "third.csv"))
    words = " ".join(shown.split())
    assert words.index("which can no longer be read") < words.index("then textune train")


def test_several_labels_and_pairs_go_the_same_way(runs: dict[str, Run], backbone: Path, tmp_path: Path) -> None:
    for kind in ("pairs", "several"):
        path = tmp_path / f"{kind}.csv"
        analysis = runs[kind].find_errors(review=path)
        rows = read(path)
        assert rows and {row["table"] for row in rows} >= {"test"}
        assert ("text_pair" in rows[0]) == (kind == "pairs")
        planted = [
            r for r in analysis.review if r.table == "test" and (r.row - 1) % 2 and ((r.row - 1) * 7 // 3) % 5 == 2
        ]
        assert len(planted) > TEST_ROWS // 20, "the planted labels are doubted"
        for row in rows:
            row["correct_label"] = row["suggested_label"]
        rows[-1]["correct_label"] = "drop"
        data, test = (runs[kind].folder.parent / f"{kind}{end}.csv" for end in ("", "-test"))
        settings = KINDS[kind][1] | {"epochs": 1}
        run = train_tiny(data, backbone, tmp_path / kind, test=str(test), fixes=str(write(path, rows)), **settings)
        assert run.manifest.fixes["changed"] == len(rows) - 1 and run.manifest.fixes["removed"] == 1
        assert run.find_errors().rows == TEST_ROWS - (rows[-1]["table"] == "test")


def test_a_run_without_errors_says_so(finished: Run, capsys: Any, work: Path) -> None:
    texts = [row["text"] for row in make_single(20)]
    right = [{"text": text, "label": label} for text, label in zip(texts, finished.predict(texts), strict=True)]
    write(work / "right.csv", right)
    copy = work / "right"
    shutil.copytree(finished.folder, copy)
    code, shown, _ = call_here(capsys, "errors", str(copy), "right.csv")
    assert code == 0 and shown.startswith("0 of 20 rows are wrong (0.0%)") and len(shown.splitlines()) <= 2
    code, shown, errors = call_here(capsys, "errors", "nowhere")
    assert code == 5 and "no such run folder" in errors
    copy = work / "copy"
    shutil.copytree(finished.folder, copy)
    (copy / "evaluation" / "predictions.parquet").unlink()
    code, shown, errors = call_here(capsys, "errors", str(copy))
    assert code == 5 and "predictions.parquet" in errors and "textune errors RUN DATA" in errors


def test_found_analysis_is_plain_data(found: dict[str, ErrorAnalysis]) -> None:
    for analysis in found.values():
        assert json.loads(json.dumps(analysis.to_dict()))["rows"] == TEST_ROWS
        assert np.isfinite([s.adjusted_p for s in analysis.slices.slices]).all()


def test_a_fix_of_other_rows_is_refused_before_training(flawed: Run, review: Path, backbone: Path, work: Path) -> None:
    rows = read(review)
    rows[0] |= {"correct_label": "positive", "row": "7"}
    with pytest.raises(DataError, match=r"row 1: reviews.csv has another text there"):
        train_tiny(
            flawed.folder.parent / "reviews.csv", backbone, work / "x", fixes=str(write(work / "moved.csv", rows))
        )
    assert not (work / "x").exists()


def test_report_and_card_show_the_worst_slices(runs: dict[str, Run], found: dict[str, ErrorAnalysis]) -> None:
    for kind, run in runs.items():
        page = run.report.read_text(encoding="utf-8")
        card = (run.folder / "README.md").read_text(encoding="utf-8")
        assert "Where it errs most" in page and "flurb is &#39;mi&#39;" in page
        assert "## Where it errs most" in card and "flurb is 'mi'" in card
        assert run.metrics["slices"] == json.loads(json.dumps(found[kind].slices.to_dict()))


def test_no_groups_are_looked_for_in_too_few_rows(found: dict[str, ErrorAnalysis]) -> None:
    whole = found["single"]
    none = replace(whole, slices=SliceSearch(5, 1, (), {}, 10))
    text = "\n".join(describe(none))
    assert "slices: too few rows to look for groups with more errors" in text and "tested (none)" not in text
    assert text.startswith("1 of 5 rows is wrong (20.0%)")
    looked = "\n".join(describe(replace(whole, slices=SliceSearch(240, 5, (), {"column": 3}, 10))))
    assert "slices: none has more errors than chance explains" in looked and "3 conditions" in looked


def test_a_single_confusion_is_singular(found: dict[str, ErrorAnalysis]) -> None:
    whole = found["single"]
    assert whole.confused
    text = " ".join(describe(replace(whole, confused=[replace(whole.confused[0], a_as_b=1, b_as_a=0)])))
    assert re.search(r"given as '\w+' 1 time, the reverse 0", text)
