"""Tokenizer folders that transformers reads as textune does."""

from __future__ import annotations

import json
from pathlib import Path

from textune.tokens.tokenize import load_tokenizer

_ODD_TEXT = "A Text in CAPITALS,  naïve Œuvre: ｆｕｌｌ width, ﬁ, don't\u00a0stop; 日本語 e\u0301 ²½ 1,000"
"""Letters that normalizers change: of either case, with accents, wide, joined, composed."""


def let_transformers_agree(folder: Path, *, token_types: bool) -> None:
    """Make transformers use tokenizer.json as it is if the class that it would choose tokenizes differently.

    Some classes (BertTokenizer, say) build the normalizer anew from tokenizer_config.json, in which a setting may be
    missing: every text would then be lower-cased, without a word. Where no class is named, the model's decides. A class
    with code of its own is left alone.
    token_types: whether the model takes token_type_ids.
    """
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if "auto_map" in settings or ("tokenizer_class" in settings and _agree(folder)):
        return
    inputs = ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"]
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": inputs}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _agree(folder: Path) -> bool:
    import transformers

    try:
        chosen = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception:  # it cannot choose a class, or that class lacks a file
        return False
    return bool(chosen(_ODD_TEXT, verbose=False)["input_ids"] == load_tokenizer(folder).encode(_ODD_TEXT).ids)
