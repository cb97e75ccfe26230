"""What a run says of its data: rows, labels and their balance, lengths, duplicates, cuts."""

from __future__ import annotations

import numpy as np

from textune.config import TRUNCATE, LongText
from textune.run.tables import PreparedData
from textune.tasks import build_task
from textune.tokens import Tokenized

_MUCH_IS_CUT = 0.1


def describe_long_texts(tokens: Tokenized, long_text: LongText) -> str:
    """Return how many texts are longer than max_length, and what becomes of them."""
    told = f"{tokens.long_share:.1%} of the texts are longer than max_length {tokens.max_length}"
    if long_text.form == "window":
        windows = f"{told}, and read in windows, {tokens.count_windows().max(initial=0):,} at most"
        return windows + (f"; of {tokens.cut_share:.1%} the end is cut" if tokens.cut_share else "")
    if long_text.form == "head_tail":
        return f"{told}, and only their first and last tokens are read"
    return f"{told}, and cut there"


def advise_on_cuts(tokens: Tokenized, long_text: LongText) -> str | None:
    """Return a warning where something is left out of many texts: the share, and the settings that read more."""
    if tokens.cut_share <= _MUCH_IS_CUT or tokens.second_starts is not None:
        return None
    told = describe_long_texts(tokens, long_text)
    if long_text.form == "window":
        return f"{told}: a larger max_windows= reads more of them"
    if long_text.form == "head_tail":
        return f"{told}: long_text=window reads all of them, a larger max_length= more"
    return f"{told}: long_text=window reads all of them, long_text=head_tail also their end, a larger max_length= more"


def describe_data(
    data: PreparedData, tokens: Tokenized | None = None, long_text: LongText = TRUNCATE
) -> list[tuple[str, str]]:
    """Return the facts that open a run: rows, labels and their balance, lengths, duplicates, empty cells."""
    facts, words, task = data.facts, data.facts.words, build_task(data.task)
    total = max(task.total_labels(facts), 1)
    names = dict(zip(data.labels.values, data.labels.names, strict=True))
    balance = ", ".join(
        f"{names.get(label, label)} {count:,} ({count / total:.1%})"
        for label, count in sorted(facts.label_counts.items(), key=lambda item: -item[1])[:8]
    )
    more = f" and {len(facts.label_counts) - 8} more" if len(facts.label_counts) > 8 else ""
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    lines = [
        ("rows", ", ".join(f"{len(e):,} {name}" for name, e in splits.items() if e is not None)),
        (
            "text",
            data.columns.joiner.join(data.columns.text)
            if len(data.columns.text) == 1
            else f"{' + '.join(data.columns.text)} joined by {data.columns.joiner!r}",
        ),
        ("labels", f"{len(data.labels.names)}: {balance}{more}"),
        (
            "words",
            f"mean {words['mean']:.0f}, median {words['median']:.0f}, 95% at most {words['p95']:.0f}, "
            f"longest {words['max']:,.0f}",
        ),
    ]
    lines += task.describe_rows(facts)
    if tokens is not None and len(tokens):
        full = tokens.full_lengths
        lines.append(
            (
                "tokens",
                f"mean {full.mean():.0f}, 95% at most {np.percentile(full, 95):.0f}, longest {full.max():,}; "
                f"{describe_long_texts(tokens, long_text)}",
            )
        )
    conflicts = (
        f"; {facts.conflicting_duplicates:,} stand with different labels" if facts.conflicting_duplicates else ""
    )
    lines.append(("duplicates", f"{facts.exact_duplicates:,} rows repeat an earlier text{conflicts}"))
    return lines


def describe_facts(data: PreparedData) -> list[tuple[str, str]]:
    """Return the further facts of `textune inspect`: empty cells, scripts, contradictions, overlap."""
    facts = data.facts
    empty = ", ".join(f"{column} {count:,}" for column, count in facts.empty_cells.items() if count)
    lines = [("empty cells", empty or "none"), ("script", facts.script)]
    for odd in facts.odd_scripts:
        rows = ", ".join(map(str, odd.rows))
        lines.append(("odd rows", f"{odd.count:,} in {odd.script} script (rows {rows})"))
    for conflict in facts.conflicts[:3]:
        rows = ", ".join(map(str, conflict.rows))
        lines.append(("contradiction", f'rows {rows} are {" and ".join(conflict.labels)}: "{conflict.excerpt}"'))
    if data.overlap is not None:
        lines.append(
            ("overlap", f"{data.overlap.exact:,} test rows stand in training too, {data.overlap.near:,} nearly")
        )
    return lines
