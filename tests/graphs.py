"""ONNX graphs that the tests keep: writing one takes seconds, and many tests export the same run."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Graphs:
    """Writes the graph of a model as `write` does, or copies that of the very same model."""

    def __init__(self, place: Path, write: Callable[[Any, Path], None]) -> None:
        self._place, self._write = place, write

    def __call__(self, predictor: Any, path: Path) -> None:
        kept = self._place / f"{describe_model(predictor)}.onnx"
        if not kept.is_file():
            self._write(predictor, path)
            self._place.mkdir(exist_ok=True)
            partial = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(path, partial)
            partial.replace(kept)
        else:
            shutil.copyfile(kept, path)


def describe_model(predictor: Any) -> str:
    """Return a digest of all that decides a graph: classes, configuration, weights, inputs and the traced texts."""
    model, manifest, digest = predictor.model, predictor.manifest, hashlib.sha256()
    hooks = [(type(hook), vars(hook)) for module in model.modules() for hook in module._forward_hooks.values()]
    facts = [str(model), model.config.to_json_string(), hooks, predictor.padding, manifest.columns.text_pair is None]
    facts += [manifest.long_text, manifest.max_length]
    digest.update(repr(facts).encode())
    for name, tensor in (*model.state_dict().items(), *model.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
