"""Probabilities in, plain figures out: metrics, intervals, baselines, errors. No torch."""

from textune.evaluation.baselines import predict_majority, predict_tfidf
from textune.evaluation.errors import ConfidentError, count_confusions, find_confident_errors
from textune.evaluation.intervals import Difference, Interval, paired_difference
from textune.evaluation.learning import explain_not_learning
from textune.evaluation.metrics import Averages, ClassFigures, Evaluation, evaluate

__all__ = [
    "Averages",
    "ClassFigures",
    "ConfidentError",
    "Difference",
    "Evaluation",
    "Interval",
    "count_confusions",
    "evaluate",
    "explain_not_learning",
    "find_confident_errors",
    "paired_difference",
    "predict_majority",
    "predict_tfidf",
]
