"""Predictions with a finished run: of texts, and of whole files."""

from textune.inference.choices import ABSTAINED, Choices, Decided, read_choices
from textune.inference.loading import LoadOptions, choose_device
from textune.inference.predictor import Predictor, load

__all__ = [
    "ABSTAINED",
    "Choices",
    "Decided",
    "LoadOptions",
    "Predictor",
    "choose_device",
    "load",
    "read_choices",
]
