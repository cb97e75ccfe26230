"""The composer of one run: settings in, run folder out. No other module trains, saves and measures."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textune import cache
from textune.backbones import load_classifier, remember_local, resolve_backbone
from textune.bundle import (
    Manifest,
    lock_run,
    prepare_run_folder,
    read_json,
    read_json_lines,
    read_manifest,
    write_text_atomically,
)
from textune.config import RunConfig, build_config, load_settings, write_settings
from textune.data import Examples
from textune.defaults import choose_max_length, choose_training
from textune.errors import BundleError, ConfigError
from textune.evaluation import Evaluation
from textune.interrupt import RunInterrupted
from textune.measuring import count_test_reads, evaluate, measure_run, write_evaluation
from textune.methods import Method, Rates, check_family, resolve
from textune.predict import Predictor, padding_of
from textune.preparation import describe_data, encode_split, prepare_data
from textune.progress import Progress, format_seconds, open_progress
from textune.saving import (
    check_reload,
    count_parameters,
    list_versions,
    update_manifest,
    weight_megabytes,
    write_bundle,
)
from textune.starting import adopt_init, choose_folder, hash_plan, refuse_changes, refuse_several_processes

if TYPE_CHECKING:
    import torch

PLAN = "plan.json"


@dataclass(frozen=True)
class Run:
    """A finished run. metrics: the content of evaluation/metrics.json."""

    folder: Path
    manifest: Manifest
    metrics: Mapping[str, Any]

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "evaluation" / "report.html"

    def load(self, **options: Any) -> Predictor:
        """Returns a Predictor; options as for `Predictor.load`."""
        return Predictor.load(self.folder, **options)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Returns the label of each text. It loads the model each time: for many calls keep `load()`."""
        return self.load().predict(texts)

    def evaluate(self, data: Any, **settings: Any) -> Evaluation:
        """Measures the model on other labelled rows."""
        return evaluate(self.folder, data, **settings)


@dataclass(frozen=True)
class _Model:
    """A model made ready for training, and what it is made of."""

    module: torch.nn.Module
    new_modules: tuple[str, ...]


def train(data: Any = None, *, overwrite: bool = False, progress: Progress | None = None, **settings: Any) -> Run:
    """Trains, saves and measures one classifier; returns the finished run.

    data: a path, hub:NAME, embedded:NAME or a data frame (then test= and validation= may be frames, too).
    settings: the names of `textune train --settings`; a method's options as method={"name": "lora", "r": 16}.
    Raises ConfigError, DataError, ModelError, BundleError; nothing half-made is left then.
    """
    given = {"data": data} | {k: settings.pop(k) for k in ("test", "validation") if k in settings}
    frames = {k: v for k, v in given.items() if v is not None and not isinstance(v, str | Path)}
    flat = {k: str(v) for k, v in given.items() if isinstance(v, str | Path)}
    config = build_config(flat | dict.fromkeys(frames, "data frame") | settings)
    return train_config(config, overwrite=overwrite, progress=progress, frames=frames)


def train_config(
    config: RunConfig, *, overwrite: bool = False, progress: Progress | None = None,
    frames: Mapping[str, Any] | None = None,
) -> Run:  # fmt: skip
    """Like `train`, from a RunConfig."""
    refuse_several_processes()
    progress = progress or open_progress()
    method = resolve(config.method.name, config.method.options)
    config, method = adopt_init(config, method)
    folder = choose_folder(config, overwrite)
    work = _Work(config, method, progress, dict(frames or {}))
    work.prepare()
    work.data.evaluation  # noqa: B018  raises, before anything is trained, where nothing is left to measure on
    with lock_run(folder):
        prepare_run_folder(folder, overwrite=overwrite)
        try:
            return work.execute(folder, plan=None)
        except BaseException as error:
            if not isinstance(error, RunInterrupted) and not (folder / "checkpoints").is_dir():
                shutil.rmtree(folder, ignore_errors=True)  # nothing worth keeping was made
            raise


