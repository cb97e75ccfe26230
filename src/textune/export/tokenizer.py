"""The tokenizer of a run in an export for transformers."""

from __future__ import annotations

import shutil
from pathlib import Path

from textune.inference import Predictor
from textune.tokens.plain import let_transformers_agree

_NAMES = ("vocab", "merges", "spiece")


def copy_tokenizer(run: Path, folder: Path, predictor: Predictor) -> None:
    """Copy the tokenizer's files from a run to an export whose config.json is written already."""
    for name in predictor.manifest.files:
        if ((run / name).is_file() and "token" in name) or name.startswith(_NAMES):
            shutil.copyfile(run / name, folder / name)
    # runs of earlier versions keep the checkpoint's settings as they were
    let_transformers_agree(folder, token_types=predictor.padding.token_types)
