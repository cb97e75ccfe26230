"""A click on a wrong label is a row of a review file, and that file is what `train fixes=` takes."""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path

import pytest

from textune.app.marks import WrongRow, list_wrong_rows, mark_row, place_review, read_marks, show_training
from textune.cli.output import gather_settings
from textune.config import build_config
from textune.data.fixes import read_fixes
from textune.errors import BundleError
from textune.run import Run
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
    mark_row(path, WrongRow("test", 7, "a", "=1+1", 0.5, '=HYPERLINK("x")\nline', "second"), "=1+1")
    assert read_marks(path) == {("data", 7): "good", ("test", 7): "'=1+1"}
    assert [(f.table, f.row, f.label) for f in read_fixes(path).rows] == [("data", 7, "good"), ("test", 7, "'=1+1")]
    assert '"=HYPERLINK' not in path.read_text() and ",=" not in path.read_text()
    mark_row(path, ROW, "-")
    assert read_marks(path)["data", 7] == "-"
    mark_row(path, ROW, None)
    assert read_marks(path).keys() == {("test", 7)}


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
    with pytest.raises(BundleError, match="is not a review file"):
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
    wrong = list_wrong_rows(folder)
    assert len(wrong) >= 2 and [row.probability for row in wrong] == sorted(
        (r.probability for r in wrong), reverse=True
    )
    assert all(row.label != row.predicted and row.table == "data" for row in wrong)
    review = place_review(folder)
    mark_row(review, wrong[0], wrong[0].predicted)
    mark_row(review, wrong[1], "-")
    assert review.parent == folder.parent, "a finished run is never changed"
    textune, train, settings, *words = shlex.split(show_training(folder, review))
    config = build_config(gather_settings(words, settings))
    fixed = prepare_data(config).fixed
    assert (textune, train) == ("textune", "train") and config.name == "poor-fixed"
    assert fixed is not None and (fixed.changed, fixed.removed) == (1, 1)
