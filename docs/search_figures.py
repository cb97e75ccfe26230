"""Two sections of docs/performance.md: the Amazon sweep beside a sequential grid, forecasts beside what happened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from methods_page import read_lines, table

RESULTS = Path(__file__).parents[1] / "results"
_GOALS = {"full": 8, "halving": 20}
_NAMES = {"full": "textune, the full grid", "halving": "textune, with halving",
          "S": "the grid one by one, Trainer and peft in bf16, grouped by length",
          "S tuned": "the same under glibc's malloc tunables"}  # fmt: skip


def describe_sweep() -> Iterator[str]:
    """Yield how long the grid of nine settings takes, in full and with halving, and what halving costs."""
    lines = read_lines(RESULTS / "sweep.jsonl")
    sides = {line["side"]: line for line in lines if line["figure"] == "amazon sweep"}
    if not sides:
        return
    times = {(line["side"], line["other"]): f"{line['times']:.2f}" for line in lines if "other" in line}
    any_side = next(iter(sides.values()))
    yield "## A sweep of nine settings\n"
    yield (
        f"Three learning rates times three batch sizes, {any_side['epochs']} epochs, {any_side['rows']:,} Amazon "
        f"reviews to train on and\n{any_side['validation_rows']:,} others to choose on, read after every epoch. Times "
        "are from the start of the process until a setting is\nchosen; the winner's test comes after. The grid one by "
        "one was measured on a part of the rows and scaled by the\ntokens that its batches pad to. One repetition.\n"
    )
    rows = []
    for side, line in sides.items():
        seconds = line.get("seconds_until_chosen", line["wall_seconds"])
        epochs = f"{line['epochs_trained']:.1f} of {line['epochs_in_full']:.0f}" if "epochs_trained" in line else "all"
        beyond = (f"**{times[side, 'S']}**" if (side, "S") in times else "", times.get((side, "S tuned"), ""))
        rows.append((_NAMES[side], f"{seconds / 60:.1f}", epochs, *beyond,
                     _judge(side, times), *_describe_winner(line)))  # fmt: skip
    header = ("search", "minutes", "epochs trained", "times as fast as one by one", "and with the tunables", "goal",
              "chosen", "validation", "test, 1,000 rows (95% interval)")  # fmt: skip
    yield table(header, rows)
    for line in lines:
        if line["figure"] == "regret of halving":
            same = "the same setting" if line["same_winner"] else f"another setting ({_describe(line['chosen'])})"
            yield (
                f"Halving chose {same}; on the validation rows, in the full grid, it stands {line['points']:.2f} "
                f"points below the best,\nin {1 / line['times_as_fast']:.0%} of the time.\n"
            )
    yield _describe_grid(sides)
    yield "Rebuild: `python benchmarks/sweep_speed.py --data FOLDER --output results/sweep.jsonl`\n"
    yield from _describe_faults()


def _judge(side: str, times: dict[tuple[str, str], str]) -> str:
    """Return the goal and whether it was reached, without rounding in its favour."""
    if side not in _GOALS or (side, "S") not in times:
        return ""
    return f"{_GOALS[side]}: {'met' if float(times[side, 'S']) >= _GOALS[side] else 'missed'}"


def _describe_faults() -> Iterator[str]:
    told = {"killed": "killed with SIGKILL twice and resumed", "ray": "on a local Ray cluster with two workers"}
    for line in read_lines(RESULTS / "sweep_faults.jsonl"):
        found = "the same trials, figures, winner and weights as" if line["same"] else (
            f"other {' and '.join(line['differs'])} than")  # fmt: skip
        yield (
            f"A search of {line['trials']} settings over {line['rows']} reviews, {told[line['side']]}, has {found}\n"
            "the same search in one process that nothing happened to (`benchmarks/sweep_faults.py`).\n"
        )


def _describe(settings: dict[str, Any]) -> str:
    return f"rate {settings['learning_rate']:g}, batches of {settings['batch_size']}"


def _describe_winner(line: dict[str, Any]) -> tuple[str, str, str]:
    if "winner" not in line:
        return "", "", ""
    interval = line["test_interval"]
    return (_describe(line["winner"]), f"{line['validation_accuracy']:.1%}",
            f"{line['test_accuracy']:.1%} ({interval['low']:.1%} to {interval['high']:.1%})")  # fmt: skip


def _describe_grid(sides: dict[str, dict[str, Any]]) -> str:
    """Return the validation accuracy of every setting; with halving in brackets, with the epochs that it got."""
    if "full" not in sides:
        return ""
    halved = {str(trial["settings"]): trial for trial in sides.get("halving", {}).get("trials", ())}
    cells: dict[Any, dict[Any, str]] = {}
    for trial in sides["full"]["trials"]:
        own, other = trial["settings"], halved.get(str(trial["settings"]))
        text = f"{trial['scores']['accuracy']:.1%}"
        if other is not None:
            text += f" ({other['scores']['accuracy']:.1%} after {other['epochs']:.0f})"
        cells.setdefault(own["learning_rate"], {})[own["batch_size"]] = text
    sizes = sorted({size for row in cells.values() for size in row})
    rows = [(f"{rate:g}", *(row.get(size, "") for size in sizes)) for rate, row in sorted(cells.items())]
    told = "Validation accuracy of every setting; in brackets what halving saw of it, and after how many epochs:\n\n"
    return told + table(("learning rate", *(f"batches of {size}" for size in sizes)), rows)


def describe_plan() -> Iterator[str]:
    """Yield what `textune plan` said against what then happened."""
    lines = {line["run"]: line for line in read_lines(RESULTS / "plan.jsonl")}
    if not lines:
        return
    yield "## Forecasts and what happened\n"
    yield (
        "`textune plan`, then the same run: whole process, tokenising, baselines and report included. The aim is to be "
        "within 25%.\n"
    )
    rows = []
    for name, line in lines.items():
        told, real, error = line["forecast"], line["real"], line["error_percent"]
        rows.append((
            name, *(f"{told[key]:,.0f} / {real[key]:,.0f} ({error[key]:+.0f}%)"
                    for key in ("run_seconds", "peak_memory_mb", "disk_mb")), f"{line['planning_seconds']:.0f}",
        ))  # fmt: skip
    header = ("run", "seconds: forecast / real", "peak memory, MB", "disk, MB", "seconds of planning")
    yield table(header, rows)
    yield "Rebuild: `python benchmarks/plan_check.py --data FOLDER --output results/plan.jsonl`\n"
