"""Bytes of reports, and how fast a browser opens them: many predictions, many classes.

    python benchmarks/report_speed.py --output results/report.jsonl [--chromium /usr/bin/chromium]

Each line: a made-up run of so many rows and classes, the seconds to render its page, its bytes with and
without gzip, and the median time of five cold openings in Chromium: to the first paint of text, to the load event, and
to sort the longest table. `slices` is the search for slices on so many texts of 25 words, which every run does once.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from textune.cli.environment import tune_libraries
from textune.evaluation import Difference, evaluate, find_confident_errors
from textune.evaluation.conditions import (
    list_column,
    list_labels,
    list_lengths,
    list_negations,
    list_words,
    split_texts,
)
from textune.evaluation.slices import choose_fewest_rows, find_slices
from textune.report import ReportInput, render_report, render_report_markdown
from textune.tasks import TFIDF, TUNED

CASES = ((2_000, 2), (100_000, 2), (100_000, 77), (20_000, 1_000), (100_000, 1_000))
SEARCHES = ((5_000, 2), (50_000, 1_000))
OPENINGS = 5


def main() -> None:
    """Measure every case."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--most-cells", type=float, default=1e8, help="rows times classes of the largest case")
    arguments = parser.parse_args()
    lines = []
    for rows, classes in CASES:
        if rows * classes <= arguments.most_cells:
            lines.append(measure_page(rows, classes, arguments.chromium))
            print(json.dumps(lines[-1]), flush=True)
    for rows, classes in SEARCHES:
        lines.append(measure_search(rows, classes))
        print(json.dumps(lines[-1]), flush=True)
    arguments.output.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def measure_page(rows: int, classes: int, chromium: str) -> dict[str, Any]:
    """Render a page and open it."""
    report = build_report(rows, classes)
    started_at = time.perf_counter()
    page = render_report(report)
    seconds = time.perf_counter() - started_at
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(page, encoding="utf-8")
        opened = open_page(path, chromium)
    content = page.encode()
    return {
        "check": "page",
        "rows": rows,
        "classes": classes,
        "render_seconds": round(seconds, 3),
        "bytes": len(content),
        "gzip_bytes": len(gzip.compress(content)),
        "markdown_bytes": len(render_report_markdown(report).encode()),
        **opened,
    }


def build_report(rows: int, classes: int) -> ReportInput:
    """Return a made-up run: 85% right, names of 30 characters, texts of 1,000."""
    random = np.random.default_rng(0)
    labels = [f"class number {i:04} of a long name" for i in range(classes)]
    true = random.integers(0, classes, rows)
    answers = np.where(random.random(rows) < 0.85, true, random.integers(0, classes, rows))
    probabilities = np.full((rows, classes), 0.1 / classes, np.float32)
    probabilities[np.arange(rows), answers] += random.uniform(0.5, 0.9, rows)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    evaluation = evaluate(probabilities, true, labels)
    texts = ["word " * 200] * rows
    comparison = [
        {"name": TFIDF, "evaluation": evaluation, "seconds": 1.0, "difference": Difference(-0.01, 0.01, 0.0)},
        {"name": TUNED, "evaluation": evaluation, "seconds": 100.0},
    ]
    steps = [{"kind": "step", "step": s, "loss": 1 / (1 + s / 1000)} for s in range(1, 20_000)]
    evaluations = [{"kind": "evaluation", "step": s, "loss": 0.5, "accuracy": 0.8} for s in range(500, 20_000, 500)]
    return ReportInput(
        title="report",
        created="2026-11-28T12:00:00Z",
        textune_version="0",
        task_summary=[("rows", str(rows))],
        labels=tuple(labels),
        split="test",
        comparison=comparison,
        history=steps + evaluations,
        confident_errors=find_confident_errors(probabilities, true, labels, texts, range(rows)),
        data_facts=[],
        warnings=[],
        settings_yaml="method: lora\n",
        reload_lines="import textune\n",
    )


def open_page(path: Path, chromium: str) -> dict[str, Any]:
    """Return the medians in milliseconds of cold openings."""
    from playwright.sync_api import sync_playwright

    times: dict[str, list[float]] = {"first_paint_ms": [], "load_ms": [], "sort_ms": []}
    timing = "performance.getEntriesByType('navigation')[0]"
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1"
    sort = """() => {
        document.querySelectorAll("details").forEach((one) => { one.open = true; });
        const tables = [...document.querySelectorAll("table")].filter((table) => table.querySelector("th button"));
        const longest = tables.sort((a, b) => b.rows.length - a.rows.length)[0];
        if (!longest) return null;
        const started = performance.now();
        longest.querySelectorAll("th button")[1].click();
        document.body.getBoundingClientRect();
        return performance.now() - started;
    }"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(OPENINGS):
            page = browser.new_context().new_page()
            page.goto(path.as_uri(), wait_until="load")
            page.wait_for_timeout(200)
            times["first_paint_ms"].append(page.evaluate(paint))
            times["load_ms"].append(page.evaluate(f"{timing}.loadEventEnd - {timing}.startTime"))
            times["sort_ms"].append(page.evaluate(sort))
            page.context.close()
        browser.close()
    return {name: round(statistics.median(values), 1) for name, values in times.items() if None not in values}


def measure_search(rows: int, classes: int) -> dict[str, Any]:
    """Return the seconds of the search for slices, conditions included."""
    import scipy.stats  # noqa: F401  its import is not part of the search

    random = np.random.default_rng(0)
    shares = 1 / np.arange(1, 8001)
    drawn = random.choice([f"w{i}" for i in range(8000)], size=(rows, 25), p=shares / shares.sum())
    texts = [" ".join(words) for words in drawn.tolist()]
    true = random.integers(0, classes, rows)
    hard = random.random(classes) < 0.3
    wrong = random.random(rows) < np.where(hard[true], 0.5, 0.1)
    predicted = np.where(wrong, (true + 1 + random.integers(0, 3, rows)) % classes, true)
    names = [f"class {i}" for i in range(classes)]
    column = random.choice(["a", "b", "c", "d"], rows).tolist()
    started_at = time.perf_counter()
    split = split_texts(texts)
    conditions = [
        *list_column("domain", column),
        *list_lengths(texts),
        *list_negations(split),
        *list_words(split, choose_fewest_rows(rows)),
        *list_labels("true label", names, mark(true, classes)),
        *list_labels("predicted label", names, mark(predicted, classes)),
    ]
    search = find_slices(wrong, conditions)
    seconds = round(time.perf_counter() - started_at, 2)
    found = len(search.slices)
    return {
        "check": "slices",
        "rows": rows,
        "classes": classes,
        "seconds": seconds,
        "conditions": search.looks,
        "found": found,
    }


def mark(numbers: Any, classes: int) -> Any:
    """Return bool [rows, classes]."""
    marks = np.zeros((len(numbers), classes), bool)
    marks[np.arange(len(numbers)), numbers] = True
    return marks


if __name__ == "__main__":
    main()
