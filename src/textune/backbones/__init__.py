"""Pretrained models: which families there are, how one is found and loaded, and what its head reads."""

from textune.backbones.loading import (
    EMBEDDED_ID,
    EMBEDDED_SHA256,
    Backbone,
    load_classifier,
    resolve_backbone,
    resolve_same,
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
    "resolve_same",
]
