"""Tokenize texts and build batches. No torch here."""

from textune.tokens.tokenize import (
    VOCABULARY_FILES,
    Tokenized,
    encode_cached,
    encode_texts,
    find_special_token,
    load_tokenizer,
    text_between,
)

__all__ = [
    "VOCABULARY_FILES",
    "Tokenized",
    "encode_cached",
    "encode_texts",
    "find_special_token",
    "load_tokenizer",
    "text_between",
]
