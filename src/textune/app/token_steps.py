"""How a text becomes numbers, step by step, for the page Learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_CHARACTERS = 2_000


@dataclass(frozen=True)
class Token:
    """A token. special: added around the text. read: within the length that the model is given."""

    text: str
    id: int
    special: bool
    read: bool


@dataclass(frozen=True)
class Steps:
    """The steps of a text. cleaned: after normalizing. words: after the split into words. tokens: of the whole text.

    row: what the model gets, padding included, as (token, id, kind). mask: 1 for what it reads.
    """

    cleaned: str
    words: tuple[str, ...]
    tokens: tuple[Token, ...]
    row: tuple[Token, ...]
    padding: int
    mask: tuple[int, ...]

    @property
    def cut(self) -> int:
        """Tokens of the text that are left out."""
        return sum(not token.read for token in self.tokens)


def follow_text(tokenizer: Tokenizer, text: str, length: int, pad: tuple[str, int]) -> Steps:
    """Return what a tokenizer does with a text. length: of the row for the model. pad: token and id of padding."""
    text = text[:MOST_CHARACTERS]
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    cleaned = text if normalizer is None else str(normalizer.normalize_str(text))
    words = [cleaned] if splitter is None else [word for word, _ in splitter.pre_tokenize_str(cleaned)]
    whole = tokenizer.encode(text)
    special = [bool(each) for each in whole.special_tokens_mask]
    room = max(length - sum(special), 0)
    read, left = [], room
    for added in special:
        read.append(added or left > 0)
        left -= not added
    tokens = tuple(
        Token(name, number, added, taken)
        for name, number, added, taken in zip(whole.tokens, whole.ids, special, read, strict=True)
    )
    row = tuple(token for token in tokens if token.read)
    padding = max(length - len(row), 0)
    row += (Token(pad[0], pad[1], True, False),) * padding
    return Steps(cleaned, tuple(words), tokens, row, padding, (1,) * (len(row) - padding) + (0,) * padding)


@st.cache_resource(max_entries=4, show_spinner="Loading the tokenizer")  # type: ignore[untyped-decorator]
def open_tokenizer(place: str | None) -> tuple[Tokenizer, tuple[str, int], str]:
    """Return a tokenizer, its padding token with its id, and the model's name. place: of a run; None: the default.

    It neither truncates nor pads. Callers share it and must not change that.
    """
    from textune.tokens import load_tokenizer

    if place is None:
        from textune.backbones import resolve_backbone
        from textune.config import build_config
        from textune.config.defaults import choose_backbone

        backbone = resolve_backbone(choose_backbone(build_config({})))
        folder, name, number = backbone.folder, backbone.id, backbone.padding.pad_token_id
    else:
        from textune.bundle import read_manifest

        manifest = read_manifest(place, verify=False)
        folder, name, number = Path(place), manifest.base_model.id, manifest.pad_token_id
    tokenizer = load_tokenizer(folder)
    return tokenizer, (tokenizer.id_to_token(number) or "padding", number), name
