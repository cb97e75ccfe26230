"""What the checks find in data before anything is trained: facts, notes and warnings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from textune.config import RunConfig
from textune.config.defaults import choose_long_text, choose_max_length
from textune.errors import DataError
from textune.methods import longest_text
from textune.run.facts import describe_data, describe_facts
from textune.run.start import adopt_init, resolve_model
from textune.run.tables import PreparedData, prepare_data, tokenize
from textune.tasks import build_task
from textune.tokens import Tokenized, load_tokenizer


@dataclass(frozen=True)
class Inspection:
    """Checked data. facts: names and values, in the order in which they are shown."""

    prepared: PreparedData
    tokens: Tokenized
    facts: tuple[tuple[str, str], ...]


def inspect_data(config: RunConfig) -> Inspection:
    """Read, split, check and tokenize the data of a run; raise what `train` would raise about them.

    A few rows of a table, which leave none to evaluate on, are described with a warning.
    """
    config = adopt_init(config)  # a wrong option of the method is named before anything is read
    prepared = prepare_data(config)
    try:
        prepared.evaluation  # noqa: B018  raises if there are no rows to evaluate on
    except DataError as error:
        if 0 in (config.data.test_fraction, config.data.validation_fraction):
            raise
        warning = f"{error.message}, so that `train` refuses these {len(prepared.train)} rows: {error.hint}"
        prepared = replace(prepared, warnings=(*prepared.warnings, warning))
    task = build_task(prepared.task)
    task.check_settings(config.training)
    task.check_run(config)
    method, backbone = resolve_model(config)
    config, _ = choose_max_length(config, longest_text(method, backbone))
    config, long_text, _ = choose_long_text(config)
    tokens = tokenize(prepared.train, load_tokenizer(backbone.folder), config.tokens.max_length or 0, long_text)
    return Inspection(prepared, tokens, (*describe_data(prepared, tokens, long_text), *describe_facts(prepared)))
