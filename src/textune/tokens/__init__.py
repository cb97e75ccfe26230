"""Tokenize texts and build batches. No torch here."""

from textune.tokens.tokenize import (
    Tokenized,
    encode_cached,
    encode_texts,
    find_special_token,
    load_tokenizer,
    text_between,
)

__all__ = ["Tokenized", "encode_cached", "encode_texts", "find_special_token", "load_tokenizer", "text_between"]
