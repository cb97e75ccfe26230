"""A click on a wrong label is a row of a review file, and that file is what `train fixes=` takes."""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path

import pytest

from textune.app.marks import Evaluated, WrongRow, mark_row, place_review, plan_training, read_evaluated, read_marks
from textune.bundle import SETTINGS
from textune.cli.output import gather_settings
from textune.config import build_config, load_settings, write_settings
from textune.data.fixes import read_fixes
from textune.errors import BundleError, DataError
from textune.run import Run
from textune.run.places import FRAME
from textune.run.tables import prepare_data
from tiny import train_tiny, write_reviews

ROW = WrongRow("data", 7, "bad", "good", 0.93, "a fine film")


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Run:
    """A run whose test rows have a few wrong labels, which it does not believe."""
    place = tmp_path_factory.mktemp("poor")
    data = write_reviews(place / "reviews.csv", rows=60)
    lines = data.read_text().splitlines()
    for at in range(5, 60, 6):
        words = {"positive": "negative", "negative": "positive"}
        text, label, number = lines[at].split(",")
        lines[at] = f"{text},{words[label]},{number}"
    data.write_text("\n".join(lines) + "\n")
    return train_tiny(data, backbone, place / "poor", epochs=1, test_fraction=0.4)


def test_marks_are_written_read_changed_and_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "it-review.csv"
    assert read_marks(path) == {}
    mark_row(path, ROW, "good")
    other = WrongRow("test", 7, "a", "=1+1", 0.5, '=HYPERLINK("x")\nline', "second")
    mark_row(path, other, "=1+1")
    assert read_marks(path) == {ROW.key: "good", other.key: "'=1+1"}
    assert [(f.table, f.row, f.label) for f in read_fixes(path).rows] == [("data", 7, "good"), ("test", 7, "'=1+1")]
    assert '"=HYPERLINK' not in path.read_text() and ",=" not in path.read_text()
    mark_row(path, ROW, "-")
    assert read_marks(path)[ROW.key] == "-"
    mark_row(path, ROW, None)
    assert read_marks(path).keys() == {other.key}
    mark_row(path, other, None)
    assert read_marks(path) == {}
    mark_row(path, ROW, "good")
    assert read_marks(path) == {ROW.key: "good"}, "a file with a header alone is one without marks"


SAVED = {
    "as cp1252": ("cp1252", ","),
    "as UTF-16": ("utf-16", ","),
    "with semicolons": ("utf-8", ";"),
    "with tabs": ("utf-8-sig", "\t"),
}


@pytest.mark.parametrize("how", SAVED)
def test_a_review_file_is_read_as_a_spreadsheet_saved_it(how: str, tmp_path: Path) -> None:
    encoding, delimiter = SAVED[how]
    path, row = tmp_path / "it-review.csv", WrongRow("data", 7, "bad", "schön", 0.93, "ein schöner, feiner Film")
    mark_row(path, row, "schön")
    cells = list(csv.reader(path.read_text().splitlines()))
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([[c if c != "7" else "7.0" for c in line] for line in cells])
    assert read_marks(path) == {row.key: "schön"}
    assert [(fix.row, fix.key, fix.label) for fix in read_fixes(path).rows] == [(7, row.key[2], "schön")]
    mark_row(path, WrongRow("data", 8, "bad", "good", 0.5, "a fine film"), "good")
    assert len(read_marks(path)) == 2
    assert path.read_text(encoding="utf-8").startswith("table,row,")


def test_marks_of_other_texts_are_none_of_this_run(tmp_path: Path) -> None:
    path = tmp_path / "it-review.csv"
    earlier = WrongRow("data", 7, "bad", "good", 0.5, "another text in row 7")
    mark_row(path, earlier, "good")
    assert ROW.key not in read_marks(path)
    evaluated = Evaluated([ROW], frozenset({ROW.key, ("data", 8, "tx")}))
    assert evaluated.list_foreign(read_marks(path)) == [earlier.key]
    assert evaluated.list_foreign({ROW.key: "good", ("data", 9, "ty"): "of the training rows"}) == []
    before = path.read_bytes()
    with pytest.raises(DataError, match="marks row 7 of data= with another text"):
        mark_row(path, ROW, "good")
    assert path.read_bytes() == before
    mark_row(path, earlier, None)
    mark_row(path, ROW, "good")
    assert read_marks(path) == {ROW.key: "good"}


