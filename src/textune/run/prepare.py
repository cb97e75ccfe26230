"""The first steps of a run: find the backbone, read and check the rows, decide what was left open, tokenise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from textune.backbones import Backbone, resolve_backbone
from textune.backbones.families import describe_guess
from textune.backbones.pooling import Pooling, choose_pooling
from textune.config import POOLINGS, RunConfig
from textune.config.class_weights import weigh_classes
from textune.config.defaults import Decision, choose_long_text, choose_max_length, choose_training
from textune.data import MULTI
from textune.errors import ConfigError
from textune.methods import Method, check_family, check_length, longest_text
from textune.progress import Progress
from textune.run.tables import PreparedData, advise_on_cuts, count_labels, describe_data, encode_split, prepare_data


class PreparingSteps:
    """What a run is made of: settings, backbone, rows and tokens. It touches no run folder."""

    def __init__(self, config: RunConfig, method: Method, progress: Progress, frames: dict[str, Any]) -> None:
        self.config, self.method, self.progress, self.frames = config, method, progress, frames

    def prepare(self) -> None:
        """Finds the backbone, reads and checks the data, decides what was left open, tokenises."""
        config, progress = self.config, self.progress
        self.backbone = self._find_backbone()
        check_family(self.method, self.backbone.family)
        if self.backbone.family.guessed:
            progress.warn(describe_guess(self.backbone.family))
        self.data = self._read_data()
        for note in self.data.notes:
            progress.say(note)
        for warning in self.data.warnings:
            progress.warn(warning)
        self._check_threshold()
        config, decisions = choose_max_length(config, longest_text(self.method, self.backbone))
        config, self.long_text, about_length = choose_long_text(config)
        pooling, why = choose_pooling(
            config.model.pooling, self.backbone.family, self.backbone.config, self.backbone.folder
        )
        self.pooling = Pooling(pooling, self.method.tokens_before_text)
        about_pooling = [Decision("pooling", pooling, why)] if config.model.pooling is None else []
        if pooling in POOLINGS:
            config = replace(config, model=replace(config.model, pooling=pooling))
        config, more = choose_training(
            config,
            rows=len(self.data.train),
            classes=len(self.data.labels.names),
            method_rate=self.method.learning_rate,
            head_rate=self.method.head_learning_rate,
            solved=not self.method.trains_body,
            task=self.data.task,
        )
        config = replace(config, data=replace(config.data, task=self.data.task))
        self.weights = self._weigh_classes()
        self.config = config
        check_length(self.method, self.backbone, config.tokens.max_length)
        self._tokenise()
        self.facts = describe_data(self.data, self.train.tokens, self.long_text)
        for name, value in self.facts:
            progress.say(f"{name}: {value}")
        for decision in (*decisions, *about_length, *about_pooling, *more):
            progress.say(f"{decision.setting}: {decision} ({decision.reason})")
        if advice := advise_on_cuts(self.train.tokens, self.long_text):
            progress.warn(advice)
            self.data = replace(self.data, warnings=(*self.data.warnings, advice))

    def _find_backbone(self) -> Backbone:
        return resolve_backbone(self.config.model.backbone, trust=self.config.model.trust)

    def _read_data(self) -> PreparedData:
        return prepare_data(self.config, self.frames)

    def _check_threshold(self) -> None:
        if self.config.training.threshold is not None and self.data.task != MULTI:
            raise ConfigError(
                f"threshold={self.config.training.threshold:g}: with one label per text the most probable is given",
                hint="leave threshold= out, or set task=multi_label",
            )

    def _weigh_classes(self) -> np.ndarray[Any, Any] | None:
        data = self.data
        weights = weigh_classes(
            self.config.training.class_weights, count_labels(data.train, data.labels), len(data.train),
            data.labels.values, data.labels.names, multi_label=data.task == MULTI,
        )  # fmt: skip
        if weights is not None:
            own = weights[:, 1] / weights[:, 0] if weights.ndim == 2 else weights
            shown = ", ".join(f"{n} {w:.3g}" for n, w in zip(data.labels.names[:20], own, strict=False))
            self.progress.say(f"class weights: {shown}{', ...' if len(own) > 20 else ''}")
        return weights

    def _tokenise(self) -> None:
        from textune.tokens import load_tokenizer

        tokenizer, length = load_tokenizer(self.backbone.folder), self.config.tokens.max_length or 0
        labels = self.data.labels
        self.tokenizer = tokenizer
        self.train = encode_split(self.data.train, labels, tokenizer, length, self.long_text)
        validation = self.data.validation
        self.validation = (
            None if validation is None else encode_split(validation, labels, tokenizer, length, self.long_text)
        )
