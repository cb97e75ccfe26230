"""Texts that Markdown would read as anything else come out as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.app.plain import escape, shorten

MARKS = "<>*_[]()#`~!|:$&@-+=\\\"'/.0123456789\n aw"
HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](http://x.example)", "**bold**", "_it_", "`code`",
    "# title", "- item", "1. item", "> quote",
    "| a | b |\n| - | - |\n| 1 | 2 |", "![x](http://x.example/x.png)", "~~no~~",
    ":red[x] :material/home: :smile:", "$x^2$", "&lt;b&gt; &copy;", "---", "http://x.example", "www.x.example",
    "me@x.example", "mailto:me@x.example", "a\\b", "<http://x.example>", "[x]: http://x.example", "    indented",
)  # fmt: skip


def read(text: str) -> tuple[set[str], str]:
    """Return the kinds of what a Markdown reader makes of a text, and the text that is seen."""
    parser = (
        pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    )
    kinds, seen = set(), []
    for block in parser.parse(text):
        if block.type not in ("paragraph_open", "paragraph_close", "inline"):
            kinds.add(block.type)
        seen.append("\n")
        for token in block.children or ():
            if token.type in ("hardbreak", "softbreak"):
                seen.append("\n")
            elif token.type in ("text", "text_special"):
                seen.append(token.content)
            else:
                kinds.add(token.type)
    return kinds, "".join(seen)


def squeeze(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.replace("\u2060", "").split("\n") if line.strip()]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(text: str) -> None:
    kinds, seen = read(escape(text))
    assert not kinds and squeeze(seen) == squeeze(text)


@given(st.text(MARKS, max_size=40))
def test_any_text_is_only_text(text: str) -> None:
    kinds, seen = read(escape(text))
    assert not kinds and squeeze(seen) == squeeze(text)


@given(st.text(max_size=30))
def test_characters_of_any_script_are_only_text(text: str) -> None:
    assert not read(escape(text))[0]


def test_addresses_are_no_links() -> None:
    for text in ("http://x.example", "WWW.x.example", "me@x.example"):
        assert text not in escape(text).replace("\\", "")  # what joins words stands inside


def test_shortened_text_is_one_line() -> None:
    assert (
        shorten("a\nb\tc") == "a b c" and shorten("x" * 100, 10) == "x" * 9 + "…" and "\x1b" not in shorten("\x1b[2J")
    )
