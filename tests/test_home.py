"""Paths below the home folder of somebody: an unknown user's is a path like any other, and no fault."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import textune
from textune.backbones.trust import is_trusted, looks_like_path
from textune.errors import ConfigError
from textune.files import expand_home
from textune.run import Run
from textune.run.places import is_there
from textune.tokens.dialogues import _choose_template
from tiny import call_here

SOURCES = Path(textune.__file__).parent
ALLOWED = {"files.py": "defines expand_home", "cache.py": "falls back to a temporary folder where there is no home"}
UNKNOWN = "~nosuch-user-of-textune/x"


def find_calls(source: str) -> list[int]:
    """Return the lines that use `expanduser` in any spelling."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if "expanduser" in vars(node).values()]


def test_only_one_function_expands_home_folders() -> None:
    """Path.expanduser raises RuntimeError for an unknown user, and no caller thinks of it."""
    assert find_calls("Path(a).expanduser()") == find_calls("from os.path import expanduser") == [1]
    paths = [path for path in SOURCES.rglob("*.py") if path.relative_to(SOURCES).as_posix() not in ALLOWED]
    found = {str(path.relative_to(SOURCES)): lines for path in paths if (lines := find_calls(path.read_text("utf-8")))}
    assert len(paths) > 200 and found == {}, "use textune.files.expand_home"


def test_an_unknown_user_has_no_folder() -> None:
    with pytest.raises(RuntimeError):
        Path(UNKNOWN).expanduser()
    assert expand_home(UNKNOWN) == Path(UNKNOWN)
    assert looks_like_path(UNKNOWN) and not is_trusted(UNKNOWN, "minilm") and is_trusted(UNKNOWN, UNKNOWN)
    assert not any(is_there(name, f"{UNKNOWN}#part") for name in ("data", "backbone", "init", "chat_template"))
    with pytest.raises(ConfigError, match="no such file"):
        _choose_template(UNKNOWN)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["tokens", "hi", f"backbone={UNKNOWN}"], "no such folder"),
        (["predict", "RUN", "hi", f"backbone={UNKNOWN}"], UNKNOWN),
        (["train", "DATA", f"backbone={UNKNOWN}"], "no such folder"),
        (["train", UNKNOWN], "does not exist"),
        (["evaluate", "RUN", UNKNOWN], "does not exist"),
        (["train", "DATA", "backbone=minilm", f"trust={UNKNOWN}", f"runs_dir={UNKNOWN}", "epochs=-1"], "epochs"),
    ],
)
def test_commands_answer_with_the_path(
    words: list[str], problem: str, finished: Run, reviews: Path, work: Path, capsys: Any
) -> None:
    places = {"RUN": str(finished.folder), "DATA": str(reviews)}
    code, _, errors = call_here(capsys, *(places.get(word, word) for word in words))
    assert code in (2, 3, 4) and problem in errors and "bug" not in errors, errors
