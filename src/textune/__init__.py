"""textune: labelled text in, a good, small, trustworthy classifier out.

    import textune
    run = textune.train("reviews.csv", text="content", label="label")
    run.predict(["works great"])
    textune.load("runs/reviews-minilm-lora-42").predict_proba(["works great"])

Importing this package costs nothing: torch and transformers are loaded by the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textune.adoption import import_adapter
    from textune.measuring import evaluate
    from textune.predict import Predictor, load
    from textune.run import Run, resume, train
    from textune.search.sweep import Sweep, resume_sweep, sweep

__version__ = "0.1.0"
__all__ = [
    "Predictor", "Run", "Sweep", "__version__", "evaluate", "import_adapter", "load", "resume", "resume_sweep", "sweep",
    "train",
]  # fmt: skip

_HOMES = {
    "Predictor": "textune.predict", "Run": "textune.run", "Sweep": "textune.search.sweep",
    "evaluate": "textune.measuring", "import_adapter": "textune.adoption", "load": "textune.predict",
    "resume": "textune.run", "resume_sweep": "textune.search.sweep", "sweep": "textune.search.sweep",
    "train": "textune.run",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'textune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
