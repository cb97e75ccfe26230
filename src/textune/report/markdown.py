"""Markdown that shows any text literally: escaped lines, tables and code blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence


def escape_markdown(text: str) -> str:
    """Return one line that Markdown and HTML show literally: no markup, links, formulas or table cell breaks."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]#!|~$])", r"\\\1", line)
    line = re.sub(r"(?i)(:(?=//)|@|\bwww(?=\.))", _stop_link, line)
    line = re.sub(r"^([-+=])", r"\\\1", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)  # would start a list


def _stop_link(match: re.Match[str]) -> str:
    """Keep GitHub from turning addresses into links: ``https://``, ``a@b`` and ``www.``."""
    return match.group() + "&#8203;" if match.group().isalpha() else "\\" + match.group()


def fence(code: str, language: str) -> str:
    """Return a code block whose fence is longer than any run of backticks in the code."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def build_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells are escaped, the header is not."""
    lines = [header, ["---"] * len(header), *([escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
