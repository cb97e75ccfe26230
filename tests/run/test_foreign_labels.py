"""Tables whose labels a finished run does not know: refused where it knows none, told where it knows some."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import textune
from textune.errors import DataError, Note
from textune.run import Run
from textune.run.test_reads import TEST_READS
from tiny import call_here, make_rows, train_tiny

TEXTS = [f"{text} seen by nobody" for text, _ in make_rows(20)]


@pytest.fixture(scope="module")
def numbered(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on a CSV with the labels 0 and 1."""
    place = tmp_path_factory.mktemp("numbered")
    rows = "".join(f"{text},{int(label == 'positive')}\n" for text, label in make_rows(40))
    (place / "rows.csv").write_text(f"text,label\n{rows}")
    return train_tiny(place / "rows.csv", backbone, place / "run", epochs=1)


@pytest.mark.parametrize("written", [["1.0", "0.0"], [1.0, 0.0], ["pos", "neg"]])
def test_rows_without_a_known_label_are_refused(
    numbered: Run, tmp_path: Path, written: list[str | float], capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(numbered.folder, tmp_path / "run"))
    reads = (run / TEST_READS).read_bytes()
    frame = pd.DataFrame({"text": TEXTS, "label": written * 10})
    with pytest.raises(DataError, match="has none of the rows' labels: they are") as caught:
        textune.evaluate(run, frame)
    assert "the training labels are '0', '1'" in str(caught.value)
    assert "label column" in (caught.value.hint or "") and "labels=" not in (caught.value.hint or "")
    frame.to_csv(tmp_path / "other.csv", index=False)
    code, _, errors = call_here(capsys, "evaluate", str(run), str(tmp_path / "other.csv"))
    assert code == DataError.exit_code and "the training set has none of the rows' labels" in errors
    assert (run / TEST_READS).read_bytes() == reads, "nothing was read that counts"


def test_labels_that_look_like_known_ones_are_told(numbered: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(numbered.folder, tmp_path / "run"))
    frame = pd.DataFrame({"text": TEXTS, "label": ["1.0", *["0", "1"] * 9, "0"]})
    with pytest.warns(Note, match="'1.0'.*how a number is written"):
        found = textune.evaluate(run, frame)
    assert found.unknown_labels == {"1.0": 1}
