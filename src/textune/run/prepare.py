"""The first of a run's four functions: find the backbone, read and check the rows, decide open settings, tokenize."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from textune.backbones import Backbone, resolve_backbone
from textune.backbones.checks import check_tokenizer, describe_unknown, measure_unknown
from textune.backbones.families import describe_guess
from textune.backbones.pooling import Pooling, choose_pooling
from textune.config import LongText, RunConfig
from textune.config.defaults import (
    Decision,
    choose_long_text,
    choose_max_length,
    choose_training,
    fill_in_model,
    warn_of_unused,
)
from textune.config.schema import POOLINGS
from textune.data import Examples, split_folds
from textune.errors import ConfigError
from textune.inference.generation import find_room
from textune.methods import Method, longest_text
from textune.progress import Progress
from textune.run.facts import advise_on_cuts, describe_data, list_answer_warnings
from textune.run.held_out import (
    Folds,
    assign_folds,
    build_probe_loss,
    is_probe,
    list_unseen_targets,
    trains_twice_more,
)
from textune.run.packing import choose_packing
from textune.run.start import resolve_model
from textune.run.tables import PreparedData, decides_on_rows, encode_dialogues, encode_split, prepare_data
from textune.tasks import Objective, ProbeLoss, Task, build_task, refuse_few_rows, request_decisions
from textune.tokens import load_tokenizer
from textune.tokens.batches import EncodedSplit, Padding
from textune.tokens.dialogues import Dialogues, count_answers, list_stops, open_dialogues
from textune.training.names import encode_names

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")
_OF_HEADS = ("head_init", "head_learning_rate", "learn_names", "contrast_steps")
"""Settings that a model without a new head has no use for."""
_NO_NAMES_OF_PAIRS = "the rows are pairs of texts, and a name is a single one"


class Shared:
    """What runs of one process have in common and need only once: backbones, rows, tokens, first scores.

    frames: data frames from Python, by the setting whose place they take: data, validation, test.
    """

    def __init__(self, frames: Mapping[str, Any] | None = None) -> None:
        self.frames = dict(frames or {})

    def keep(self, key: str, build: Callable[[], T]) -> T:
        """Return what `build` gives. A search remembers it under the key."""
        return build()


@dataclass(frozen=True)
class Sample:
    """Which rows of the tables a run uses. fold: (which, of how many) validates; hold_test: the test stays shut.

    winner: the rows are split as for a run of its own, which the best trial of a search becomes.
    """

    fold: tuple[int, int] | None = None
    hold_test: bool = False
    winner: bool = False


@dataclass(frozen=True)
class Prepared:
    """Everything a run is made of before its first step.

    config: with every open setting decided. train, validation: tokenized. class_weights: float32 [classes], or
    [classes, 2] with several labels per text. facts: what a report says of the data. dialogues: how a model that writes
    reads prompts and answers. names: class names as texts, where the head is solved with them.
    """

    config: RunConfig
    method: Method
    backbone: Backbone
    data: PreparedData
    pooling: Pooling
    long_text: LongText
    class_weights: NDArray[np.float32] | None
    tokenizer: Tokenizer
    train: EncodedSplit
    validation: EncodedSplit | None
    facts: list[tuple[str, str]]
    dialogues: Dialogues | None = None
    names: EncodedSplit | None = None

    @property
    def classes(self) -> int:
        """The number of labels."""
        return len(self.data.labels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The labels that a new head gives; none for a model that writes."""
        return () if self.task.writes else self.data.labels.names

    @property
    def padding(self) -> Padding:
        """How the backbone wants short rows filled up."""
        return self.backbone.padding

    @property
    def task(self) -> Task:
        """What is learned, with nothing tuned yet."""
        task = build_task(self.data.task, fixed=self.config.training.threshold)
        task = task.with_packing(self.config.writing.packing)
        return task.with_decisions(request_decisions(task, self.config.training, self.data.labels))

    @property
    def objective(self) -> Objective:
        """What training minimizes and validation rows are scored by."""
        return self.task.build_objective(self.config.training, self.class_weights)

    @property
    def calibrates_out_of_fold(self) -> bool:
        """Whether the run trains twice more, on half of its rows each, to be calibrated."""
        return trains_twice_more(self.task, self.config, self.method, self.backbone, self.data)

    @property
    def tunes_out_of_fold(self) -> bool:
        """Whether temperature, thresholds and the like come from training rows, answered out of fold."""
        return self.calibrates_out_of_fold or (self.is_probe and self.data.validation is None)

    @property
    def is_probe(self) -> bool:
        """Whether the run is the linear probe and nothing more."""
        return is_probe(self.config, self.method)

    @cached_property
    def probe_loss(self) -> ProbeLoss:
        """What the solved head minimizes."""
        return build_probe_loss(self.task, self.config, self.data, self.class_weights)

    @property
    def is_one_group(self) -> bool:
        """Whether no row can be answered by a model that knows nothing of its group."""
        return self.config.data.group is not None and self.probe_loss.fold_of is None

    def assign_folds(self) -> Folds:
        """Divide the training rows into halves that answer each other; raises DataError where that says nothing."""
        return assign_folds(self.task, self.config, self.data)

    def encode(self, examples: Examples) -> EncodedSplit:
        """Tokenize other rows as those of training."""
        length = self.config.tokens.max_length or 0
        if self.dialogues is not None:
            return encode_dialogues(examples, self.dialogues, length)
        return encode_split(examples, self.data.labels, self.tokenizer, length, self.long_text)


