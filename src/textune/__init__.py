"""textune: labelled text in, a good, small, trustworthy classifier out.

    import textune
    run = textune.train("reviews.csv", text="content", label="label")
    run.predict("works great")
    textune.load("runs/reviews-minilm-lora-42").predict_proba(["works great", "broke at once"])

Importing this package costs nothing: torch and transformers are loaded by the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textune.lazy import export_lazily
from textune.progress import quiet_notebook
from textune.version import __version__

if TYPE_CHECKING:
    from textune.compare.api import compare
    from textune.explain.api import explain
    from textune.export.api import export
    from textune.inference import Predictor, load
    from textune.peft_import.importer import import_adapter
    from textune.plan.api import plan
    from textune.run import Run, resume, train
    from textune.run.error_analysis import find_errors
    from textune.run.other_rows import evaluate
    from textune.search.sweep import Sweep, resume_sweep, sweep

__all__ = [
    "Predictor",
    "Run",
    "Sweep",
    "__version__",
    "compare",
    "evaluate",
    "explain",
    "export",
    "find_errors",
    "import_adapter",
    "load",
    "plan",
    "resume",
    "resume_sweep",
    "sweep",
    "train",
]

_HOMES = {
    "Predictor": "inference",
    "Run": "run",
    "Sweep": "search.sweep",
    "compare": "compare.api",
    "evaluate": "run.other_rows",
    "explain": "explain.api",
    "find_errors": "run.error_analysis",
    "export": "export.api",
    "import_adapter": "peft_import.importer",
    "load": "inference",
    "plan": "plan.api",
    "resume": "run",
    "resume_sweep": "search.sweep",
    "sweep": "search.sweep",
    "train": "run",
}


__getattr__, __dir__ = export_lazily(__name__, _HOMES, __all__)
quiet_notebook()
