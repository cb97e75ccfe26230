"""Hyperparameter search: the space, Optuna's journal, workers, and the winner as an ordinary run."""
