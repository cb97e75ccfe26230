"""Why a model answers as it does: how much each word of a text speaks for a label, or against it.

`textune.explain(run, texts)` returns one `Explanation` per text. Names are imported on first use: torch and captum are
loaded by the first explanation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textune.lazy import export_lazily, make_callable

if TYPE_CHECKING:
    from textune.explain.api import explain, explain_texts
    from textune.explain.explanation import Explanation, WordScore

_HOMES = {
    "Explanation": "explanation",
    "WordScore": "explanation",
    "explain": "api",
    "explain_texts": "api",
}

__all__ = ["Explanation", "WordScore", "explain", "explain_texts"]

__getattr__, __dir__ = export_lazily(__name__, _HOMES, __all__)
make_callable(__name__)
