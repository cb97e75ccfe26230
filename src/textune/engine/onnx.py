"""An exported graph run by onnxruntime, without torch or transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.engine.session import open_session
from textune.tokens.batches import Batch


class OnnxEngine:
    """Runs `model.onnx` of an exported folder on the CPU.

    equal_lengths: a pass only contains texts of equal length, as for the exported model. one_by_one: a pass contains
    one text: int8 rounds relative to the largest number in a pass, so texts would change each other's answers.
    threads: of one pass; None: one per core. Raises BundleError or MissingExtraError.
    """

    name = "onnx"

    def __init__(
        self, folder: Path, *, equal_lengths: bool = False, one_by_one: bool = False, threads: int | None = None
    ) -> None:
        self._session = open_session(folder, threads)
        self._inputs = {graph_input.name for graph_input in self._session.get_inputs()}
        self._equal_lengths, self.one_by_one = equal_lengths, one_by_one

    def forward(self, batch: Batch) -> NDArray[Any]:
        """Return the logits of a batch: float32 [rows, classes]."""
        logits = self._run_by_length(batch) if self._equal_lengths else self._run(batch, slice(None), slice(None))
        if batch.windows is None:
            return logits
        ends = np.cumsum(batch.windows)[:-1]
        return np.stack([windows.mean(0) for windows in np.split(logits, ends)])

    def _run_by_length(self, batch: Batch) -> NDArray[Any]:
        lengths = batch.attention_mask.sum(1)
        logits: NDArray[Any] | None = None
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            left_padded = int(batch.attention_mask[rows[0], 0]) == 0
            part = self._run(batch, rows, slice(-int(length), None) if left_padded else slice(int(length)))
            logits = np.empty((len(lengths), part.shape[1]), np.float32) if logits is None else logits
            logits[rows] = part
        assert logits is not None
        return logits

    def _run(self, batch: Batch, rows: Any, columns: slice) -> NDArray[Any]:
        arrays = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if batch.token_type_ids is not None:
            arrays["token_type_ids"] = batch.token_type_ids
        feed = {name: np.ascontiguousarray(a[rows][:, columns]) for name, a in arrays.items() if name in self._inputs}
        return np.asarray(self._session.run(["logits"], feed)[0], np.float32)
