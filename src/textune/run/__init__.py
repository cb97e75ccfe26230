"""One run: prepare, train, save, prove the reload, measure."""

from textune.run.api import Run, load_run, resume, train, train_config, train_only

__all__ = ["Run", "load_run", "resume", "train", "train_config", "train_only"]
