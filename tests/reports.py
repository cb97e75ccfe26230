"""Reports and cards of made-up figures, for the tests."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import re
from pathlib import Path

import numpy as np

import textune.report
from textune.evaluation import Difference, Interval, evaluate, find_confident_errors, predict_majority
from textune.evaluation.paired import McNemar, PairedTest
from textune.report import CardInput, ReportInput
from textune.report.comparison import COSTS, Candidate, Comparison, Pair, RunLine, mark_fronts
from textune.tasks import BASE, MAJORITY, TFIDF, TUNED

SCRIPT = (Path(textune.report.__file__).parent / "sort.js").read_text(encoding="utf-8")
LONG = "a_rather_long_name_of_a_thing_that_somebody_made_up_" * 2
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> {{ 7*7 }} \x00\x1b[31m \ud800 ```"


def take_script_away(page: str) -> str:
    """Return a page without its script and its policy, which must be there once and belong together."""
    found = re.findall(r"<script>(.*?)</script>", page, re.S)
    policies = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert len(found) == 1 and found[0] == SCRIPT and len(policies) == 1
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policies[0] and "default-src 'none'" in policies[0]
    return page.replace(f"<script>{SCRIPT}</script>", "").replace(policies[0], "").replace("http-equiv", "")


def make_evaluation(labels, accuracy, rows=400, seed=0, unknown=()):
    rng = np.random.default_rng(seed)
    true = np.arange(rows) % len(labels)
    wrong = (true + rng.integers(1, len(labels), rows)) % len(labels)
    answers = np.where(rng.random(rows) < accuracy, true, wrong)
    probabilities = np.full((rows, len(labels)), 0.02)
    probabilities[np.arange(rows), answers] = rng.uniform(0.5, 0.9, rows)
    true[: len(unknown)] = -1
    return evaluate(probabilities, true, labels, unknown=unknown), probabilities, true


def make_report(labels=("bad", "good"), tuned=0.9, tfidf=0.7, **changes) -> ReportInput:
    evaluation, probabilities, true = make_evaluation(labels, tuned)
    rows = len(true)
    majority = evaluate(predict_majority(true, rows, len(labels)), true, labels)
    comparison = [
        {"name": MAJORITY, "evaluation": majority, "seconds": None},
        {"name": TFIDF, "evaluation": make_evaluation(labels, tfidf, seed=1)[0], "seconds": 0.4},
        {"name": BASE, "evaluation": make_evaluation(labels, 0.5, seed=2)[0], "seconds": 3.0},
        {"name": TUNED, "evaluation": evaluation, "seconds": 125.0},
    ]
    history = [{"kind": "step", "step": s, "loss": 1 / s, "learning_rate": 1e-4} for s in range(1, 50)]
    history += [
        {
            "kind": "evaluation",
            "step": s,
            "epoch": s / 20,
            "loss": 0.5,
            "accuracy": s / 50,
            "macro_f1": s / 60,
        }
        for s in (20, 40)
    ]
    texts = [f"text {i}" for i in range(rows)]
    report = ReportInput(
        title="reviews", created="2026-01-02 03:04", textune_version="0.1.0",
        task_summary=[("backbone", "minilm"), ("method", "lora")], labels=tuple(labels), split="test",
        comparison=comparison, history=history,
        confident_errors=find_confident_errors(probabilities, true, labels, texts, range(rows), 5),
        data_facts=[("rows", "400")], warnings=[], settings_yaml="method: lora\n",
        reload_lines="import textune\nmodel = textune.load('runs/x')\n",
    )  # fmt: skip
    return dataclasses.replace(report, **changes)


def hostile_report() -> ReportInput:
    report = make_report(labels=(HOSTILE, "good", HOSTILE + "2"))
    errors = [dataclasses.replace(error, text=HOSTILE) for error in report.confident_errors]
    comparison = [dict(row) for row in report.comparison]
    comparison[0]["name"] = HOSTILE
    comparison[3]["evaluation"] = make_evaluation(report.labels, 0.9, unknown=[HOSTILE])[0]
    pairs = [(HOSTILE, HOSTILE)]
    return dataclasses.replace(
        report, title=HOSTILE, created=HOSTILE, textune_version=HOSTILE, task_summary=pairs, data_facts=pairs,
        comparison=comparison, confident_errors=errors, warnings=[HOSTILE], settings_yaml=HOSTILE,
        reload_lines=HOSTILE,
    )  # fmt: skip


def make_card(report: ReportInput, **changes) -> CardInput:
    card = CardInput(
        title=report.title, textune_version=report.textune_version, library_name="peft",
        base_model="sentence-transformers/all-MiniLM-L6-v2", labels=report.labels, split=report.split,
        comparison=report.comparison, facts=report.task_summary, warnings=report.warnings,
        reload_lines=report.reload_lines, tags=("lora",),
    )  # fmt: skip
    return dataclasses.replace(card, **changes)


def make_comparison(candidates: int = 3) -> Comparison:
    names = [f"{LONG}{i}" for i in range(candidates)]
    made = mark_fronts(
        [
            Candidate(
                name, (1, 2), 0.9 - 0.0001 * i, 0.01, Interval(0.8, 0.95), 0.85, Interval(0.8, 0.9),
                dict.fromkeys(COSTS, 10.0 + i),
            )
            for i, name in enumerate(names)
        ]
    )  # fmt: skip
    test = PairedTest(Difference(0.01, 0.05, 0.03), 0.001, {1: McNemar(5, 1, 0.2)})
    pairs = tuple(Pair(a, b, test, 0.01) for a, b in itertools.combinations(names, 2))
    runs = tuple(RunLine(f"runs/{n}", n, s, 0.9, Interval(0.8, 0.95), 0.8, dict.fromkeys(COSTS, 1.0), 1)
                 for n in names for s in (1, 2))  # fmt: skip
    return Comparison("accuracy", "test", 400, 6, tuple(made), pairs, runs, (("max_length", "128"),))
