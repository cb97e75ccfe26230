"""Two versions of a text: how long their comparison takes, and that nobody waits for it."""

from __future__ import annotations

import itertools
import random
import shutil
import time
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from textune.app import counterfactual
from textune.app.answers import MOST_CHARACTERS
from textune.app.counterfactual import Edit, apply_edits, list_edits
from textune.app.loading import open_run
from textune.run import Run

WORDS = [f"w{at}" for at in range(MOST_CHARACTERS // 6)]
SHUFFLED = random.Random(0).sample(WORDS, len(WORDS))
LONG = {
    "repeated": ("a b " * 5_000, "a c " * 5_000),
    "marks": (".," * 10_000, ",;" * 10_000),
    "shuffled": (" ".join(WORDS), " ".join(SHUFFLED)),
    "reversed": (" ".join(WORDS), " ".join(WORDS[::-1])),
    "stretches": tuple("".join(f"x{at} " + f"a {word} " * 24 for at in range(190)) for word in "bc"),
    "one alone": ("a b " * 5_000, "x" + "a b " * 4_999 + "y"),
}


@pytest.mark.parametrize("shape", LONG)
def test_the_longest_texts_are_compared_in_seconds(shape: str) -> None:
    before, after = LONG[shape]
    assert max(len(before), len(after)) <= MOST_CHARACTERS
    started = time.process_time()
    edits = list_edits(before, after)
    assert time.process_time() - started < 15, "it was hours"
    assert len(edits) <= counterfactual.MOST_EDITS and apply_edits(before, edits) == after


def test_changes_of_a_long_text_are_found_one_by_one() -> None:
    words = [f"w{at // 2}" if at % 3 else f"only{at}" for at in range(600)]
    changed = [f"new{at}" if at in (7, 250, 251, 590) else word for at, word in enumerate(words)]
    edits = list_edits(" ".join(words), " ".join(changed))
    assert [edit.new for edit in edits] == ["new7", "new250 new251", "new590"]


@pytest.mark.parametrize("most", [1, 2, 5, 9, 30])
def test_the_nearest_edits_are_joined(most: int) -> None:
    gaps = [3, 1, 4, 1, 5, 9, 2, 6, 1, 5, 3]
    before = " ".join("old" + " same" * gap for gap in gaps)
    after = before.replace("old", "new")
    wanted = [(edit.start, edit.end) for edit in list_edits(before, after, most=99)]
    assert len(wanted) == len(gaps)
    while len(wanted) > most:  # one after the other, as a person would
        at = min(range(len(wanted) - 1), key=lambda at: wanted[at + 1][0] - wanted[at][1])
        wanted[at : at + 2] = [(wanted[at][0], wanted[at + 1][1])]
    found = list_edits(before, after, most)
    assert [(edit.start, edit.end) for edit in found] == wanted
    assert all(first.end < second.start for first, second in itertools.pairwise(found))


def draw_page() -> None:
    from textune.app.pages.try_text import draw
    from textune.app.session import guard_page

    with guard_page():
        draw()


def test_the_model_is_free_while_versions_are_compared(
    finished: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.folder, work / "runs" / "first")
    loaded, held, compare = open_run(Path("runs/first")), [], list_edits

    def watch(before: str, after: str) -> list[Edit]:
        held.append(loaded.lock.locked())
        return compare(before, after)

    monkeypatch.setattr(counterfactual, "list_edits", watch)
    app = AppTest.from_function(draw_page, default_timeout=60).run()
    app.segmented_control(key="try form").set_value("Two versions").run()
    app.text_area(key="try before").set_value("a good film")
    app.text_area(key="try after").set_value("a bad film").run()
    assert not app.exception and not app.error and held == [False]
