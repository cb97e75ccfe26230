"""Settings: their names, types and limits, and one frozen RunConfig built from them with all problems at once.

Users see flat names (``learning_rate``, ``text``); in code they are grouped by the part that uses them. One left at
None is decided by rule (`textune.config.defaults`). A method's options (``method.*``) are for `textune.methods`.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from textune.config.aliases import resolve_aliases
from textune.config.class_weights import ClassWeights, parse_class_weights
from textune.config.long_text import LONG_TEXT_FORMS
from textune.config.options import data_option, option
from textune.config.rules import Costs, parse_abstain_rule, parse_costs, parse_threshold_rule
from textune.config.values import LabelPairs, RatePairs, coerce_option, parse_labels, parse_rates, show_value
from textune.errors import ConfigError, show_command, suggest

HEAD_INITS = ("probe", "random")
POOLINGS = ("first", "mean")
TASKS = ["single_label", "multi_label", "generation"]
"""What task= takes. `textune.tasks` has them by these names, and adds the name of each task registered there."""


@dataclass(frozen=True)
class DataConfig:
    """Settings of the tables and their columns."""

    data: str = option("", "training table: a file, a folder per class, hub:NAME or embedded:NAME")
    test: str | None = option(None, "test table; default: a share of the rows is held out")
    validation: str | None = option(None, "validation table; default: a share of the training rows is held out")
    text: tuple[str, ...] | None = data_option(
        "text column, or several to join (title,content), as a JSON list where a name has a comma; default: detected"
    )
    text_pair: str | None = data_option("second text column of a sentence pair; default: one text alone")
    task: str | None = option(
        None,
        "one label per text, any number, or an answer to write (generation); default: detected from the labels",
        choices=TASKS,
    )
    label: tuple[str, ...] | None = data_option(
        "label column, or several 0/1 columns, one per label (toxic,insult); default: detected"
    )
    label_separator: str = option("|", "separator between the labels in a cell of multi-label data")
    test_text: tuple[str, ...] | None = data_option("text columns of the test table, if different")
    test_text_pair: str | None = data_option("second text column of the test table, if different")
    test_label: tuple[str, ...] | None = data_option("label columns of the test table, if different")
    labels: LabelPairs | None = option(None, "labels in order, with names (0=negative,1=positive)")
    joiner: str = option(" ", "separator between joined text columns")
    group: str | None = data_option("column of groups; rows of one group stay in the same split")
    validation_fraction: float | None = option(None, "share of training rows for validation", low=0, high=0.9)
    test_fraction: float | None = option(None, "share of rows for the test, without a test table", low=0, high=0.9)
    split_seed: int | None = option(
        None,
        "seed of samples and splits, to use the same rows with different seeds; default: seed",
        low=0,
        high=2**31,
    )
    sample: str | None = option(None, "training rows to use: 1000 (random) or first:1000; default: all")
    validation_sample: str | None = option(None, "validation rows to use: 1000 (random) or first:1000; default: all")
    test_sample: str | None = option(None, "test rows to use: 1000 (random) or first:1000; default: all")
    encoding: str | None = option(None, "text encoding of the files; default: detected")
    delimiter: str | None = option(None, "column delimiter of the files; default: detected")
    fixes: str | None = option(
        None, "review file of textune errors, with labels filled in: they replace those of the tables"
    )
    row_hashes: bool = option(
        True, "keep hashes of the training rows in the run, so that evaluate can tell them from unseen rows"
    )


@dataclass(frozen=True)
class TokenConfig:
    """Settings of tokenization."""

    max_length: int | None = option(
        None, "tokens the model reads at once; for longer texts see long_text", low=4, high=1_000_000
    )
    long_text: str | None = option(
        None,
        "how to read texts longer than max_length: truncate (default) keeps the first tokens, "
        "head_tail the first and last, window reads all of it in overlapping windows",
        choices=LONG_TEXT_FORMS,
    )
    window_overlap: int | None = option(None, "tokens shared by neighboring windows", low=0, high=1_000_000)
    max_windows: int | None = option(None, "most windows per text; the rest is cut", low=1, high=10_000)
    head_fraction: float | None = option(None, "share of head_tail's tokens from the beginning", low=0, high=1)


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the pretrained model."""

    backbone: str | None = option(None, "minilm, a folder, or a model id on the hub; default: minilm, or that of init=")
    init: str | None = option(None, "run to continue from, with new data")
    pooling: str | None = option(
        None,
        "what an encoder's head reads: the first token or the mean over tokens; default: as the checkpoint was trained",
        choices=POOLINGS,
    )
    random_weights: tuple[str, ...] | None = option(
        None, "modules that the checkpoint lacks and that may start from random weights, besides the head"
    )
    trust: str | None = option(
        None,
        "exact name of a backbone whose Python code and pickle weights may be loaded in this call; no file can set it",
    )


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of training."""

    seed: int = option(42, "seed of samples, splits, new weights, row order and dropout", low=0, high=2**31)
    epochs: float | None = option(
        None, "passes over the training rows; 0: only solve the head, train nothing", low=0, high=10_000
    )
    batch_size: int | None = option(None, "rows per optimizer step, over all devices", low=1, high=65_536)
    micro_batch_size: int | None = option(
        None, "rows per forward pass; if smaller than batch_size, gradients are accumulated", low=1, high=65_536
    )
    head_init: str | None = option(
        None,
        "initial weights of a new head: probe (default) fits a logistic regression on frozen features, random",
        choices=HEAD_INITS,
    )
    learn_names: bool | None = option(
        None, "each class's name counts as one more text of it, if names alone beat chance; default: with few rows"
    )
    contrast_steps: int | None = option(
        None,
        "contrastive steps on pairs of texts before the head is solved (one label per text only); "
        "default: some for few rows of few classes",
        low=0,
        high=10**6,
    )
    learning_rate: float | None = option(None, "peak learning rate", low=0, high=10)
    head_learning_rate: float | None = option(None, "peak learning rate of the new head", low=0, high=10)
    layer_decay: float | None = option(
        None, "learning rate of each layer relative to the layer above it", low=0.01, high=1
    )
    layer_rates: RatePairs | None = option(
        None, "learning rates by layer: lower=5e-5,upper=1e-4, or embeddings=1e-5,0-2=5e-5"
    )
    weight_decay: float = option(0.0, "AdamW's weight decay, on matrices only", low=0, high=10)
    warmup_fraction: float = option(0.1, "share of steps in which the learning rate warms up", low=0, high=1)
    schedule: str = option("linear", "learning rate decay after warmup", choices=("linear", "cosine", "constant"))
    max_grad_norm: float = option(1.0, "clip gradients to this norm; 0: no clipping", low=0, high=1e9)
    dropout: float | None = option(None, "hidden and attention dropout during training", low=0, high=0.9)
    label_smoothing: float = option(0.0, "share of the target spread over all classes", low=0, high=0.9)
    class_weights: ClassWeights | None = option(
        None, "balanced, or a weight for every class (ham=1,spam=4); default: none"
    )
    threshold: float | None = option(
        None,
        "probability at which a label is assigned (multi-label); default: one per label, tuned on held-out rows",
        low=0,
        high=1,
    )
    threshold_for: str | None = option(
        None,
        "what thresholds are tuned for on held-out rows: f1, precision:0.95 (at least that precision) or "
        "recall:0.9; default: f1 with several labels per text, none with one",
    )
    threshold_label: str | None = data_option(
        "label that threshold_for= is about, with one label per text; default: the second of two"
    )
    costs: Costs | None = option(
        None,
        "costs of errors, true:predicted (ham:spam=5,spam:ham=1) or, with several labels per text, label:missed and "
        "label:wrong; or a .yaml, .json or .csv file; an error without a cost costs 1",
    )
    abstain_for: str | None = option(
        None,
        "accuracy that abstaining keeps in predictions (accuracy:0.95), reached on held-out rows; default: none",
    )
    set_coverage: float | None = option(
        None, "share of true labels that prediction sets hold; default: 0.9", low=0.5, high=0.999
    )
    metric: str | None = option(
        None, "validation metric that selects the best checkpoint", choices=("accuracy", "macro_f1", "micro_f1", "loss")
    )
    patience: int | None = option(None, "stop after this many evaluations without improvement", low=1, high=10_000)
    eval_every_steps: int | None = option(
        None, "steps between evaluations; default: one epoch, at most a quarter of all steps", low=1, high=10**9
    )
    checkpoint_every_steps: int | None = option(
        None, "steps between checkpoints; default: at evaluations and every two minutes", low=1, high=10**9
    )
    precision: str = option("auto", "precision of the frozen base model", choices=("auto", "fp32", "bf16"))
    device: str = option("auto", "device to train on", choices=("auto", "cpu", "cuda", "mps"))
    engine: str = option(
        "auto",
        "forward pass: lean (packed, BERT-like models) or reference (transformers); auto: lean if supported",
        choices=("auto", "lean", "reference"),
    )
    max_tokens: int | None = option(
        None, "most tokens per training pass, with padding; default: as memory allows", low=16, high=10_000_000
    )
    prefix_cache: bool = option(
        True,
        "compute layers without trained weights once and cache their output on disk for all epochs (lean engine)",
    )
    threads: int | None = option(None, "CPU threads", low=1, high=4096)
    tensorboard: bool = option(False, "also write TensorBoard event files")


@dataclass(frozen=True)
class WritingConfig:
    """Settings of models that write their answers (task=generation); None: by rule, as with every other task."""

    prompt: str | None = data_option("column of prompts (task=generation); default: detected")
    completion: str | None = data_option("column of answers to learn (task=generation); default: detected")
    messages: str | None = data_option("column of chats, lists of {role, content} (task=generation); default: detected")
    chat_template: str | None = option(
        None,
        "chat template: a file, or Jinja text; plain: none, prompt and answer as they are; default: the tokenizer's",
    )
    max_new_tokens: int | None = option(
        None, "most tokens of a written answer; default: the longest training answer and some more", low=1, high=100_000
    )
    temperature: float | None = option(
        None, "temperature of sampled answers; default: 0, the most likely token each time", low=0, high=100
    )
    top_p: float | None = option(
        None, "sample from the most likely tokens that have this share of the probability", low=0.001, high=1
    )
    packing: bool | None = option(
        None,
        "several short rows in one row of a forward pass, none of which sees the others (task=generation); "
        "default: where it saves a tenth of the tokens",
    )
    answer_rows: int | None = option(
        None,
        "evaluation rows for which answers are written; the loss is over all rows; default: 100",
        low=1,
        high=10**9,
    )


@dataclass(frozen=True)
class MethodConfig:
    """The tuning method's name and options, unchecked until `textune.methods.resolve`. name: None if open."""

    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunConfig:
    """All settings of one run."""

    data: DataConfig = field(default_factory=DataConfig)
    tokens: TokenConfig = field(default_factory=TokenConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    writing: WritingConfig = field(default_factory=WritingConfig)
    name: str | None = None
    runs_dir: str = "runs"

    @property
    def split_seed(self) -> int:
        """The seed of samples and splits."""
        return self.training.seed if self.data.split_seed is None else self.data.split_seed

    def to_dict(self) -> dict[str, Any]:
        """Return flat settings for `build_config` and YAML."""
        flat: dict[str, Any] = {}
        for group in (name for name in _GROUPS if name != "writing"):
            flat |= {f.name: getattr(getattr(self, group), f.name) for f in _fields_of(group)}
        written = {f.name: getattr(self.writing, f.name) for f in dataclasses.fields(WritingConfig)}
        flat |= {key: value for key, value in written.items() if value is not None}
        named = {} if self.method.name is None else {"name": self.method.name}
        flat["method"] = {**named, **self.method.options} or None
        flat |= {"name": self.name, "runs_dir": self.runs_dir}
        return {key: _plain(value) for key, value in flat.items()}

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide what is trained, without name, folder, logging and trust."""
        flat = self.to_dict()
        return {k: v for k, v in flat.items() if k not in _NOT_TRAINED and (v is not None or k not in _ADDED_LATER)}

    def replace(self, **flat: Any) -> RunConfig:
        """Return a copy with flat settings replaced; raise ConfigError like `build_config`."""
        return build_config(self.to_dict() | flat)


_GROUPS: dict[str, type] = {
    "data": DataConfig,
    "tokens": TokenConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
    "writing": WritingConfig,
}
_TOP_LEVEL = ("name", "runs_dir")
NEVER_STORED = ("trust",)
"""Settings that only the call itself can set: a received file must not decide which code runs here."""
_ADDED_LATER = ("threshold_for", "threshold_label", "costs", "abstain_for", "set_coverage", "learn_names")
"""Settings that are left out of a run's identity while they are open, so that names of runs stay what they were."""
_NOT_TRAINED = (*_TOP_LEVEL, "tensorboard", "row_hashes", *NEVER_STORED)


def _fields_of(group: str) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(_GROUPS[group])


def known_settings() -> dict[str, str]:
    """Return the flat name and help text of every setting, group by group."""
    known = {f.name: f.metadata["help"] for group in _GROUPS for f in _fields_of(group)}
    return known | {
        "method": "tuning method; set its options with method.OPTION",
        "name": "name of the run's folder; default: built from data, backbone, method and seed",
        "runs_dir": "folder for runs",
    }


def setting_type(name: str) -> Any:
    """Return the declared type of a setting, such as `int | None`; None for a name that is no setting."""
    return next((hints[name] for kind in _GROUPS.values() if name in (hints := typing.get_type_hints(kind))), None)


def build_config(flat: Mapping[str, Any]) -> RunConfig:
    """Build a RunConfig from flat settings; raise one ConfigError that lists every problem."""
    flat = resolve_aliases(flat)
    problems: list[str] = []
    known = known_settings()
    problems += [f"unknown setting '{k}'{suggest(k, known)}" for k in flat if k not in known]
    groups: dict[str, Any] = {}
    for group, kind in _GROUPS.items():
        hints = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for f in dataclasses.fields(kind):
            if f.name not in flat:
                continue
            try:
                values[f.name] = coerce_option(f.metadata, hints[f.name], flat[f.name], PARSERS.get(f.name))
            except (ValueError, TypeError) as error:
                problems.append(f"{f.name}={show_value(flat[f.name])}: {error}")
        groups[group] = values
    top: dict[str, str | None] = dict.fromkeys(_TOP_LEVEL)
    for name, value in ((name, flat[name]) for name in _TOP_LEVEL if flat.get(name) is not None):
        top[name] = str(value) if isinstance(value, PurePath) else value
        if not isinstance(top[name], str) or "\0" in str(value):
            problems.append(f"{name}={show_value(value)}: must be text without NUL characters")
    method = method_mapping(flat.get("method"))
    if not isinstance(method.get("name"), str | None):
        problems.append(f"method={show_value(method['name'])}: must be a method's name")
    refuse(problems)
    return RunConfig(
        **{group: _GROUPS[group](**values) for group, values in groups.items()},
        method=MethodConfig(method.pop("name", None), method),
        name=top["name"],
        runs_dir=top["runs_dir"] or "runs",
    )


def refuse(problems: list[str]) -> None:
    """Raise one ConfigError with all problems, if there are any."""
    if problems:
        count = f"{len(problems)} invalid settings:\n  " if len(problems) > 1 else ""
        hint = f"list every setting with: {show_command('settings')}"
        raise ConfigError(count + "\n  ".join(problems), hint=hint)


def method_mapping(value: Any) -> dict[str, Any]:
    """Return the method's name and options, from a name or a mapping; raise ConfigError for anything else."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping):
        return dict(value)
    raise ConfigError(f"method={show_value(value)}: must be a name or a mapping with 'name'")


def _plain(value: Any) -> Any:
    """Turn tuples into lists for YAML and JSON."""
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "labels": parse_labels,
    "layer_rates": parse_rates,
    "class_weights": parse_class_weights,
    "threshold_for": parse_threshold_rule,
    "costs": parse_costs,
    "abstain_for": parse_abstain_rule,
}
"""Parsers of settings with their own syntax."""