def resume(run: str | Path, data: Any = None, *, progress: Progress | None = None, **frames: Any) -> Run:
    """Goes on with an interrupted run, exactly where its newest whole checkpoint stands.

    data, and test= and validation=: the data frames, where the run was started on frames.
    Raises BundleError where settings or data changed.
    """
    folder = Path(run)
    progress = progress or open_progress()
    if not (folder / PLAN).is_file():
        raise BundleError(
            f"{folder}: there is no interrupted run here", hint="give the folder that 'textune train' named"
        )
    config = build_config(load_settings(folder / "config.yaml"))
    config = replace(config, name=folder.name, runs_dir=str(folder.parent))
    with lock_run(folder):
        plan = read_json(folder / PLAN, "the run's plan")
        # the figures enter the manifest last, when report and card are written
        if (folder / "textune.json").is_file() and read_manifest(folder, verify=False).metrics:
            progress.say(f"{folder}: this run is finished already")
            return load_run(folder)
        refuse_changes("the settings", plan.get("settings", {}), config.identity())
        method = resolve(config.method.name, config.method.options)
        work = _Work(config, method, progress, frames | ({} if data is None else {"data": data}))
        work.prepare()
        return work.execute(folder, plan)


def train_only(config: RunConfig, progress: Progress, frames: Mapping[str, Any]) -> Path:
    """Trains and saves the bundle, with no baselines and no report; returns the run's folder."""
    work = _Work(config, resolve(config.method.name, config.method.options), progress, dict(frames))
    work.prepare()
    folder = choose_folder(config, overwrite=False)
    with lock_run(folder):
        prepare_run_folder(folder, overwrite=False)
        work.train_and_save(folder, plan=None)
    return folder


def load(run: str | Path, **options: Any) -> Predictor:
    """Loads a finished run for prediction; options as for `Predictor.load`."""
    return Predictor.load(run, **options)


def load_run(folder: str | Path) -> Run:
    """Opens a finished run without loading its model."""
    folder = Path(folder)
    manifest = read_manifest(folder, verify=False)
    return Run(folder, manifest, read_json(folder / "evaluation" / "metrics.json", "the run's metrics"))