def test_what_else_a_review_file_holds_stays(tmp_path: Path) -> None:
    path = tmp_path / "it-review.csv"
    path.write_text("table,row,label,correct_label,why,mine,text,key\ndata,3,bad,,because,keep me,x,tk\n")
    mark_row(path, ROW, "good")
    mark_row(path, ROW, None)
    rows = list(csv.DictReader(path.open()))
    assert [(row["row"], row["mine"], row["correct_label"]) for row in rows] == [("3", "keep me", "")]


def test_other_files_and_links_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "it-review.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is not a review file"):
        mark_row(path, ROW, "good")
    assert path.read_text() == "a,b\n1,2\n"
    path.unlink()
    path.symlink_to(tmp_path / "other.csv")
    with pytest.raises(BundleError, match="symbolic link"):
        mark_row(path, ROW, "good")
    assert not (tmp_path / "other.csv").exists()


def test_marked_labels_reach_the_next_training(poor: Run, work: Path) -> None:
    folder = work / "runs" / "poor"
    shutil.copytree(poor.folder, folder)
    evaluated = read_evaluated(folder)
    wrong = evaluated.wrong
    assert len(wrong) >= 2 and [row.probability for row in wrong] == sorted(
        (r.probability for r in wrong), reverse=True
    )
    assert all(row.label != row.predicted and row.table == "data" for row in wrong)
    review = place_review(folder)
    mark_row(review, wrong[0], wrong[0].predicted)
    mark_row(review, wrong[1], "-")
    assert review.parent == folder.parent, "a finished run is never changed"
    assert evaluated.list_foreign(read_marks(review)) == []
    plan = plan_training(folder, review)
    assert not plan.missing
    textune, train, settings, *words = shlex.split(plan.command)
    config = build_config(gather_settings(words, settings))
    fixed = prepare_data(config).fixed
    assert (textune, train) == ("textune", "train") and config.name == "poor-fixed"
    assert fixed is not None and (fixed.changed, fixed.removed) == (1, 1)


def test_a_second_round_begins_with_the_first(poor: Run, work: Path) -> None:
    folder = work / "runs" / "poor-fixed"
    shutil.copytree(poor.folder, folder)
    wrong = read_evaluated(folder).wrong
    first, second = work / "runs" / "poor-review.csv", place_review(folder)
    mark_row(first, wrong[0], wrong[0].predicted)
    mark_row(first, wrong[1], "-")
    write_settings(build_config(load_settings(folder / SETTINGS) | {"fixes": str(first)}), folder / SETTINGS)
    mark_row(second, wrong[2], wrong[2].predicted, folder)
    assert read_marks(second) == read_marks(first) | {wrong[2].key: wrong[2].predicted}
    mark_row(second, wrong[0], "-", folder)
    assert read_marks(second)[wrong[0].key] == "-", "a new mark wins"
    mark_row(second, wrong[0], None, folder)
    assert read_marks(second)[wrong[0].key] == wrong[0].predicted, "the mark that it replaced is back"
    plan = plan_training(folder, second)
    _, _, settings, *words = shlex.split(plan.command)
    fixed = prepare_data(build_config(gather_settings(words, settings))).fixed
    assert fixed is not None and (fixed.changed, fixed.removed) == (2, 1) and plan.warning is None
    mark_row(second, wrong[0], None, folder)
    assert read_marks(second).keys() == {wrong[1].key, wrong[2].key}
    first.unlink()
    second.unlink()
    mark_row(second, wrong[2], wrong[2].predicted, folder)
    assert read_marks(second) == {wrong[2].key: wrong[2].predicted}
    warning = plan_training(folder, second).warning
    assert warning is not None and f"fixes={first}, which can no longer be read" in warning


def test_a_table_that_is_gone_is_asked_for(poor: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, data = work / "runs" / "poor", poor.folder.parent / "reviews.csv"
    shutil.copytree(poor.folder, folder)
    away = data.rename(data.with_name("away.csv"))
    try:
        plan = plan_training(folder, place_review(folder))
    finally:
        away.rename(data)
    assert plan.missing == {"data": str(data)}
    assert "data=PATH" in shlex.split(plan.command)


def test_a_data_frame_is_asked_for_as_a_table(poor: Run, work: Path) -> None:
    folder = work / "runs" / "poor"
    shutil.copytree(poor.folder, folder)
    settings = folder / SETTINGS
    named = str(build_config(load_settings(settings)).data.data)
    assert named in settings.read_text()
    settings.write_text(settings.read_text().replace(named, FRAME))
    plan = plan_training(folder, place_review(folder))
    assert plan.missing == {"data": FRAME}
    assert "data=PATH" in shlex.split(plan.command)
