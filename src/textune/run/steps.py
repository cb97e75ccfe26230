"""The steps of one run in their order: prepare, train, save, prove the reload, measure."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune import cache
from textune.backbones import load_classifier, remember_local
from textune.bundle import PLAN, SETTINGS, Manifest
from textune.config import RunConfig, write_settings
from textune.data import MULTI, Examples
from textune.evaluation import build_task
from textune.files import read_json_lines, write_text_atomically
from textune.inference import Predictor, padding_of
from textune.methods import Method, Rates
from textune.progress import Progress, format_seconds
from textune.run.calibrate import Calibration, HeldOut, calibrate
from textune.run.costs import Costs, describe_run
from textune.run.evaluate import count_test_reads, measure_run, peak_memory_mb, summarise_figures, write_evaluation
from textune.run.prepare import PreparingSteps
from textune.run.save import (
    check_reload,
    count_parameters,
    list_versions,
    update_manifest,
    weight_megabytes,
    write_bundle,
)
from textune.run.start import hash_plan, refuse_changes
from textune.run.tables import encode_split
from textune.run.untuned import UntunedBackbone
from textune.training.head import MOST_ROWS, MOST_ROWS_ALONE, PROBE, straighten_hidden_layer
from textune.training.probe import FOLDS, Loss, Probe

if TYPE_CHECKING:
    import torch

    from textune.engine import Engine, Precision
    from textune.tokens import Tokenized
    from textune.tokens.batches import EncodedSplit
    from textune.training.objective import Objective
    from textune.training.trainer import Trainer, TrainingResult


@dataclass(frozen=True)
class _Model:
    """A model made ready for training, and what it is made of."""

    module: torch.nn.Module
    new_modules: tuple[str, ...]


@dataclass(frozen=True)
class Opened:
    """All that training needs, and the plan that a resume must find unchanged.

    prefix_seconds: what computing the frozen layers took, before the first step.
    """

    model: _Model
    engine: Engine
    trainer: Trainer
    plan: Mapping[str, Any]
    prefix_seconds: float = 0.0


def _describe_best(result: TrainingResult) -> str:
    """Return which weights are kept, where they are not the last ones."""
    if result.best_step == result.steps:
        return ""
    if result.best_step == 0:
        return "; tuning did not beat the solved head on the validation rows, so that head is kept"
    return f"; the best weights are those of step {result.best_step}"


class RunSteps(PreparingSteps):
    """The steps of one run in their order; `prepare` touches no run folder."""

    def __init__(self, config: RunConfig, method: Method, progress: Progress, frames: dict[str, Any]) -> None:
        super().__init__(config, method, progress, frames)
        self.started = time.monotonic()
        self.probe: Probe | None = None
        self.probe_seconds = 0.0

    def execute(self, folder: Path, plan: Mapping[str, Any] | None) -> None:
        """Trains, saves, tests the reload, measures and reports. plan: of the run that is resumed."""
        manifest, seconds = self.train_and_save(folder, plan)
        self.measure(folder, manifest, seconds, resumed=plan is not None)

    def train_and_save(self, folder: Path, plan: Mapping[str, Any] | None) -> tuple[Manifest, float]:
        """Trains, saves and tests the reload; returns the manifest and the seconds of training."""
        opened, result = self.run_training(folder, plan)
        decision = self._calibrate(opened.engine)
        opened.engine.release()
        return self.save(folder, opened, decision), opened.prefix_seconds + result.seconds

    def run_training(
        self, folder: Path, plan: Mapping[str, Any] | None, *, until_epoch: float | None = None
    ) -> tuple[Opened, TrainingResult]:
        """Trains, or goes on, and leaves checkpoints and the log in the folder.

        until_epoch: pause at the first evaluation from there on; a later call goes on exactly.
        """
        opened = self.open_trainer(folder, plan)
        result = opened.trainer.run(until_epoch, lambda: self._look_first(opened.trainer))
        self.progress.say(
            f"trained {result.steps} steps in {format_seconds(opened.prefix_seconds + result.seconds)}"
            + (", stopped early" if result.stopped_early else "")
            + _describe_best(result)
        )
        return opened, result

    def _look_first(self, trainer: Trainer) -> Mapping[str, float]:
        """Returns the scores of the validation rows before the first step."""
        return trainer.measure()[0]

    def open_trainer(self, folder: Path, plan: Mapping[str, Any] | None) -> Opened:
        """Builds model, engine and trainer as the plan says, or makes and writes a plan. plan: of a resumed run."""
        import torch

        from textune.engine import Precision, choose_prefix, probe_engine, probe_precision
        from textune.training.device import open_accelerator
        from textune.training.trainer import Trainer

        config, progress = self.config, self.progress
        accelerator = open_accelerator(config.training.device)
        device = accelerator.device
        threads = config.training.threads if plan is None else int(plan["threads"])
        if threads:
            torch.set_num_threads(threads)
        if plan is None:
            precision = probe_precision(config.training.precision, device)
            plan = self._plan(vars(precision), None, torch.get_num_threads(), device.type)
            write_text_atomically(folder / PLAN, json.dumps(plan, indent=2) + "\n")
            write_settings(config, folder / SETTINGS)
        else:
            self._check_plan(plan, device.type)
            precision = Precision(**plan["precision"])
        model = self._build_model()
        splits = [split.tokens for split in (self.train, self.validation) if split is not None]
        engine, reason = self._open_engine(model.module.to(device), precision)
        if plan["engine"] is None:  # the engine can be asked only when there is a model
            probes = probe_engine(engine, config.tokens.max_length or 0, config.training.max_tokens)
            kept = choose_prefix(engine, splits, self._count_passes()) if config.training.prefix_cache else 0
            probes["prefix_layers"] = kept
            plan = dict(plan) | {"engine": probes}
            write_text_atomically(folder / PLAN, json.dumps(plan, indent=2) + "\n")
        engine.adopt(plan["engine"])
        trainable, total = count_parameters(model.module)
        progress.say(
            f"model: {self.backbone.id} with {self.method.key}, {trainable:,} of {total:,} parameters trainable "
            f"({trainable / total:.2%}), {precision.name} on {device.type} ({precision.reason}), {engine.name} engine "
            f"({reason}), at most {plan['engine']['max_tokens']:,} tokens at once"
        )
        training = config.training
        rates = Rates(
            training.learning_rate or 0.0, training.head_learning_rate or 0.0, training.weight_decay,
            training.layer_decay, training.layer_rates or (),
        )  # fmt: skip
        beforehand = self._keep_frozen(engine, splits, int(plan["engine"].get("prefix_layers", 0)))
        groups = self.method.param_groups(engine, self.backbone.family, rates)
        beforehand += self._start_head(engine, groups, folder, int(plan["engine"]["max_tokens"]))
        trainer = Trainer(
            engine, groups, self.train, self.validation,
            padding_of(self.backbone), config.training, folder, hash_plan(plan), progress, accelerator,
            self._objective(), int(plan["engine"]["max_tokens"]),
        )  # fmt: skip
        return Opened(model, engine, trainer, plan, beforehand)

    def _keep_frozen(self, engine: Engine, splits: list[Tokenized], layers: int) -> float:
        """Computes what the lowest layers give, for all epochs; returns the seconds that it took."""
        from textune.engine import keep_prefix

        begun = time.monotonic()
        keep_prefix(engine, splits, layers, padding_of(self.backbone), self.progress)
        return time.monotonic() - begun

    def _count_passes(self) -> float:
        """Returns how often the training rows go through the frozen layers."""
        alone = not self.method.trains_body  # then what is kept is one vector a text, and serves the next run, too
        return (self.config.training.epochs or 0.0) + (self.config.training.head_init == PROBE) + alone

    def _start_head(self, engine: Engine, groups: list[dict[str, Any]], folder: Path, max_tokens: int) -> float:
        """Solves the new head, where that is set and no checkpoint has it; returns the seconds that it took."""
        from textune.training.checkpoint import list_checkpoints
        from textune.training.head import has_output_layer, set_head

        started, training = time.monotonic(), self.config.training
        if training.head_init != PROBE or list_checkpoints(folder / "checkpoints"):
            return 0.0
        if not has_output_layer(engine.model, self.backbone.family, len(self.data.labels)):
            self.progress.warn("the head does not end in a linear layer, so it starts random instead of solved")
            return 0.0
        if training.contrast_steps:
            self._contrast(engine, groups, training.contrast_steps, max_tokens)
        begun = time.monotonic()
        most = MOST_ROWS if self.method.trains_body else MOST_ROWS_ALONE
        self.probe = probe = self.solve_probe(engine, most)
        set_head(engine, self.backbone.family, probe)
        self.probe_seconds = seconds = time.monotonic() - begun
        how = "set after contrast" if training.contrast_steps else f"by {FOLDS}-fold cross-validation"
        self.progress.say(
            f"head: solved on the features of {min(most, len(self.train)):,} rows in {format_seconds(seconds)} "
            f"(C {probe.strength:g}, {how})"
        )
        return time.monotonic() - started

    def _contrast(self, engine: Engine, groups: list[dict[str, Any]], steps: int, max_tokens: int) -> None:
        from textune.training.contrast import tune_by_contrast

        with self.progress.task("contrast", steps) as task:
            tune_by_contrast(
                engine, self.backbone.family, len(self.data.labels), groups, self.train, padding_of(self.backbone),
                steps=steps, seed=self.config.training.seed, max_tokens=max_tokens, advance=lambda: task.advance(1),
            )  # fmt: skip
        self.progress.say(f"contrast: {steps} steps on pairs of texts before the head is solved")

    def solve_probe(self, engine: Engine, most_rows: int) -> Probe:
        """Solves the head on the features of training rows, of which there may be at most so many."""
        from textune.training.contrast import STRENGTH
        from textune.training.head import start_head

        strength = STRENGTH if self.config.training.contrast_steps else None
        return start_head(
            engine, self.backbone.family, len(self.data.labels), self.train, padding_of(self.backbone),
            self._probe_loss(), seed=self.config.training.seed, most_rows=most_rows, strength=strength,
        )  # fmt: skip

    def _probe_loss(self) -> Loss:
        return Loss(self.data.task == MULTI, self.weights, self.config.training.label_smoothing)

    def _calibrate(self, engine: Engine) -> Calibration:
        """Fits the temperature, and with several labels per text the thresholds, on rows that training did not see."""
        task = build_task(self.data.task, fixed=self.config.training.threshold)
        split, probe, padding = self.validation, self.probe, padding_of(self.backbone)
        solved = not self.method.trains_body and self.config.training.head_init == PROBE
        if split is None and solved and probe is None:  # resumed after the head was saved
            probe = self.solve_probe(engine, MOST_ROWS_ALONE)
        if split is not None:
            held_out = HeldOut.predict(engine, split, padding)
        elif probe is not None and solved and len(probe.rows):
            held_out = HeldOut(probe.out_of_fold, self.train.targets[probe.rows], "out-of-fold rows")
        else:
            held_out = HeldOut.nothing(len(self.data.labels))
        return calibrate(task, held_out, self.progress)

    def _open_engine(self, module: torch.nn.Module, precision: Precision) -> tuple[Engine, str]:
        from textune.engine import open_engine

        family = self.backbone.family
        return open_engine(
            module, precision, family, equal_lengths=self.method.needs_equal_lengths(family),
            wanted=self.config.training.engine,
        )  # fmt: skip

    def _plan(
        self, precision: Mapping[str, Any], probes: Mapping[str, Any] | None, threads: int, device: str
    ) -> dict[str, Any]:
        data = self.data
        splits = {"training": data.train, "validation": data.validation, "test": data.test}
        return {
            "settings": self.config.identity(),
            "data": {k: {"rows": len(e), "sha256": e.fingerprint} for k, e in splits.items() if e is not None},
            "labels": list(data.labels.values),
            "backbone": self.backbone.sha256,
            "precision": dict(precision),
            "engine": probes,
            "threads": threads,
            "device": device,
            "versions": list_versions(),
        }

    def _check_plan(self, plan: Mapping[str, Any], device: str) -> None:
        now = self._plan(plan["precision"], plan["engine"], int(plan["threads"]), device)
        seen = now["data"].keys() & (plan["data"].keys() | {"training", "validation"})  # a search sets the test apart
        refuse_changes("the data", plan["data"], {k: now["data"][k] for k in seen})
        refuse_changes("the labels", dict(enumerate(plan["labels"])), dict(enumerate(now["labels"])))
        refuse_changes("model or device", *({k: p[k] for k in ("backbone", "device")} for p in (plan, now)))
        if plan["versions"] != now["versions"]:
            self.progress.warn("other library versions than before: the weights may differ in their last bits")

    def _objective(self) -> Objective:
        from textune.training.objective import build_objective

        return build_objective(self.data.task, self.config.training, self.weights)

    def _build_model(self, *, bare: bool = False) -> _Model:
        """Loads backbone and new head, and applies the method. bare: without the method."""
        import torch

        from textune.training.objective import set_starting_bias

        # One seed, one sequence: the same head and adapter weights in training, after a resume, and as "before tuning".
        torch.manual_seed(self.config.training.seed)
        module, new_modules = load_classifier(
            self.backbone, self.data.labels.names, dropout=self.config.training.dropout or 0.0,
            load_kwargs=self.method.load_kwargs(self.backbone.family),
            pooling=replace(self.pooling, skip=0) if bare else self.pooling,
        )  # fmt: skip
        if self.config.training.head_init == PROBE:
            straighten_hidden_layer(module, self.backbone.family, new_modules)
        set_starting_bias(module, new_modules, self._objective().starting_bias(self.train.targets))
        if bare:
            return _Model(module, new_modules)
        module = self.method.apply(module, self.backbone.family, new_modules)
        if self.config.model.init is not None:
            self.method.load_weights(module, Path(self.config.model.init))
        return _Model(module, new_modules)

    def save(self, folder: Path, opened: Opened, calibration: Calibration) -> Manifest:
        """Writes the bundle and proves that a fresh load gives the trained model's logits."""
        data, config, model, plan = self.data, self.config, opened.model, opened.plan
        remember_local(self.backbone, cache.cache_dir())

        def prove(manifest: Manifest) -> None:
            difference = check_reload(
                folder, manifest, model.module, self.method, self.backbone, self.train, data.train.texts(),
                data.train.text_pairs(),
            )  # fmt: skip
            size = weight_megabytes(folder)
            self.progress.say(f"saved {size:.1f} MB; a fresh load gives the same logits ({difference:.1g} apart)")

        return write_bundle(
            folder, model.module, self.method, self.backbone, model.new_modules,
            labels=data.labels.names, label_values=data.labels.values, columns=data.columns,
            max_length=config.tokens.max_length or 0, long_text=self.long_text, seed=config.training.seed,
            data_fingerprint=data.fingerprint,
            engine={"name": opened.engine.name, **plan["engine"]}
            | {key: plan[key] for key in ("precision", "threads", "device")},
            pooling=self.pooling.form, prove=prove, task=data.task,
            temperature=calibration.temperature, thresholds=calibration.thresholds,
        )  # fmt: skip

    def _open_untuned(self) -> UntunedBackbone:
        """Returns the backbone as it was before tuning."""
        from textune.engine import probe_precision
        from textune.inference import choose_device

        device = choose_device(self.config.training.device)
        precision = probe_precision(self.config.training.precision, device)
        # What the probe of the run was solved on is not the plain backbone's where virtual tokens stand before the text
        # or contrastive steps came first.
        alters = bool(self.method.virtual_tokens)
        other = alters or bool(self.config.training.contrast_steps)
        module = self._build_model(bare=alters).module.to(device)
        engine, _ = self._open_engine(module, precision)
        return UntunedBackbone(
            engine, self.backbone.family, len(self.data.labels), padding_of(self.backbone), self._encode, self.train,
            self._probe_loss(), self.config.training.seed,
            *((None, 0.0) if other else (self.probe, self.probe_seconds)),
        )  # fmt: skip

    def _encode(self, examples: Examples) -> EncodedSplit:
        length = self.config.tokens.max_length or 0
        return encode_split(examples, self.data.labels, self.tokenizer, length, self.long_text)

    def measure(self, folder: Path, manifest: Manifest, training_seconds: float, *, resumed: bool) -> None:
        """Measures the saved run and its rivals on the evaluation rows, and writes report and card."""
        split, examples = self.data.evaluation
        self.progress.say(f"measuring on {len(examples):,} {split} rows")
        given = str(self.backbone.folder) if self.backbone.local else None
        predictor = Predictor.load(folder, backbone=given, device=self.config.training.device,
                                   precision=self.config.training.precision)  # fmt: skip
        figures = measure_run(
            predictor, self._open_untuned(), self.data.train, split, examples, self.data.labels, folder,
            seed=self.config.training.seed, training_seconds=training_seconds, validation=self.data.validation,
        )  # fmt: skip
        costs = Costs(
            training_seconds, None if resumed else time.monotonic() - self.started,
            None if resumed else peak_memory_mb(), weight_megabytes(folder),
        )  # fmt: skip
        write_evaluation(
            folder, manifest, figures, facts=self.facts, summary=describe_run(manifest, self.config.training, costs),
            costs=costs, warnings=self._all_warnings(folder),
            library_name="peft" if self.method.needs_peft else "transformers",
            base_model=None if self.backbone.local else self.backbone.id,
        )  # fmt: skip
        update_manifest(folder, metrics=summarise_figures(split, figures.tuned), test_reads=count_test_reads(folder))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    def _all_warnings(self, folder: Path) -> list[str]:
        log = read_json_lines(folder / "metrics.jsonl")
        last = max((line["step"] for line in log if line["kind"] == "evaluation"), default=0)
        # what was said on the way holds no more where the last evaluation found the model learning
        told = [line["text"] for line in log if line["kind"] == "warning" and line["step"] == last]
        return [*self.data.warnings, *told]