class _Work:
    """The steps of one run in their order; `prepare` touches no run folder."""

    def __init__(self, config: RunConfig, method: Method, progress: Progress, frames: dict[str, Any]) -> None:
        self.config, self.method, self.progress, self.frames = config, method, progress, frames
        self.started = time.monotonic()

    def prepare(self) -> None:
        """Finds the backbone, reads and checks the data, decides what was left open, tokenises."""
        config, progress = self.config, self.progress
        self.backbone = resolve_backbone(config.model.backbone, trust=config.model.trust)
        check_family(self.method, self.backbone.family)
        self.data = prepare_data(config, self.frames)
        for note in self.data.notes:
            progress.say(note)
        for warning in self.data.warnings:
            progress.warn(warning)
        config, decisions = choose_max_length(config, self.backbone.max_positions)
        config, more = choose_training(
            config,
            rows=len(self.data.train),
            classes=len(self.data.labels.names),
            method_rate=self.method.learning_rate,
        )
        self.config = config
        self._check_max_length()
        self._tokenise()
        self.facts = describe_data(self.data, self.train.tokens)
        for name, value in self.facts:
            progress.say(f"{name}: {value}")
        for decision in (*decisions, *more):
            progress.say(f"{decision.setting}: {decision.value:g} ({decision.reason})")

    def _check_max_length(self) -> None:
        wanted, most = self.config.tokens.max_length, self.backbone.max_positions
        if wanted is not None and wanted > most:
            raise ConfigError(f"max_length={wanted}: {self.backbone.id} reads at most {most} tokens")

    def _tokenise(self) -> None:
        from textune.tokens import load_tokenizer

        tokenizer, length = load_tokenizer(self.backbone.folder), self.config.tokens.max_length or 0
        labels = self.data.labels
        self.tokenizer = tokenizer
        self.train = encode_split(self.data.train, labels, tokenizer, length)
        validation = self.data.validation
        self.validation = None if validation is None else encode_split(validation, labels, tokenizer, length)

    def execute(self, folder: Path, plan: Mapping[str, Any] | None) -> Run:
        """Trains, saves, tests the reload, measures and reports. plan: of the run that is resumed."""
        manifest, seconds = self.train_and_save(folder, plan)
        return self._measure(folder, manifest, seconds)

    def train_and_save(self, folder: Path, plan: Mapping[str, Any] | None) -> tuple[Manifest, float]:
        """Trains, saves and tests the reload; returns the manifest and the seconds of training."""
        import torch

        from textune.engine import Precision, ReferenceEngine, probe_precision
        from textune.training import Trainer, open_accelerator

        config, progress = self.config, self.progress
        accelerator = open_accelerator(config.training.device)
        device = accelerator.device
        if plan is None:
            if config.training.threads:
                torch.set_num_threads(config.training.threads)
            precision = probe_precision(config.training.precision, device)
            plan = self._plan(vars(precision), torch.get_num_threads(), device.type)
            write_settings(config, folder / "config.yaml")
            write_text_atomically(folder / PLAN, json.dumps(plan, indent=2) + "\n")
        else:
            self._check_plan(plan, device.type)
            precision = Precision(**plan["precision"])
            torch.set_num_threads(int(plan["threads"]))
        model = self._build_model()
        model.module.to(device)
        trainable, total = count_parameters(model.module)
        progress.say(
            f"model: {self.backbone.id} with {self.method.key}, {trainable:,} of {total:,} parameters trainable "
            f"({trainable / total:.2%}), {precision.name} on {device.type} ({precision.reason}), reference engine"
        )
        engine = ReferenceEngine(model.module, precision, self.backbone.family.head_modules)
        rates = Rates(
            config.training.learning_rate or 0.0,
            config.training.head_learning_rate or 0.0,
            config.training.weight_decay,
        )
        trainer = Trainer(
            engine, self.method.param_groups(engine, self.backbone.family, rates), self.train, self.validation,
            padding_of(self.backbone), config.training, folder, hash_plan(plan), progress, accelerator,
        )  # fmt: skip
        result = trainer.run()
        engine.release()
        progress.say(
            f"trained {result.steps} steps in {format_seconds(result.seconds)}"
            + (", stopped early" if result.stopped_early else "")
            + (f"; the best weights are of step {result.best_step}" if result.best_step != result.steps else "")
        )
        return self._save(folder, model, plan), result.seconds

    def _plan(self, precision: Mapping[str, Any], threads: int, device: str) -> dict[str, Any]:
        data = self.data
        splits = {"training": data.train, "validation": data.validation, "test": data.test}
        return {
            "settings": self.config.identity(),
            "data": {k: {"rows": len(e), "sha256": e.fingerprint} for k, e in splits.items() if e is not None},
            "labels": list(data.labels.values),
            "backbone": self.backbone.sha256,
            "precision": dict(precision),
            "threads": threads,
            "device": device,
            "versions": list_versions(),
        }

    def _check_plan(self, plan: Mapping[str, Any], device: str) -> None:
        now = self._plan(plan["precision"], int(plan["threads"]), device)
        refuse_changes("the data", plan["data"], now["data"])
        refuse_changes("the labels", dict(enumerate(plan["labels"])), dict(enumerate(now["labels"])))
        refuse_changes("model or device", *({k: p[k] for k in ("backbone", "device")} for p in (plan, now)))
        if plan["versions"] != now["versions"]:
            self.progress.warn("other library versions than before: the weights may differ in their last bits")

    def _build_model(self) -> _Model:
        import torch

        # One seed, one sequence: the same head and adapter weights in training, after a resume, and as "before tuning".
        torch.manual_seed(self.config.training.seed)
        module, new_modules = load_classifier(
            self.backbone, self.data.labels.names, dropout=self.config.training.dropout or 0.0,
            load_kwargs=self.method.load_kwargs(),
        )  # fmt: skip
        module = self.method.apply(module, self.backbone.family, new_modules)
        if self.config.model.init is not None:
            self.method.load_weights(module, Path(self.config.model.init))
        return _Model(module, new_modules)

    def _save(self, folder: Path, model: _Model, plan: Mapping[str, Any]) -> Manifest:
        data, config = self.data, self.config
        remember_local(self.backbone, cache.cache_dir())

        def prove(manifest: Manifest) -> None:
            difference = check_reload(
                folder, manifest, model.module, self.backbone, self.train, data.train.texts(), data.train.text_pairs()
            )
            size = weight_megabytes(folder)
            self.progress.say(f"saved {size:.1f} MB; a fresh load gives the same logits ({difference:.1g} apart)")

        return write_bundle(
            folder, model.module, self.method, self.backbone, model.new_modules,
            labels=data.labels.names, label_values=data.labels.values, columns=data.columns,
            max_length=config.tokens.max_length or 0, seed=config.training.seed, data_fingerprint=data.fingerprint,
            engine={"name": "reference", "precision": plan["precision"], "threads": plan["threads"],
                    "device": plan["device"]},
            prove=prove,
        )  # fmt: skip

    def _base_logits(self, examples: Examples) -> np.ndarray[Any, Any]:
        from textune.engine import ReferenceEngine, predict_logits, probe_precision
        from textune.predict import choose_device

        device = choose_device(self.config.training.device)
        engine = ReferenceEngine(
            self._build_model().module.to(device), probe_precision(self.config.training.precision, device),
            self.backbone.family.head_modules,
        )  # fmt: skip
        split = encode_split(examples, self.data.labels, self.tokenizer, self.config.tokens.max_length or 0)
        return predict_logits(engine, split, padding_of(self.backbone))

    def _measure(self, folder: Path, manifest: Manifest, training_seconds: float) -> Run:
        split, examples = self.data.evaluation
        self.progress.say(f"measuring on {len(examples):,} {split} rows")
        given = str(self.backbone.folder) if self.backbone.local else None
        predictor = Predictor.load(folder, backbone=given, device=self.config.training.device,
                                   precision=self.config.training.precision)  # fmt: skip
        figures = measure_run(
            predictor, self._base_logits, self.data.train, split, examples, self.data.labels, folder,
            seed=self.config.training.seed, training_seconds=training_seconds,
        )  # fmt: skip
        summary = self._summary(manifest, folder, training_seconds)
        write_evaluation(
            folder, manifest, figures, facts=self.facts, summary=summary, warnings=self._all_warnings(folder),
            library_name="peft" if self.method.needs_peft else "transformers",
            base_model=None if self.backbone.local else self.backbone.id,
        )  # fmt: skip
        tuned = figures.tuned
        metrics = {
            "split": split, "rows": tuned.rows, "accuracy": tuned.accuracy, "macro_f1": tuned.macro.f1,
            "accuracy_interval": list(vars(tuned.intervals["accuracy"]).values()),
            "macro_f1_interval": list(vars(tuned.intervals["macro_f1"]).values()),
        }  # fmt: skip
        update_manifest(folder, metrics=metrics, test_reads=count_test_reads(folder))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return load_run(folder)

    def _all_warnings(self, folder: Path) -> list[str]:
        told = [line["text"] for line in read_json_lines(folder / "metrics.jsonl") if line["kind"] == "warning"]
        return [*self.data.warnings, *told[-1:]]

    def _summary(self, manifest: Manifest, folder: Path, training_seconds: float) -> list[tuple[str, str]]:
        training = self.config.training
        options = ", ".join(f"{k} {v}" for k, v in manifest.method_options.items() if v is not None)
        return [
            ("base model", f"{self.backbone.id} ({self.backbone.family.name})"),
            ("method", f"{self.method.key}" + (f" ({options})" if options else "")),
            ("trainable parameters", f"{manifest.trainable_parameters:,} of {manifest.total_parameters:,} "
             f"({manifest.trainable_parameters / manifest.total_parameters:.2%})"),
            ("size on disk", f"{weight_megabytes(folder):.1f} MB beside the base model"),
            ("epochs", f"{training.epochs:g}, batch size {training.batch_size}, rate {training.learning_rate:g}"),
            ("max_length", f"{manifest.max_length} tokens"),
            ("training time", format_seconds(training_seconds)),
            ("whole run", format_seconds(time.monotonic() - self.started)),
            ("peak memory", f"{peak_memory_mb():,.0f} MB"),
            ("precision", f"{manifest.engine['precision']['name']} on {manifest.engine['device']}"),
            ("seed", str(manifest.seed)),
        ]  # fmt: skip


def peak_memory_mb() -> float:
    """Returns the most memory this process ever had resident, in MB (10^6 bytes)."""
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
