"""Two sections of docs/performance.md, each beside the bound that was set: mean pooling, and time to accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from methods_page import read_lines, table

RESULTS = Path(__file__).parents[1] / "results"


def describe_pooling() -> Iterator[str]:
    """Yield what the mean costs beside the first token, with the last layer whole and without."""
    lines = [line for line in read_lines(RESULTS / "pooling_speed.jsonl") if line["figure"] == "time of mean pooling"]
    if not lines:
        return
    any_line = lines[-1]
    yield "## What mean pooling costs\n"
    yield (
        "The mean needs the last layer for every token, the first token does not. The lean engine on "
        f"{any_line['rows']} reviews, each side a process of its own, in turns; medians of {any_line['repetitions']} "
        f"repetitions on {any_line['threads']} cores ({any_line['precision']}, {any_line['machine']}).\n"
    )
    rows = [
        (line["kind"], line["side"], f"{line['value']:.2f} ({line['lowest']:.2f} to {line['highest']:.2f})",
         f"at most {line['bound']:.2f}: {'met' if line['met'] else 'missed'}")
        for line in lines
    ]  # fmt: skip
    yield table(("work", "beside", "time with the mean over time of this side (range)", "bound"), rows)
    yield "Rebuild: `python benchmarks/pooling_speed.py --data FOLDER --output results/pooling_speed.jsonl`\n"
