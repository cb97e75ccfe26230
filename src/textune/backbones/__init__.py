"""Pretrained models: the families, how a model is found and loaded, and how its head pools tokens."""

from textune.backbones.embedded import EMBEDDED, MINILM, find_embedded
from textune.backbones.loading import (
    Backbone,
    load_classifier,
    resolve_backbone,
    resolve_same,
)
from textune.backbones.local import recall_local, remember_local
from textune.backbones.smollm import SMOLLM2

__all__ = [
    "Backbone",
    "EMBEDDED",
    "MINILM",
    "SMOLLM2",
    "find_embedded",
    "load_classifier",
    "recall_local",
    "remember_local",
    "resolve_backbone",
    "resolve_same",
]
