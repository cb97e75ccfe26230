"""Pretrained models: the families, how a model is found and loaded, and how its head pools tokens."""

from textune.backbones.loading import (
    EMBEDDED_ID,
    EMBEDDED_SHA256,
    Backbone,
    load_classifier,
    resolve_backbone,
)
from textune.backbones.local import recall_local, remember_local

__all__ = [
    "Backbone",
    "EMBEDDED_ID",
    "EMBEDDED_SHA256",
    "load_classifier",
    "recall_local",
    "remember_local",
    "resolve_backbone",
]
