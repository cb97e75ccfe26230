"""Predictions with a finished run: of texts, and of whole files."""

from textune.inference.predictor import Predictor, choose_device, load, padding_of

__all__ = ["Predictor", "choose_device", "load", "padding_of"]
