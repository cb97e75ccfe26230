"""Sections of docs/performance.md, each beside the bound that was set: mean pooling, the probe, time to accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from methods_page import read_lines, table

RESULTS = Path(__file__).parents[1] / "results"
FIGURE_OF_PROBE = "seconds to solve the probe"


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


def describe_probe() -> Iterator[str]:
    """Yield how long the probe takes to solve on many rows of many classes."""
    lines = [line for line in read_lines(RESULTS / "probe_speed.jsonl") if line["figure"] == FIGURE_OF_PROBE]
    for line in lines[-1:]:
        yield "## What the probe costs\n"
        yield (
            f"Solving the head on {line['rows']:,} rows of {line['classes']} classes, beyond the frozen features "
            f"(another {line['features_seconds']:.0f} s): textune, which chooses its C by 3-fold cross-validation, "
            f"takes {line['value']:.1f} s; scikit-learn's LogisticRegressionCV over three C "
            f"{line['sklearn_seconds']:.1f} s. "
            f"Medians of {line['repetitions']} repetitions in turns on {line['threads']} cores ({line['machine']}). "
            f"Bound: {line['bound']:.0f} s, {'met' if line['met'] else 'missed'}.\n"
        )
        yield "Rebuild: `python benchmarks/probe_speed.py --data FOLDER --output results/probe_speed.jsonl`\n"


def describe_time_to_accuracy() -> Iterator[str]:
    """Yield how soon the accuracy of the tutorial's run is reached."""
    lines = [line for line in read_lines(RESULTS / "time_to_accuracy.jsonl") if line["figure"] == "time to accuracy"]
    if not lines:
        return
    yield "## Time to accuracy\n"
    for line in lines:
        first = line["first_at"]
        best = f"{line['best_accuracy_of_textune']:.1%} at most: not reached"
        reached = best if first is None else f"{first['accuracy']:.1%} after {first['epoch']:.2f} epochs"
        seconds = "" if line["seconds_of_textune"] is None else f"{line['seconds_of_textune']:,.0f}"
        tests = line["test_accuracies"]
        yield (
            f"Seconds from the start of the process to the accuracy that the tutorial's run (Trainer and peft, fp32) "
            f"ends with on {line['judge_rows']} held-out training rows: {line['rows']:,} reviews, {line['epochs']} "
            f"epochs, {line['threads']} cores ({line['machine']}, allocator: {line['allocator']}). The tutorial's "
            f"seconds are scaled: {line['scaled']}. Its accuracy is of one whole run with less padding. textune's "
            "seconds hold all its evaluations up to then.\n"
        )
        there = "reached" if line["embeddings_reach_it"] else "not reached"
        rows = [
            ("tutorial", f"{line['seconds_of_n']:,.0f} (scaled)", f"{line['accuracy']:.1%}",
             f"{tests['accuracy']:.1%}"),
            ("textune", seconds, reached, f"{tests['ours']:.1%}"),
            ("embeddings and logistic regression", f"{line['seconds_of_embeddings']:,.0f}",
             f"{line['accuracy_of_embeddings']:.1%}: {there}", f"{tests['embeddings']:.1%}"),
        ]  # fmt: skip
        yield table(("side", "seconds", "held-out accuracy", "accuracy at the end, test rows"), rows)
        error = (line["accuracy"] * (1 - line["accuracy"]) / line["judge_rows"]) ** 0.5
        missing = (
            f"textune does not get there; one standard error of {line['judge_rows']} rows is {100 * error:.1f} points"
        )
        value = missing if line["value"] is None else f"{line['value']:.1f} times sooner"
        yield f"Goal: {line['goal']} times sooner than the tutorial: {'met' if line['met'] else 'missed'} ({value}).\n"
    yield "Rebuild: `python benchmarks/time_to_accuracy.py --data FOLDER --output results/time_to_accuracy.jsonl`\n"
