"""What the processes of the tests share: imported, and computed, once in the server that they are forked from."""

from __future__ import annotations

import gc
import importlib
import os
from pathlib import Path

MODULES = (
    "textune.run", "textune.cli.app", "textune.inference.predictor", "textune.training.trainer", "textune.engine",
    "textune.engine.choice", "textune.engine.prefix_cache", "textune.training.contrast",
    "textune.training.head", "textune.export.merged", "rensa", "accelerate", "peft", "peft.tuners.lora.bnb",
    "peft.utils.transformers_weight_conversion", "sklearn.linear_model", "sklearn.feature_extraction.text",
    "sklearn.model_selection", "sklearn.metrics", "scipy.stats", "pandas", "pyarrow.parquet", "pyarrow.acero",
    "pyarrow.dataset", "pyarrow.pandas_compat", "typer._adapters", "transformers.models.bert.modeling_bert",
    "transformers.models.distilbert.modeling_distilbert",
)  # fmt: skip
RARE = (20_000, 20, 20)
"""How seldom objects that refer to each other are looked for: by default it is at every 700 new objects."""


def skip_flush() -> None:
    """Leave it to the system when files reach the disk: no test pulls the plug, and each wait takes milliseconds."""
    os.fsync = lambda _: None  # type: ignore[assignment, misc]


def load() -> None:
    """Import what a run needs, and compile what it would compile on its first use."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:  # a private module of another release
            continue
    try:
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("distilbert")  # hundreds of regular expressions, once in a process
    except ImportError:
        pass
    from textune.report.html import open_templates

    for name in open_templates().list_templates(extensions=["j2"]):
        open_templates().get_template(name)


if os.environ.get("PYTHONPATH", "").partition(os.pathsep)[0] == str(Path(__file__).parent):  # in the server
    os.environ["PYTHONPATH"] = os.environ["PYTHONPATH"].partition(os.pathsep)[2]
    skip_flush()
    load()
    gc.freeze()  # else each process looks through all of this when it collects
    gc.set_threshold(*RARE)
