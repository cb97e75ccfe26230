"""Forward passes behind one interface: `engine(batch) -> logits`, float32 [rows, classes].

Names are imported on first use, so that an exported model runs without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textune.lazy import export_lazily

if TYPE_CHECKING:
    from textune.engine.budget import is_out_of_memory
    from textune.engine.choice import Engine, choose_prefix, keep_prefix, open_engine, probe_engine
    from textune.engine.inference import predict_logits
    from textune.engine.lean import LeanEngine
    from textune.engine.onnx import OnnxEngine
    from textune.engine.pooling import pool_windows
    from textune.engine.precision import Precision, probe_precision
    from textune.engine.reference import ReferenceEngine

_HOMES = {
    "is_out_of_memory": "budget",
    "Engine": "choice",
    "choose_prefix": "choice",
    "keep_prefix": "choice",
    "open_engine": "choice",
    "probe_engine": "choice",
    "predict_logits": "inference",
    "LeanEngine": "lean",
    "OnnxEngine": "onnx",
    "pool_windows": "pooling",
    "Precision": "precision",
    "probe_precision": "precision",
    "ReferenceEngine": "reference",
}

__all__ = [
    "Engine",
    "LeanEngine",
    "OnnxEngine",
    "Precision",
    "ReferenceEngine",
    "choose_prefix",
    "is_out_of_memory",
    "keep_prefix",
    "open_engine",
    "pool_windows",
    "predict_logits",
    "probe_engine",
    "probe_precision",
]

__getattr__, __dir__ = export_lazily(__name__, _HOMES, __all__)
