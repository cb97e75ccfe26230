"""Tables, facts and sentences: in the width of the terminal, nothing lost, and no data steers the terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import sys

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.cli.output import format_json, print_facts, print_sentences, print_table
from textune.cli.streams import Guarded, guard_terminal, say
from textune.cli.tables import find_width, layout_facts, layout_table, measure
from textune.progress import Notebook, Plain, Rich, show_controls

EVIL = "\x1b]0;EVIL\x07\x1b[2J\x9b31m\r\x08\x00\u202e"
LONG = "a-name-that-somebody-chose-without-thinking-of-terminals-" * 3
TABLES = {
    "short": (("name", "score"), [("one", "90.5%"), ("two", "8.1%")], (1,)),
    "texts": (("setting", "default", "meaning"), [("learning_rate", "automatic", "what each step takes " * 12)], ()),
    "long name": (("name", "score", "when"), [(LONG, "90.5%", "today"), ("b", "7%", "")], (1,)),
    "figures": (
        ("", "seeds", "accuracy", "95% interval", "macro F1", "95% interval", "training time", "total time",
         "peak memory", "trainable parameters", "disk"),
        [("lora", "3", "90.5% ± 0.4", "88.0 to 92.1", "90.1%", "88.0 to 92.1", "2 min 05 s *", "3 min 00 s", "900 MB",
          "1.2M †", "2.4 MB")],
        range(1, 11),
    ),
    "wide letters": (("文", "text"), [("映画はとても良かった" * 12, "一" * 50)], ()),
    "no rows": (("name", "score"), [], (1,)),
}  # fmt: skip


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_fits_and_loses_nothing(kind: str, width: int) -> None:
    header, rows, right = TABLES[kind]
    lines = layout_table(header, rows, right, width)
    assert max(map(measure, lines)) <= width
    shown = "".join(lines)
    for word in (word for row in rows for cell in row for word in cell.split()):
        pieces = [word[i : i + 5] for i in range(0, len(word) - 5, 5)] if measure(word) > 10 else [word]
        assert sum(piece in shown for piece in pieces) >= 0.5 * len(pieces), word  # a break may divide some of them


@pytest.mark.parametrize("kind", TABLES)
def test_without_a_width_each_row_is_one_line(kind: str) -> None:
    header, rows, right = TABLES[kind]
    assert len(layout_table(header, rows, right, None)) == 1 + len(rows)


def test_long_cells_wrap_between_words_and_figures_do_not() -> None:
    header, rows, right = TABLES["texts"]
    lines = layout_table(header, rows, right, 80)
    assert lines[1].startswith("learning_rate  automatic  what each step takes")
    assert all(line.startswith(" " * 26) for line in lines[2:])
    figures = layout_table(*TABLES["figures"], 120)
    assert any("88.0 to 92.1" in line and "2 min 05 s *" in line for line in figures)


def test_a_row_that_does_not_fit_is_a_block() -> None:
    lines = layout_table(*TABLES["figures"], 40)
    assert lines[0] == "lora" and "  seeds          3" in lines
    header, rows, right = TABLES["long name"]
    named = layout_table(header, rows, right, 80)
    assert named[0].startswith("a-name") and "  score  90.5%" in named and "  when   today" in named


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=4), st.integers(20, 130))
def test_any_text_fits_any_width_and_holds_no_control_character(rows: list[tuple[str, str]], width: int) -> None:
    lines = layout_table(("name", "value"), rows, (), width)
    assert all(measure(line) <= width for line in lines)
    assert all(line == show_controls(line) and "\n" not in line for line in lines)


def test_a_command_is_never_wrapped_and_other_values_hang() -> None:
    facts = [("about", "words " * 30), ("next", "textune predict " + "x " * 60)]
    lines = layout_facts(facts, ("next",), 60)
    assert lines[-1].startswith("next   textune predict x") and len(lines[-1]) > 60
    assert all(measure(line) <= 60 for line in lines[:-1]) and all(line.startswith(" " * 7) for line in lines[1:-1])


def test_columns_decide_over_the_terminal_and_a_pipe_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert find_width() is None
    monkeypatch.setenv("COLUMNS", "97")
    assert find_width() == 97
    monkeypatch.setenv("COLUMNS", "wide")
    assert find_width() is None


@pytest.mark.parametrize("text", ["", "plain", "tab\tand\nline", "é文😀", "שלום עולם", "a\u200db"])
def test_text_without_controls_stays(text: str) -> None:
    assert show_controls(text) == text


def test_every_control_character_is_shown() -> None:
    shown = show_controls("".join(map(chr, range(0x2100))))
    left = [c for c in shown if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E]
    assert not left and "\\x1b" in shown and "\\x9b" in shown and "\\u202e" in shown


PRINTED = {
    "table": lambda: print_table((EVIL, "text"), [(EVIL, f"{EVIL} {LONG}")]),
    "facts": lambda: print_facts([(EVIL, EVIL), ("next", f"textune predict {EVIL}")]),
    "sentences": lambda: print_sentences([f"{EVIL} " * 20]),
    "echo": lambda: typer.echo(EVIL),
    "json": lambda: typer.echo(format_json({EVIL: [EVIL]})),
    "error": lambda: say(EVIL),
    "usage error": lambda: typer.echo(EVIL, err=True),
    "note": lambda: Rich().say(EVIL),
    "warning": lambda: Rich().warn(EVIL),
    "plain note": lambda: Plain().warn(EVIL),
    "notebook": lambda: Notebook().say(EVIL),
    "bar": lambda: advance(Rich()),
}
"""Every way in which a command prints."""


def advance(progress: Rich) -> None:
    with progress.task(EVIL, 2) as task:
        task.advance(2)


def read_terminal(kind: str) -> str:
    """Return what is written to a terminal that a forked process has."""
    shown = bytearray()
    pid, descriptor = pty.fork()
    if pid == 0:
        try:
            os.environ |= {"COLUMNS": "80", "TERM": "xterm"}
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
            guard_terminal()
            PRINTED[kind]()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(0)
    with contextlib.suppress(OSError):
        while data := os.read(descriptor, 65536):
            shown.extend(data)
    os.waitpid(pid, 0)
    return shown.decode("utf-8", "replace")


@pytest.mark.parametrize("kind", PRINTED)
def test_no_escape_of_the_data_reaches_a_terminal(kind: str) -> None:
    shown = read_terminal(kind)
    assert "EVIL" in shown
    for sequence in ("\x1b]0;", "\x1b[2J", "\x9b", "\x07", "\x08", "\u202e"):
        assert sequence not in shown, (kind, shown)


def test_a_guarded_stream_is_the_stream_below_but_for_control_characters() -> None:
    below = io.StringIO()
    stream = Guarded(below, "\r")
    assert stream.write("a\x1bb\rc") == 5
    stream.writelines(["d\x07", "\n"])
    assert below.getvalue() == "a\\x1bb\rcd\\x07\n" and stream.getvalue() == below.getvalue()
    assert stream.unguarded is below and not stream.isatty()


def test_json_stays_json_on_a_terminal() -> None:
    text = format_json({"text": EVIL})
    assert json.loads(text) == {"text": EVIL} and text == show_controls(text)