def prepare(
    config: RunConfig, progress: Progress, shared: Shared | None = None, sample: Sample | None = None
) -> Prepared:
    """Read and check everything, decide open settings and tokenize; touch no run folder.

    Raises ConfigError, DataError or ModelError.
    """
    shared, sample = shared or Shared(), sample or Sample()
    config = fill_in_model(config)
    method, backbone = resolve_model(
        config,
        lambda name, trust: shared.keep(f"backbone {name} {trust}", lambda: resolve_backbone(name, trust=trust)),
    )
    if backbone.family.guessed:
        progress.warn(describe_guess(backbone.family))
    _refuse_idle_patience(config, shared.frames)
    data = read_rows(config, shared, sample)
    for note in data.notes:
        progress.say(note)
    for warning in data.warnings:
        progress.warn(warning)
    task = build_task(data.task)
    task.check_settings(config.training)
    asked = task.with_decisions(request_decisions(task, config.training, data.labels))
    method = method.for_task(task)
    task.check_run(config)
    backbone = replace(backbone, family=task.fit_family(backbone.family))
    config, decisions = choose_max_length(config, longest_text(method, backbone))
    config, long_text, about_length = choose_long_text(config)
    form, reason = choose_pooling(config.model.pooling, backbone.family, backbone.config, backbone.folder)
    about_pooling = [Decision("pooling", form, reason)] if config.model.pooling is None and not task.writes else []
    if form in POOLINGS:
        config = replace(config, model=replace(config.model, pooling=form))
    asked_for = config
    config, about_training = choose_training(
        config,
        rows=data.rule_rows,
        classes=len(data.labels.names),
        method_rate=method.learning_rate,
        head_rate=method.head_learning_rate,
        solved=not method.trains_body,
        task=task.defaults if data.columns.text_pair is None else replace(task.defaults, no_names=_NO_NAMES_OF_PAIRS),
    )
    if task.writes:
        about_training = [d for d in about_training if d.setting not in _OF_HEADS]
    list_targets = partial(list_unseen_targets, asked, config, method, backbone, data)
    if sample.winner or not sample.hold_test:  # trials are compared without these decisions
        refuse_few_rows(asked, config.training, list_targets, data.labels.names)
    config = replace(config, data=replace(config.data, task=data.task))
    class_weights = _weigh_classes(config, data, progress)
    tokenizer, dialogues, train, validation = _tokenize(config, data, backbone, long_text, shared)
    config, about_answers = choose_answer_length(config, dialogues, train, backbone.max_positions)
    if task.writes:
        config, about_packing = choose_packing(config, backbone.family, method, train.tokens)
        about_answers += about_packing
    if (names := config.model.random_weights) and config.model.init is None:
        notice = f"{', '.join(names)}: from random weights, which random_weights= allows; the rest is pretrained"
        progress.warn(notice)
        data = replace(data, warnings=(*data.warnings, notice))
    if doubt := describe_unknown(backbone.id, measure_unknown(tokenizer, train.tokens)):
        progress.warn(doubt)
        data = replace(data, warnings=(*data.warnings, doubt))
    for warning in () if dialogues is None else list_answer_warnings(data.train, train.tokens, dialogues):
        progress.warn(warning)
        data = replace(data, warnings=(*data.warnings, warning))
    if dialogues is not None and not dialogues.stops:
        endless = (
            f"backbone {backbone.id}: neither its config nor its tokenizer names a token that ends a text (eos_token), "
            "so answers end at max_new_tokens alone"
        )
        progress.warn(endless)
        data = replace(data, warnings=(*data.warnings, endless))
    facts = describe_data(data, train.tokens, long_text)
    for name, value in facts:
        progress.say(f"{name}: {value}")
    for decision in (*decisions, *about_length, *about_pooling, *about_training, *about_answers):
        progress.say(f"{decision.setting}: {decision} ({decision.reason})")
    if not sample.hold_test and (unused := warn_of_unused(asked_for, config)):  # a search says what it tries in vain
        progress.warn(unused)
    if not sample.hold_test and (idle := _describe_idle_metric(asked_for, validation)):
        progress.warn(idle)
    if advice := advise_on_cuts(train.tokens, long_text):
        progress.warn(advice)
        data = replace(data, warnings=(*data.warnings, advice))
    return Prepared(
        config=config,
        method=method,
        backbone=backbone,
        data=data,
        pooling=Pooling(form, method.tokens_before_text),
        long_text=long_text,
        class_weights=class_weights,
        tokenizer=tokenizer,
        train=train,
        validation=validation,
        facts=facts,
        dialogues=dialogues,
        names=encode_names(tokenizer, data.labels.names, config.tokens.max_length or 0)
        if config.training.learn_names
        else None,
    )


