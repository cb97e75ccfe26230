"""Searches over many trainings: the space, Optuna's journal, workers, and the winner as an ordinary run."""
