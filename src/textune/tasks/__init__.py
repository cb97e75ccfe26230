"""Tasks: one label per text, or any number of them. One file each; nothing else asks which task it is."""

from textune.tasks.base import Answer, AnyEvaluation, Task, build_task, read_evaluation

__all__ = ["Answer", "AnyEvaluation", "Task", "build_task", "read_evaluation"]
