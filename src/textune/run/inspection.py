"""What the checks find in data before anything is trained: facts, notes and warnings."""

from __future__ import annotations

from dataclasses import dataclass

from textune.backbones import resolve_backbone
from textune.config import RunConfig
from textune.config.defaults import choose_backbone, choose_long_text, choose_max_length, choose_method
from textune.methods import resolve
from textune.run.facts import describe_data, describe_facts
from textune.run.tables import PreparedData, prepare_data, tokenize
from textune.tokens import Tokenized, load_tokenizer


@dataclass(frozen=True)
class Inspection:
    """Checked data. facts: names and values, in the order in which they are shown."""

    prepared: PreparedData
    tokens: Tokenized
    facts: tuple[tuple[str, str], ...]


def inspect_data(config: RunConfig) -> Inspection:
    """Read, split, check and tokenize the data of a run; raise what `train` would raise about them."""
    resolve(choose_method(config), config.method.options)  # a wrong option is named before anything is read
    prepared = prepare_data(config)
    backbone = resolve_backbone(choose_backbone(config), trust=config.model.trust)
    config, _ = choose_max_length(config, backbone.max_positions)
    config, long_text, _ = choose_long_text(config)
    tokens = tokenize(prepared.train, load_tokenizer(backbone.folder), config.tokens.max_length or 0, long_text)
    return Inspection(prepared, tokens, (*describe_data(prepared, tokens, long_text), *describe_facts(prepared)))