def _refuse_idle_patience(config: RunConfig, frames: Mapping[str, Any]) -> None:
    """Raise ConfigError where patience= is set and no rows are held out that could end a training."""
    given = config.data.validation is not None or frames.get("validation") is not None
    if config.training.patience is not None and config.data.validation_fraction == 0 and not given:
        raise ConfigError(
            f"patience={config.training.patience}: needs validation rows, and validation_fraction=0 holds out none",
            hint="give a validation table, or a larger validation_fraction=; or leave patience= out",
        )


def _describe_idle_metric(config: RunConfig, validation: EncodedSplit | None) -> str:
    """Return a warning where metric= is set and no rows are held out that it could rank checkpoints by."""
    if config.training.metric is None or validation is not None:
        return ""
    return (
        f"metric={config.training.metric} has no effect: no rows are held out for validation, so the last weights are "
        "kept (set validation_fraction=, or give a validation table)"
    )


def read_rows(config: RunConfig, shared: Shared, sample: Sample) -> PreparedData:
    """Read, split and check the rows; raises DataError where they do not suffice."""
    pool, patient = sample.fold is not None, config.training.patience is not None
    deciding = [decides_on_rows(config, sets=sets) for sets in (False, True)]
    held = {"hold_test": sample.hold_test, "pool": pool, "winner": sample.winner}
    key = f"data {vars(config.data)} {config.training.seed} {patient} {deciding} {held}"
    data = shared.keep(key, lambda: prepare_data(config, shared.frames, **held))
    if sample.fold is None:
        return data
    which, folds = sample.fold
    return shared.keep(f"{key} fold {which} of {folds}", lambda: _take_fold(data, config, which, folds))


