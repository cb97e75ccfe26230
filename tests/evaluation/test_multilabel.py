"""Several labels per text: figures against scikit-learn, intervals, thresholds, baselines, errors."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from textune.errors import BundleError, DataError, ModelError
from textune.evaluation import (
    MultiLabelEvaluation,
    evaluate_multi_label,
    find_best_threshold,
    find_confident_set_errors,
    paired_f1_difference,
    predict_prevalence,
    predict_tfidf_sets,
    sigmoid,
    tune_thresholds,
)
from textune.evaluation.intervals import wilson_interval
from textune.tasks import build_task, read_evaluation

LABELS = ("a", "b", "c", "d")


def draw(rows=300, labels=4, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.random((rows, labels)) < np.linspace(0.5, 0.1, labels)
    scores = np.clip(0.5 * true + 0.6 * rng.random((rows, labels)) - 0.05, 0, 1)
    return scores, true


def test_every_figure_is_scikit_learns() -> None:
    scores, true = draw()
    cuts = [0.4, 0.5, 0.6, 0.3]
    found = evaluate_multi_label(scores, true, LABELS, cuts)
    given_labels = scores >= cuts
    for name in ("micro", "macro", "weighted"):
        p, r, f, _ = metrics.precision_recall_fscore_support(true, given_labels, average=name, zero_division=0)
        own = getattr(found, name)
        assert (own.precision, own.recall, own.f1) == pytest.approx((p, r, f))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(true, given_labels))
    assert found.hamming_loss == pytest.approx(metrics.hamming_loss(true, given_labels))
    assert found.mean_average_precision == pytest.approx(metrics.average_precision_score(true, scores, average="macro"))
    per_label = [metrics.log_loss(true[:, i], scores[:, i], labels=[False, True]) for i in range(4)]
    assert found.log_loss == pytest.approx(np.mean(per_label))
    for i, matrix in enumerate(metrics.multilabel_confusion_matrix(true, given_labels)):
        own = found.classes[i]
        assert [own.hits, own.predicted - own.hits, own.support - own.hits] == [
            matrix[1, 1],
            matrix[0, 1],
            matrix[1, 0],
        ]
        assert own.threshold == cuts[i]
    assert found.headline.name == "micro F1" and found.headline.value == found.micro.f1


def test_figures_come_back_from_json() -> None:
    scores, true = draw(40)
    found = evaluate_multi_label(scores, true, LABELS, [0.5] * 4, unknown=[("x",), *[()] * 39])
    stored = json.loads(json.dumps(found.to_dict()))
    assert read_evaluation(stored) == found
    assert "unknown" not in found.report_text() and "x (once)" in found.report_text()
    with pytest.raises(BundleError, match="cannot be read"):
        MultiLabelEvaluation.from_dict(stored | {"classes": [{"label": "x"}]})


def test_an_unknown_label_counts_as_missed() -> None:
    true = np.array([[1, 0], [1, 1]], bool)
    scores = np.where(true, 0.9, 0.1)
    whole = evaluate_multi_label(scores, true, ("a", "b"), [0.5, 0.5])
    assert whole.micro.f1 == whole.macro.f1 == whole.accuracy == 1.0
    found = evaluate_multi_label(scores, true, ("a", "b"), [0.5, 0.5], unknown=[("x",), ()])
    assert found.unknown_labels == {"x": 1}
    assert found.accuracy == 0.5 and found.micro.recall == 0.75 and found.micro.precision == 1.0
    assert found.macro.f1 == pytest.approx(2 / 3)


def test_labels_that_nobody_has_or_is_given_stay_out_of_the_average() -> None:
    true = np.array([[1, 0], [0, 0]], bool)
    found = evaluate_multi_label(np.array([[0.9, 0.1], [0.2, 0.3]]), true, ("a", "b"), [0.5, 0.5])
    assert found.macro.f1 == 1.0 and found.classes[1].average_precision is None
    none = evaluate_multi_label(np.zeros((2, 2)), np.zeros((2, 2)), ("a", "b"), [0.5, 0.5])
    assert none.micro.f1 == none.macro.f1 == none.accuracy == 1.0 and none.mean_average_precision is None
    assert all(interval.low < interval.high == 1.0 for interval in none.intervals.values())


def test_draws_without_a_label_say_nothing() -> None:
    true = np.zeros((100, 2), bool)
    true[:2, 0] = True
    found = evaluate_multi_label(np.where(true, 0.9, 0.1), true, ("a", "b"), [0.5, 0.5]).intervals["micro_f1"]
    assert 0.2 < found.low < 0.4 and found.high == 1.0  # as two rows of two say


def test_intervals_hold_the_truth_most_of_the_time() -> None:
    everything, true = draw(20_000, seed=1)
    micro = evaluate_multi_label(everything, true, LABELS, [0.5] * 4).micro.f1
    held = 0
    for seed in range(60):
        scores, sample = draw(150, seed=100 + seed)
        interval = evaluate_multi_label(scores, sample, LABELS, [0.5] * 4, seed=seed).intervals["micro_f1"]
        held += interval.low <= micro <= interval.high
    assert held >= 51  # of 60 at 95%: fewer than 51 would be a rare accident


def test_ten_rows_without_an_error_are_no_certainty() -> None:
    true = np.tile(np.array([[1, 0], [0, 1]], bool), (5, 1))
    found = evaluate_multi_label(np.where(true, 0.9, 0.1), true, ("a", "b"), [0.5, 0.5])
    for interval in found.intervals.values():
        assert (interval.low, interval.high) == pytest.approx((0.7225, 1.0), abs=1e-3)


def test_one_more_error_never_narrows_an_interval() -> None:
    true = np.tile(np.array([[1, 0], [0, 1]], bool), (25, 1))
    found = []
    for errors in range(6):
        scores = np.where(true ^ (np.arange(50) < errors)[:, None], 0.9, 0.1)
        found.append(evaluate_multi_label(scores, true, ("a", "b"), [0.5, 0.5]).intervals)
    assert found[1]["accuracy"] == wilson_interval(49 / 50, 50)
    for name in found[0]:
        lows = [intervals[name].low for intervals in found]
        assert lows == sorted(lows, reverse=True), name


def test_what_cannot_be_evaluated_is_said() -> None:
    with pytest.raises(DataError, match="no row"):
        evaluate_multi_label(np.zeros((0, 2)), np.zeros((0, 2)), ("a", "b"), [0.5, 0.5])
    with pytest.raises(ModelError, match="not finite for 1 of 2"):
        evaluate_multi_label(np.array([[0.5, np.nan], [0, 1]]), np.zeros((2, 2)), ("a", "b"), [0.5, 0.5])


def test_a_lead_in_f1_is_paired() -> None:
    scores, true = draw()
    same = paired_f1_difference(true, scores >= 0.5, scores >= 0.5)
    assert (same.mean, same.p_value) == (0.0, 1.0) and 0 < same.high == -same.low < 0.02, "other rows may differ"
    lead = paired_f1_difference(true, scores >= 0.5, np.ones_like(true))
    mine, theirs = (metrics.f1_score(true, g, average="micro") for g in (scores >= 0.5, np.ones_like(true)))
    assert lead.mean == pytest.approx(mine - theirs) and 0 < lead.low < lead.mean < lead.high
    assert lead.p_value is not None and lead.p_value < 0.001
    four_to_none = paired_f1_difference(*(np.ones((20, 1), bool),) * 2, np.arange(20)[:, None] >= 4)
    assert four_to_none.low > 0 and four_to_none.p_value == pytest.approx(0.125, abs=0.02)


SCORES = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.35, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30)


@given(SCORES)
def test_no_threshold_has_a_greater_f1(rows: list[tuple[float, bool]]) -> None:
    scores, true = np.array([s for s, _ in rows]), np.array([t for _, t in rows])
    found = find_best_threshold(scores, true)
    if not true.any():
        assert found is None
        return

    def f1(cut: float) -> float:
        return float(metrics.f1_score(true, scores >= cut, zero_division=0))

    assert f1(found) == pytest.approx(max(f1(cut) for cut in (0.0, 0.15, 0.3, 0.4, 0.6, 0.9)))


def test_rare_labels_are_drawn_to_the_common_threshold() -> None:
    rng = np.random.default_rng(0)
    rows = 2000
    true = np.stack([rng.random(rows) < 0.4, np.arange(rows) < 2, np.zeros(rows, bool)], axis=1)
    low = np.where(true[:, 0], 0.35, 0.15) + 0.05 * rng.random(rows)  # this label is best told apart near 0.3
    high = np.where(true[:, 1], 0.95, 0.85 * rng.random(rows))  # these two rows alone would say 0.9
    scores = np.stack([low, high, rng.random(rows) * 0.1], axis=1)
    common = find_best_threshold(scores.ravel(), true.ravel())
    frequent, rare, never = tune_thresholds(scores, true)
    assert frequent == pytest.approx(0.275, abs=0.08)
    assert never == pytest.approx(common)
    assert common < rare < (common + 0.9) / 2
    assert tune_thresholds(scores, np.zeros_like(true)) == (0.5, 0.5, 0.5)


def test_tuning_on_few_rows_beats_one_half_on_others() -> None:
    """Frequent and rare labels whose scores are calibrated: on new rows the tuned thresholds give the better F1."""

    def rows_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        odds = rng.normal(size=(500, 12)) * 1.5 - np.linspace(0.5, 3.5, 12)
        scores = sigmoid(odds)
        return scores, rng.random(scores.shape) < scores

    scores, true = rows_of(1)
    others, other_true = rows_of(2)
    found = evaluate_multi_label(others, other_true, [str(i) for i in range(12)], tune_thresholds(scores, true))
    plain = evaluate_multi_label(others, other_true, [str(i) for i in range(12)], [0.5] * 12)
    assert found.micro.f1 > plain.micro.f1 + 0.05 and found.macro.f1 > plain.macro.f1 + 0.05


def test_the_most_frequent_labels_are_given_to_every_row() -> None:
    true = np.zeros((100, 3))
    true[:60, 0], true[40:95, 1], true[:5, 2] = 1, 1, 1
    scores, cuts = predict_prevalence(true, 7)
    assert scores.shape == (7, 3) and scores[0] == pytest.approx([0.6, 0.55, 0.05])
    assert (scores >= cuts).tolist() == [[True, True, False]] * 7
    assert not (np.tile([0.0, 0.0], (2, 1)) >= predict_prevalence(np.zeros((5, 2)), 2)[1]).any()


def test_the_regression_learns_each_label_and_gives_constant_ones_their_share() -> None:
    texts = [f"{'good' if i % 2 else 'bad'} {'song' if i % 3 else 'film'} {i}" for i in range(120)]
    true = np.array([[i % 2, i % 3 > 0, 0, 1] for i in range(120)], dtype=float)
    scores = predict_tfidf_sets(texts, true, ["good film", "bad song"], seed=0)
    assert (scores[:, :2] > 0.5).tolist() == [[True, False], [False, True]]
    assert scores[:, 2:].tolist() == [[0.0, 1.0]] * 2
    assert predict_tfidf_sets(["!", "?"], np.array([[1, 0], [0, 1.0]]), ["."], 0).tolist() == [[0.5, 0.5]]


def test_the_surest_wrong_decisions_come_first() -> None:
    true = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    scores = np.array([[0.9, 0.8], [0.05, 0.6], [0.9, 0.01], [0.1, 0.2]])
    errors = find_confident_set_errors(
        scores, true, scores >= 0.5, ("a", "b"), list("wxyz"), [1, 2, 3, 4], unknown=[("q",), (), (), ()]
    )
    assert [(e.row, e.true, e.predicted) for e in errors] == [(3, "a, b", "a"), (1, "a, q", "a, b")]
    assert [(e.decision, e.probability) for e in errors] == [
        ("false negative: b", pytest.approx(0.99)), ("false positive: b", pytest.approx(0.8))
    ]  # fmt: skip


def test_the_task_says_what_differs() -> None:
    logits = np.array([[2.0, -2.0], [-1000.0, 1000.0]])
    one, several = build_task("single_label"), build_task("multi_label", (0.5, 0.05))
    assert one.answer(one.probabilities(logits), ("a", "b")) == ["a", "b"]
    assert several.answer(several.probabilities(logits), ("a", "b")) == [("a", "b"), ("b",)]
    assert several.probabilities(logits)[1].tolist() == [0.0, 1.0]
    fixed = build_task("multi_label", fixed=0.3).tune(lambda: logits, np.ones((2, 2)))
    assert fixed.thresholds == (0.3, 0.3)
    with pytest.raises(BundleError, match="not known"):
        build_task("ranking")
