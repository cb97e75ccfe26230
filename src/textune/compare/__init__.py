"""Finished runs side by side: which is better, for how much, and whether the difference is more than chance."""

from textune.compare.comparing import compare_runs
from textune.compare.grouping import group_runs
from textune.compare.reading import RunRecord, read_run
from textune.compare.training import list_configs, train_missing

__all__ = ["RunRecord", "compare_runs", "group_runs", "list_configs", "read_run", "train_missing"]
