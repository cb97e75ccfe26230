"""Metrics, thresholds, intervals, baselines and errors from arrays of probabilities. No torch."""

from textune.evaluation.baselines import (
    answer_most_frequent,
    answer_nearest,
    best_constant_f1,
    predict_majority,
    predict_prevalence,
    predict_tfidf,
    predict_tfidf_sets,
)
from textune.evaluation.calibration import expected_calibration_error, fit_temperature
from textune.evaluation.errors import (
    NO_LABEL,
    ConfidentError,
    count_confusions,
    find_confident_errors,
    find_confident_set_errors,
)
from textune.evaluation.generation import (
    GenerationEvaluation,
    evaluate_generation,
    measure_difference,
    measure_perplexity,
    normalise_answer,
    rouge_l,
)
from textune.evaluation.intervals import Difference, Interval
from textune.evaluation.labelled import Averages, ClassFigures, Headline
from textune.evaluation.metrics import Evaluation, evaluate
from textune.evaluation.multilabel import (
    LabelFigures,
    MultiLabelEvaluation,
    evaluate_multi_label,
    paired_f1_difference,
)
from textune.evaluation.not_learning import explain_not_learning, explain_not_learning_labels
from textune.evaluation.paired import (
    Counts,
    McNemar,
    PairedTest,
    adjust_holm,
    apply_mcnemar,
    compare_pair,
    count_correct,
    count_labels,
    estimate_interval,
    estimate_macro_f1,
    paired_difference,
)
from textune.evaluation.probabilities import sigmoid, softmax
from textune.evaluation.probability_figures import (
    CalibrationFigures,
    ProbabilityFigures,
    ReliabilityBin,
    add_before,
    measure_calibration,
    measure_probabilities,
    undo_temperature,
)
from textune.evaluation.ranking import Curve, Ranking, matthews_correlation, measure_ranking
from textune.evaluation.seen import SeenRows
from textune.evaluation.thresholds import find_best_threshold, tune_thresholds

__all__ = [
    "expected_calibration_error",
    "fit_temperature",
    "NO_LABEL",
    "Averages",
    "CalibrationFigures",
    "ClassFigures",
    "ConfidentError",
    "Counts",
    "Curve",
    "Difference",
    "Evaluation",
    "GenerationEvaluation",
    "Headline",
    "Interval",
    "LabelFigures",
    "McNemar",
    "MultiLabelEvaluation",
    "PairedTest",
    "ProbabilityFigures",
    "Ranking",
    "ReliabilityBin",
    "SeenRows",
    "add_before",
    "adjust_holm",
    "answer_most_frequent",
    "answer_nearest",
    "apply_mcnemar",
    "best_constant_f1",
    "compare_pair",
    "count_confusions",
    "count_correct",
    "count_labels",
    "estimate_interval",
    "estimate_macro_f1",
    "evaluate",
    "evaluate_generation",
    "evaluate_multi_label",
    "explain_not_learning",
    "explain_not_learning_labels",
    "find_best_threshold",
    "find_confident_errors",
    "find_confident_set_errors",
    "matthews_correlation",
    "measure_calibration",
    "measure_difference",
    "measure_perplexity",
    "measure_probabilities",
    "measure_ranking",
    "normalise_answer",
    "paired_difference",
    "paired_f1_difference",
    "predict_majority",
    "predict_prevalence",
    "predict_tfidf",
    "predict_tfidf_sets",
    "rouge_l",
    "sigmoid",
    "softmax",
    "tune_thresholds",
    "undo_temperature",
]
