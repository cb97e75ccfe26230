"""Predictions with a finished run: of texts, and of whole files."""

from textune.inference.predictor import LoadOptions, Predictor, choose_device, load

__all__ = ["LoadOptions", "Predictor", "choose_device", "load"]
