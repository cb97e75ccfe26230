"""Pretrained models: the families, how a model is found and loaded, and how its head pools tokens."""

from textune.backbones.embedded import EMBEDDED, MINILM, find_embedded
from textune.backbones.loading import (
    Backbone,
    load_classifier,
    resolve_backbone,
    resolve_same,
)
from textune.backbones.local import recall_local, remember_local

__all__ = [
    "Backbone",
    "EMBEDDED",
    "MINILM",
    "find_embedded",
    "load_classifier",
    "recall_local",
    "remember_local",
    "resolve_backbone",
    "resolve_same",
]
