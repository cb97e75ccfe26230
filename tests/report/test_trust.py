"""The report's section on probabilities: its answer follows the figures, stays small and escapes every label."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from textune.evaluation import sigmoid, softmax
from textune.report.html import open_templates
from textune.report.trust import describe_calibration, describe_trust
from textune.tasks import build_task

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> {{ 7*7 }}"


def make(
    rows: int, labels: int, sharp: float, *, several: bool = False, temperature: float | None = 1.0, unknown: int = 0
) -> Any:
    """Evaluate logits that are `sharp` times too large after the temperature."""
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(rows, labels))
    names = (HOSTILE, *(f"label {i}" for i in range(1, labels)))
    targets: Any
    if several:
        targets = (random.random(logits.shape) < sigmoid(logits)).astype(np.float32)
        task, probabilities, strange = build_task("multi_label"), sigmoid(sharp * logits), [()] * rows
    else:
        targets = (logits + random.gumbel(size=logits.shape)).argmax(1)
        targets[:unknown] = -1
        task, probabilities, strange = build_task("single_label"), softmax(sharp * logits), [("new",)] * unknown
    return task.with_temperature(temperature).evaluate(probabilities, targets, names, seed=0, unknown=strange)


def render(evaluation: Any) -> str:
    return open_templates().get_template("trust.html.j2").render(trust=describe_trust(evaluation, "test"))


@pytest.mark.parametrize(
    ("rows", "sharp", "begins", "holds"),
    [
        (4_000, 1.0, "Yes, as far as these rows can tell: ", "chance alone explains as much"),
        (20, 1.0, "These rows are too few to tell: ", "may be as large as"),
        (4_000, 4.0, "Only with care: ", ", mostly too high."),
        (4_000, 0.4, "Only with care: ", ", mostly too low."),
        (10_000, 1.2, "Mostly: ", ", mostly too high."),
    ],
)
def test_the_answer_follows_the_figures(rows, sharp, begins, holds):
    first = describe_trust(make(rows, 3, sharp), "test").sentences[0]
    assert first.startswith(begins) and holds in first and f"{rows:,} test rows" in first


def test_the_answer_for_several_labels_speaks_of_labels():
    first = describe_trust(make(4_000, 3, 4.0, several=True), "test").sentences[0]
    assert first.startswith("Only with care: ") and "too high in some ranges and too low in others" in first
    page = render(make(4_000, 3, 1.0, several=True))
    assert "the share where the label applies differ" in page and "samples F1" in page and "decisions" in page
    assert "where the label applies" not in render(make(400, 3, 1.0))


def test_the_temperature_is_told():
    with_one = describe_trust(make(500, 3, 1.0, temperature=2.0), "test")
    assert with_one.has_before and "The temperature of 2.00" in with_one.sentences[1]
    assert render(make(500, 3, 1.0, temperature=2.0)).count("before") >= 2
    assert "The temperature is 1" in describe_trust(make(500, 3, 1.0), "test").sentences[1]
    assert len(describe_trust(make(500, 3, 1.0, temperature=None), "test").sentences) == 1
    card = describe_calibration(make(500, 3, 1.0, temperature=2.0))
    assert re.search(r"Calibration: expected calibration error [\d.]+% \(95% interval .*log loss 0\.\d+\. Before", card)


def test_unknown_labels_are_told():
    assert (
        "5 rows have a label that the model does not know"
        in describe_trust(make(500, 3, 1.0, unknown=5), "test").sentences[-1]
    )
    assert describe_trust(make(500, 3, 1.0, unknown=1), "test").sentences[-1] == (
        "1 row has a label that the model does not know, counted as an error here and left out of Brier score and log "
        "loss."
    )


@pytest.mark.parametrize("several", [False, True])
def test_labels_are_escaped_and_the_drawing_has_words(several):
    page = render(make(300, 4, 1.5, several=several, temperature=1.5))
    assert "<script" not in page and "<img" not in page and "style=" not in page
    assert 'role="img" aria-label="Reliability diagram: the share ' in page
    assert page.count("<svg") == 2 + 4 and page.count("<svg") == page.count('role="img"')


def test_a_thousand_classes_stay_small():
    evaluation = make(3_000, 1_000, 1.0)
    page = render(evaluation)
    assert len(page) < 60_000
    assert page.count('<tr><th scope="row" dir="auto">') == 10
    assert "classes are in the run's metrics.json" in page


def test_of_many_classes_those_that_are_ranked_without_a_fault_are_only_counted():
    true = np.repeat(np.arange(30), 2)
    probabilities = np.full((60, 30), 0.01)
    probabilities[np.arange(60), true] = 0.9
    probabilities[0] = np.roll(probabilities[0], 1)
    for classes, listed, perfect in ((30, 2, 28), (10, 10, 0)):
        labels, rows = [f"c{i}" for i in range(classes)], true < classes
        task = build_task("single_label").with_temperature(1.0)
        evaluation = task.evaluate(probabilities[rows][:, :classes], true[rows], labels, seed=0, unknown=())
        trust = describe_trust(evaluation, "test")
        assert trust is not None and (len(trust.classes), trust.perfect_classes) == (listed, perfect)
        assert len(trust.curves) == min(listed, 6) and trust.more_classes == classes - listed
    page = render(build_task("single_label").with_temperature(1.0).evaluate(
        probabilities[1:], true[1:], [f"c{i}" for i in range(30)], seed=0, unknown=()))  # fmt: skip
    assert "of 30 all rows come before those of other classes" in page and "Precision over recall" not in page


def test_what_is_undefined_is_told_with_its_reason():
    task = build_task("single_label")
    evaluation = task.evaluate(np.full((3, 2), 0.5), np.full(3, -1), ("a", "b"), seed=0, unknown=[("new",)] * 3)
    page = render(evaluation)
    assert "– (no row has a label that the model knows)" in page and "None" not in page
    assert "log loss" not in describe_calibration(evaluation)
