"""Forward passes, all behind one seam: `engine(batch) -> logits`, float32 [rows, classes]."""

from textune.engine.budget import is_out_of_memory
from textune.engine.choice import Engine, open_engine, probe_engine
from textune.engine.inference import predict_logits
from textune.engine.lean import LeanEngine
from textune.engine.pooling import pool_windows
from textune.engine.precision import Precision, probe_precision
from textune.engine.reference import ReferenceEngine

__all__ = [
    "Engine", "LeanEngine", "Precision", "ReferenceEngine", "is_out_of_memory", "open_engine", "pool_windows",
    "predict_logits", "probe_engine", "probe_precision",
]  # fmt: skip
