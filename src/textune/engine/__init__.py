"""Forward passes, all behind one seam: `engine(batch) -> logits`, float32 [rows, classes]."""

from textune.engine.inference import predict_logits
from textune.engine.pooling import pool_windows
from textune.engine.precision import Precision, probe_precision
from textune.engine.reference import ReferenceEngine

__all__ = ["Precision", "ReferenceEngine", "pool_windows", "predict_logits", "probe_precision"]
