"""The generated part of docs/results.md, between two markers; the rest of that page is written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from methods_page import read_lines, table

RESULTS = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).with_name("results.md")
BEGIN, END = "<!-- the demo: written by make docs -->\n", "<!-- the demo: end -->\n"


def build_results_page() -> str:
    """Return the whole page with its generated part written anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise SystemExit(f"{PAGE.name}: the markers of its generated part are missing")
    return before + BEGIN + "\n".join(describe_demo()) + END + after


def describe_demo() -> Iterator[str]:
    """Yield the table of the demo at an older commit and now, from the newest comparison."""
    lines = [
        line for line in read_lines(RESULTS / "demo_before_after.jsonl") if line["figure"] == "demo before and after"
    ]
    if not lines:
        return
    line = lines[-1]
    sides = [line["before"], line["after"]]
    rows = [
        ("accuracy, %", *(f"{100 * side['accuracy']:.1f}" for side in sides)),
        ("calibration error in 15 bins, points", *(f"{100 * side['calibration_error']:.1f}" for side in sides)),
    ]
    rows += [
        (f'probability of "positive": {text}', *(f"{side['probability_of_positive'][text]:.1%}" for side in sides))
        for text in line["before"]["probability_of_positive"]
    ]
    rows.append(("whole command, seconds", *(f"{side['seconds']:.0f}" for side in sides)))
    commits = line["commits"]
    yield "\n## The demo before and after\n"
    yield (
        f"`textune demo` with the defaults of an older commit and of a newer one, {line['test_rows']:,} test rows, "
        f"medians of {line['repetitions']}\nrepetitions in turns, with an empty cache, on {line['threads']} cores "
        f"({line['machine']}). The bound is that it takes no longer than before: "
        f"{'met' if line['met'] else 'missed'}\n({line['value']:.2f} times the time).\n"
    )
    yield table(("", f"before ({commits['before']})", f"after ({commits['after']})"), rows)
    yield (
        "From [results/demo_before_after.jsonl](../results/demo_before_after.jsonl); rebuild:\n"
        "`python benchmarks/demo_before_after.py --checkout FOLDER --output results/demo_before_after.jsonl`\n\n"
    )