def _take_fold(data: PreparedData, config: RunConfig, which: int, folds: int) -> PreparedData:
    """Return the rows with one fold of them as validation rows, and all others to train on."""
    fold_of = split_folds(data.train, folds, config.split_seed, grouped=config.data.group is not None)
    train, validation = (data.train.take(np.flatnonzero(chosen)) for chosen in (fold_of != which, fold_of == which))
    return replace(data, train=train, validation=validation, pool=data.train, warnings=(), notes=())


def _weigh_classes(config: RunConfig, data: PreparedData, progress: Progress) -> NDArray[np.float32] | None:
    task, rows = build_task(data.task), data.train if data.pool is None else data.pool
    counts = task.count_labels(data.labels, rows)
    weights = task.weigh(config.training.class_weights, counts, len(rows), data.labels)
    if weights is not None:
        ratios = weights[:, 1] / weights[:, 0] if weights.ndim == 2 else weights
        shown = ", ".join(f"{name} {ratio:.3g}" for name, ratio in zip(data.labels.names[:20], ratios, strict=False))
        progress.say(f"class weights: {shown}{', ...' if len(ratios) > 20 else ''}")
    return weights


def _tokenize(
    config: RunConfig, data: PreparedData, backbone: Backbone, long_text: LongText, shared: Shared
) -> tuple[Tokenizer, Dialogues | None, EncodedSplit, EncodedSplit | None]:
    length, task = config.tokens.max_length or 0, build_task(data.task)

    def tokenize() -> tuple[Tokenizer, Dialogues | None, EncodedSplit, EncodedSplit | None]:
        tokenizer = load_tokenizer(backbone.folder)
        check_tokenizer(backbone.id, backbone.family, backbone.config, tokenizer)
        stops = list_stops(backbone.config, backbone.folder)
        dialogues = task.open_dialogues(
            config, lambda template: open_dialogues(backbone.folder, tokenizer, stops, template)
        )
        dialogues = dialogues and dialogues.without_thinking(data.train.labels() or [])

        def encode(split: Examples) -> EncodedSplit:
            if dialogues is not None:
                return encode_dialogues(split, dialogues, length)
            return encode_split(split, data.labels, tokenizer, length, long_text)

        encoded = encode(data.train), None if data.validation is None else encode(data.validation)
        if dialogues is not None and data.test is not None:  # a chat that cannot be written is told before training
            dialogues.check_rows(data.test.texts(), data.test.labels() or [], data.test.places())
        return tokenizer, dialogues, *encoded

    form = (length, long_text, data.task, config.writing.chat_template)
    return shared.keep(f"tokens {list_fingerprints(data)} {backbone.folder} {form}", tokenize)


def choose_answer_length(
    config: RunConfig, dialogues: Dialogues | None, train: EncodedSplit, max_positions: int
) -> tuple[RunConfig, list[Decision]]:
    """Decide max_new_tokens of a model that writes: the longest training answer and a quarter more.

    Where positions are few, the longest training prompt goes before what is more. Raises ConfigError for a set value
    that leaves no prompt any room.
    """
    if dialogues is None:
        return config, []
    if config.writing.max_new_tokens is not None:
        find_room(config.writing.max_new_tokens, max_positions)
        return config, []
    answers = count_answers(train.tokens)
    longest, prompt = int(answers.max(initial=1)), int((train.tokens.lengths - answers).max(initial=1))
    more, room = longest + longest // 4 + 8, max_positions - prompt
    value = max(min(max(min(more, room), longest), max_positions - 1), 1)
    reason = f"the longest training answer has {longest} tokens"
    if room < more:
        reason += f", the longest prompt {prompt}, and the model {max_positions} positions"
    decided = replace(config, writing=replace(config.writing, max_new_tokens=value))
    return decided, [Decision("max_new_tokens", value, reason)]


def list_fingerprints(data: PreparedData) -> list[str | None]:
    """Return the fingerprints of training and validation rows."""
    return [None if split is None else split.fingerprint for split in (data.train, data.validation)]
