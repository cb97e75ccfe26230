"""Shell completion, from a real shell where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from textune.cli.completion import complete_interrupted, complete_method, complete_run, complete_setting

ASKED = {
    "tr": ["train"],
    "train --learni": ["--learning-rate"],
    "train d.csv learni": ["learning_rate="],
    "train d.csv --epochs 3 --seed 1 --head-l": ["--head-learning-rate"],
    "train d.csv --epochs ": [],
    "plan d.csv learn": ["learn_names=", "learning_rate="],
    "predict ": ["runs/demo", "runs/search/winner"],
    "predict runs/d": ["runs/demo"],
    "predict de": ["demo"],
    "predict --prob": ["--probabilities"],
    "evaluate runs/de": ["runs/demo"],
    "export ./runs/d": ["./runs/demo"],
    "resume ": ["runs/half"],
    "methods lo": ["lora"],
    "trane": [],
}
"""What is typed after textune -> what the shell offers; where that is nothing, it offers files."""


@pytest.fixture
def place(work: Path) -> Path:
    """A folder with a finished run, an interrupted one, a sweep and another folder, all under runs/; and textune."""
    for name in ("demo/textune.json", "half/plan.json", "search/sweep.yaml", "search/sweep.json", "other/notes.txt"):
        path = work / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", encoding="utf-8")
    (work / "runs" / "search" / "winner").mkdir()
    (work / "runs" / "search" / "winner" / "textune.json").write_text("{}", encoding="utf-8")
    (work / "d.csv").write_text("text,label\n", encoding="utf-8")
    command = work / "bin" / "textune"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m textune "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return work


_ASK = """
source script.sh
while IFS= read -r line; do
  read -ra COMP_WORDS <<< "textune $line"
  [[ $line == *' ' ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  $(complete -p textune | sed 's/.*-F \\([^ ]*\\).*/\\1/') textune
  echo "${COMPREPLY[*]}"
done
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_is_offered(place: Path) -> None:
    environment = os.environ | {"PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def call(*words: str, typed: str = "") -> str:
        done = subprocess.run(
            words, cwd=place, env=environment, input=typed, capture_output=True, text=True, check=True, timeout=300
        )
        assert not done.stderr, "nothing is printed while a person types"
        return done.stdout

    (place / "script.sh").write_text(call("textune", "--show-completion", "bash"), encoding="utf-8")
    answers = call("bash", "-c", _ASK, typed="".join(f"{line}\n" for line in ASKED)).splitlines()
    assert dict(zip(ASKED, (answer.split() for answer in answers), strict=True)) == ASKED


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed(shell: str, place: Path) -> None:
    environment = os.environ | {"HOME": str(place), "XDG_CONFIG_HOME": str(place / ".config")}
    done = subprocess.run(
        [place / "bin" / "textune", "--install-completion", shell],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and f"{shell} completion installed in" in done.stdout, done.stderr
    written = [path for path in place.rglob("*") if path.is_file() and "_TEXTUNE_COMPLETE" in path.read_text("utf-8")]
    assert written


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_the_same(shell: str, place: Path) -> None:
    variables = {"_TEXTUNE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "textune predict runs/d"}
    more = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    done = subprocess.run(
        [place / "bin" / "textune"], cwd=place, env=os.environ | variables | more, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "runs/demo" in done.stdout and "other" not in done.stdout and not done.stderr


def test_words_are_completed(place: Path) -> None:
    assert complete_run("") == ["runs/demo", "runs/search/winner"] and complete_run("oth") == []
    assert complete_run("runs/search/") == ["runs/search/winner"]
    assert complete_interrupted("r") == ["runs/half"] and complete_interrupted("runs/d") == []
    assert [name for name, _ in complete_setting("learn")] == ["learn_names=", "learning_rate="]
    assert {name for name, _ in complete_method("l")} == {"lora", "ln_tuning"}
