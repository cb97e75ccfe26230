"""Comparison of finished runs: which is better, at what cost, and whether the difference is significant."""

from textune.compare.comparison import compare_runs
from textune.compare.groups import group_runs
from textune.compare.missing import list_configs, train_missing
from textune.compare.records import RunRecord, read_run
from textune.lazy import make_callable

make_callable(__name__)

__all__ = ["RunRecord", "compare_runs", "group_runs", "list_configs", "read_run", "train_missing"]
