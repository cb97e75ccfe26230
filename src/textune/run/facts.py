"""Facts about a run's data: rows, labels and their balance, lengths, duplicates, truncation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textune.config import TRUNCATE, LongText
from textune.data import Examples
from textune.evaluation.text import percent
from textune.printable import count
from textune.run.tables import PreparedData
from textune.tasks import build_task
from textune.tokens import Tokenized
from textune.tokens.dialogues import Dialogues, count_answered, count_spans

_LARGE_CUT_SHARE = 0.1
_SHOWN = 5


def describe_long_texts(tokens: Tokenized, long_text: LongText) -> str:
    """Return how many texts are longer than max_length, and how they are handled."""
    share = f"{percent(tokens.long_share)} of the texts are longer than max_length {tokens.max_length}"
    if long_text.form == "window":
        windows = f"{share} and read in up to {tokens.count_windows().max(initial=0):,} windows"
        return windows + (f"; {percent(tokens.cut_share)} are truncated" if tokens.cut_share else "")
    if long_text.form == "head_tail":
        return f"{share}: only their first and last tokens are read"
    return f"{share} and truncated"


def advise_on_cuts(tokens: Tokenized, long_text: LongText) -> str | None:
    """Return a warning if many texts are truncated: their share, and the settings that read more."""
    if tokens.cut_share <= _LARGE_CUT_SHARE or tokens.second_starts is not None:
        return None
    description = describe_long_texts(tokens, long_text)
    if tokens.learned is not None:
        return f"{description}. A larger max_length= reads more of their prompts"
    if long_text.form == "window":
        return f"{description}. A larger max_windows= reads more of them"
    if long_text.form == "head_tail":
        return f"{description}. long_text=window reads them in full, a larger max_length= reads more"
    return (
        f"{description}. long_text=window reads them in full, long_text=head_tail reads the start and end, "
        "a larger max_length= reads more"
    )


def list_answer_warnings(examples: Examples, tokens: Tokenized, dialogues: Dialogues) -> list[str]:
    """Return what is not learned of the answers, and why."""
    long = tokens.full_lengths > tokens.max_length
    found = [describe_ended(examples, dialogues), _describe_skipped(examples, tokens, ~long)]
    last = tokens.ids[tokens.offsets[1:] - 1]
    if dialogues.stops and (cut := int((long & ~np.isin(last, dialogues.stops)).sum())):
        which = "1 answer is" if cut == 1 else f"{cut:,} answers are"
        found.append(
            f"{examples.name}: {which} cut to fit max_length={tokens.max_length}, so the end is not learned. "
            "A larger max_length= reads more"
        )
    return [warning for warning in found if warning]


def _describe_skipped(examples: Examples, tokens: Tokenized, whole: NDArray[np.bool_]) -> str | None:
    """Return a warning if earlier answers of chats are not learned. whole: the rows of which nothing is cut."""
    learned = count_spans(tokens)
    earlier = [count_answered(prompt) for prompt in examples.texts()]
    skipped = int((whole & (learned <= earlier)).sum())
    if not skipped:
        return None
    return (
        f"{examples.name}: {skipped:,} chat{' has' if skipped == 1 else 's have'} answers that are not learned: the "
        "chat template writes an answer differently once others follow it"
    )


def describe_ended(examples: Examples, dialogues: Dialogues) -> str | None:
    """Return a warning if answers hold a token that ends them, and more text."""
    ended = dialogues.find_ended(examples.texts(), examples.labels() or [])
    if not ended:
        return None
    rows = ", ".join(map(str, examples.rows()[ended[:_SHOWN]])) + (", ..." if len(ended) > _SHOWN else "")
    which = f"1 answer (row {rows}) holds" if len(ended) == 1 else f"{len(ended):,} answers (rows {rows}) hold"
    return f"{examples.name}: {which} a token that ends a text, and what follows is not learned: take that token out"


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
        *([] if task.writes else [("labels", f"{len(data.labels.names):,}: {balance}{more}")]),
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
    conflicts = f"; {facts.conflicting_duplicates:,} have conflicting labels" if facts.conflicting_duplicates else ""
    repeated, verb = facts.exact_duplicates, "repeats" if facts.exact_duplicates == 1 else "repeat"
    lines.append(("duplicates", f"{count(repeated, 'row')} {verb} an earlier text{conflicts}"))
    return lines


def describe_facts(data: PreparedData) -> list[tuple[str, str]]:
    """Return the extra facts of `textune inspect`: empty cells, scripts, conflicting labels, overlap."""
    facts = data.facts
    empty = ", ".join(f"{column} {count:,}" for column, count in facts.empty_cells.items() if count)
    lines = [("empty cells", empty or "none"), ("script", facts.script)]
    for odd in facts.odd_scripts:
        rows = ", ".join(map(str, odd.rows))
        lines.append(("odd rows", f"{odd.count:,} in {odd.script} script (rows {rows})"))
    for conflict in facts.conflicts[:3]:
        rows = ", ".join(map(str, conflict.rows))
        labels = " and ".join(conflict.labels)
        lines.append(("contradiction", f'rows {rows} are labelled {labels}: "{conflict.excerpt}"'))
    if data.overlap is not None:
        lines.append(
            (
                "overlap",
                f"{data.overlap.exact:,} test rows also appear in the training set, "
                f"{data.overlap.near:,} are near duplicates",
            )
        )
    return lines
