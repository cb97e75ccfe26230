"""The slides: short decks, every picture drawn from recorded results, and a target that says what is missing."""

from __future__ import annotations

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
