"""Tasks: one label per text, any number of them, or a text to write. One file each; nothing else asks which it is."""

# each of these registers its task; the first of a kind is taken where nobody names one
from textune.tasks import (  # isort: skip
    single_label as single_label,
    multi_label as multi_label,
    generation as generation,
)
from textune.tasks.base import Answer, EvaluatedRows, FileCells, Task
from textune.tasks.catalogue import (
    build_task,
    default_task,
    find_by_problem_type,
    find_task,
    read_evaluation,
    register,
    task_of,
    tasks,
)
from textune.tasks.decided import find_decisions, refuse_few_rows, request_decisions
from textune.tasks.multi_label import SetPrediction
from textune.tasks.objective import Objective, ProbeLoss, TrainingSoFar
from textune.tasks.shown import BASE, MAJORITY, PROBE, TFIDF, TUNED, AnyEvaluation, AnyPrediction, Column
from textune.tasks.single_label import Prediction

__all__ = [
    "BASE",
    "MAJORITY",
    "PROBE",
    "TFIDF",
    "TUNED",
    "Answer",
    "AnyEvaluation",
    "AnyPrediction",
    "Column",
    "EvaluatedRows",
    "FileCells",
    "Objective",
    "Prediction",
    "ProbeLoss",
    "SetPrediction",
    "Task",
    "TrainingSoFar",
    "build_task",
    "default_task",
    "find_by_problem_type",
    "find_decisions",
    "find_task",
    "read_evaluation",
    "refuse_few_rows",
    "register",
    "request_decisions",
    "task_of",
    "tasks",
]
