"""The slides: short decks, every picture drawn from recorded results, and a target that says what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECKS = sorted((ROOT / "slides").glob("*.md"))


def test_decks_are_short_and_their_pictures_are_drawn(tmp_path: Path) -> None:
    script = str(ROOT / "slides" / "pictures.py")
    for folder in ("first", "second"):
        subprocess.run([sys.executable, script, str(tmp_path / folder)], check=True)
    drawn = {p.name: p.read_bytes() for p in (tmp_path / "first").iterdir()}
    assert drawn == {p.name: p.read_bytes() for p in (tmp_path / "second").iterdir()}, (
        "the same results, the same bytes"
    )
    shown = set()
    for deck in DECKS:
        _, _, slides = deck.read_text(encoding="utf-8").split("---\n", 2)
        assert 8 <= len(re.split(r"^---$", slides, flags=re.M)) <= 12, deck.name
        shown |= set(re.findall(r"\(pictures/(\w+\.svg)\)", slides))
    assert [deck.name for deck in DECKS] == ["lora.md", "textune.md"] and shown == drawn.keys()


def test_what_the_slides_repeat_is_still_so() -> None:
    """Count, the demo's table and the recipes' figures are held to where they come from."""
    from textune.backbones.families import families
    from textune.methods import methods
    from textune.methods.support import build_matrix

    slides = (ROOT / "slides" / "textune.md").read_text(encoding="utf-8")
    cells = [cell.state for row in build_matrix().values() for cell in row.values()]
    works, refused = cells.count("works"), cells.count("refused")
    assert f"Of {len(cells)} cells **{works} work** and {refused} are refused" in slides
    assert (len(methods.names()), len(families.names())) == (12, 16), "Twelve methods, sixteen families"
    demo = re.search(r"^```text\n(on 1,000 test rows.*?)^```$", slides, re.M | re.S)
    assert demo is not None and demo[1] in (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [ROOT / "recipes" / name for name in ("README.md", "amazon-polarity-sweep/README.md")]
    told = "".join(page.read_text(encoding="utf-8") for page in pages).replace("**", "")
    figures = re.findall(r"\d+\.\d% \(\d+\.\d to \d+\.\d\)", slides)
    assert len(figures) == 6 and all(figure in told for figure in figures)


def test_what_the_slides_say_of_the_sweep_was_measured() -> None:
    lines = (ROOT / "results" / "sweep.jsonl").read_text(encoding="utf-8").splitlines()
    sides = {line["side"]: line for line in map(json.loads, lines) if line["figure"] == "amazon sweep"}
    slides = (ROOT / "slides" / "textune.md").read_text(encoding="utf-8")
    full, halved = (sides[side]["seconds_until_chosen"] / 60 for side in ("full", "halving"))
    assert f"bf16 | {sides['S']['wall_seconds'] / 60:.0f} (scaled)" in slides
    assert f"the full grid | {full:.0f} | {sides['full']['validation_accuracy']:.1%}" in slides
    assert f"with halving | {halved:.1f} | {sides['halving']['validation_accuracy']:.1%}" in slides


def make_slides(path: Path) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    assert make is not None
    return subprocess.run(
        [make, "slides", "STAMP=", "PYTHON=none", "CHROME_PATH="], cwd=ROOT, env=os.environ | {"PATH": str(path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_target_says_what_is_missing(tmp_path: Path) -> None:
    done = make_slides(tmp_path)
    assert done.returncode == 2 and "need Node.js" in done.stdout
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\n", encoding="utf-8")
    npm.chmod(0o755)
    done = make_slides(tmp_path)
    assert done.returncode == 2 and "needs Chromium" in done.stdout and "CHROME_PATH=PATH" in done.stdout
