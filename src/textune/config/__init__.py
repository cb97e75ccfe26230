"""Settings: their schema, parsing from text and YAML, and the rules for settings left open."""

from textune.config.long_text import TRUNCATE, LongText
from textune.config.options import option
from textune.config.schema import (
    POOLINGS,
    DataConfig,
    ModelConfig,
    RunConfig,
    TokenConfig,
    TrainingConfig,
    WritingConfig,
    build_config,
    known_settings,
    setting_type,
)
from textune.config.sources import (
    list_call_words,
    list_stored,
    load_given_settings,
    load_settings,
    merge_settings,
    parse_settings,
    write_settings,
)
from textune.config.used import USED, build_used
from textune.config.values import parse_labels, show_names, write_names
from textune.config.yaml_text import load_yaml

__all__ = [
    "DataConfig",
    "WritingConfig",
    "LongText",
    "ModelConfig",
    "POOLINGS",
    "RunConfig",
    "TRUNCATE",
    "TokenConfig",
    "TrainingConfig",
    "USED",
    "build_config",
    "build_used",
    "known_settings",
    "list_call_words",
    "list_stored",
    "load_given_settings",
    "load_settings",
    "load_yaml",
    "merge_settings",
    "option",
    "parse_labels",
    "parse_settings",
    "setting_type",
    "show_names",
    "write_names",
    "write_settings",
]
