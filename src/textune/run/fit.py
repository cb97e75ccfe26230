"""The second of a run's four functions: build model and engine, solve the head, and train or resume."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.backbones import load_classifier
from textune.backbones.checks import check_random_weights
from textune.backbones.families import Family
from textune.bundle import PLAN, SETTINGS
from textune.config import write_settings
from textune.errors import show_resume
from textune.files import write_text_atomically
from textune.methods import Rates, count_parameters
from textune.process.interrupt import StopRequest
from textune.progress import Progress, format_seconds
from textune.run.places import list_places
from textune.run.prepare import Prepared, Shared, list_fingerprints
from textune.run.start import hash_plan, refuse_changes
from textune.version import list_versions

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from textune.engine import Engine, Precision
    from textune.training.head import Network
    from textune.training.probe import Probe
    from textune.training.trainer import Trainer, TrainingResult

_OF_CONTRAST = ("learning_rate", "dropout", "weight_decay", "layer_decay", "layer_rates")
"""Settings that contrastive steps depend on, besides those that every start depends on."""


@dataclass(frozen=True)
class Opened:
    """A model ready to be trained, and the plan that a resumed run must find unchanged.

    module: with the method applied. groups: the optimizer's.
    """

    module: torch.nn.Module
    new_modules: tuple[str, ...]
    network: Network
    groups: list[dict[str, Any]]
    plan: Mapping[str, Any]
    accelerator: Accelerator

    @property
    def engine(self) -> Engine:
        """The forward pass that is trained."""
        return self.network.engine

    @property
    def max_tokens(self) -> int:
        """The most tokens in one forward pass, padding included."""
        return int(self.plan["engine"]["max_tokens"])


@dataclass(frozen=True)
class SolvedHead:
    """The head's start. probe: None where it is random or comes from a checkpoint; seconds: of contrast, features and
    solving; probe_seconds: of features and solving alone."""

    probe: Probe | None = None
    seconds: float = 0.0
    probe_seconds: float = 0.0


@dataclass(frozen=True)
class Fitted:
    """A trained model. seconds: of the start and all steps."""

    opened: Opened
    head: SolvedHead
    result: TrainingResult
    seconds: float


def fit(
    prepared: Prepared,
    folder: Path,
    progress: Progress,
    plan: Mapping[str, Any] | None = None,
    *,
    until_epoch: float | None = None,
    shared: Shared | None = None,
) -> Fitted:
    """Train, or resume where `plan` is that of an interrupted run; leave checkpoints and the log in the folder.

    until_epoch: pause at the first evaluation from there on; a later call continues exactly.
    Raises BundleError where settings or data changed, TrainingError, RunInterrupted.
    """
    shared = shared or Shared()
    opened = open_training(prepared, folder, progress, plan)
    prefix_seconds = _keep_frozen(prepared, opened, progress)
    head = _start_head(prepared, opened, folder, progress, shared)
    trainer = build_trainer(prepared, opened, folder, progress)

    def measure_first() -> Mapping[str, float]:
        return shared.keep(f"first scores {_describe_start(prepared)}", lambda: trainer.measure()[0])

    result = trainer.run(until_epoch, measure_first, head.seconds)
    seconds = prefix_seconds + result.start_seconds + result.seconds
    progress.say(
        f"trained {result.steps} steps in {format_seconds(seconds)}"
        + (", stopped early" if result.stopped_early else "")
        + _describe_best(result)
    )
    return Fitted(opened, head, result, seconds)


def open_training(
    prepared: Prepared, folder: Path, progress: Progress, plan: Mapping[str, Any] | None = None
) -> Opened:
    """Build model and engine as the plan says, or make and write a plan. plan: of a resumed run."""
    import torch

    from textune.engine import Precision, choose_prefix, probe_engine, probe_precision
    from textune.training.device import open_accelerator, set_threads
    from textune.training.head import Network

    config = prepared.config
    training = config.training
    accelerator = open_accelerator(training.device)
    device = accelerator.device
    set_threads(training.threads if plan is None else int(plan["threads"]))
    if plan is None:
        precision = probe_precision(training.precision, device)
        machine = {"precision": vars(precision), "threads": torch.get_num_threads(), "device": device.type}
        plan = describe_plan(prepared, machine) | {"places": list_places(config, folder)}
        _write_plan(plan, folder)
        write_settings(config, folder / SETTINGS)
    else:
        _check_plan(prepared, plan, device.type, progress)
        precision = Precision(**plan["precision"])
    module, new_modules = build_model(prepared)
    engine, reason = open_engine(prepared, module.to(device), precision)
    if plan["engine"] is None:  # the engine can be asked only when there is a model
        probes = probe_engine(engine, config.tokens.max_length or 0, training.max_tokens)
        splits = _list_tokens(prepared)
        layers = choose_prefix(engine, splits, _count_passes(prepared)) if training.prefix_cache else 0
        plan = dict(plan) | {"engine": probes | {"prefix_layers": layers}}
        _write_plan(plan, folder)
    engine.adopt(plan["engine"])
    trainable, total = count_parameters(module)
    progress.say(
        f"model: {prepared.backbone.id} with {prepared.method.key}, {trainable:,} of {total:,} parameters trainable "
        f"({trainable / total:.2%}), {precision.name} on {device.type} ({precision.reason}), {engine.name} engine "
        f"({reason}), at most {plan['engine']['max_tokens']:,} tokens at once"
    )
    rates = Rates(
        training.learning_rate or 0.0,
        training.head_learning_rate or 0.0,
        training.weight_decay,
        training.layer_decay,
        training.layer_rates or (),
    )
    family = prepared.backbone.family
    groups = prepared.method.param_groups(engine, family, rates)
    network = Network(engine, family, prepared.classes, prepared.padding)
    return Opened(module, new_modules, network, groups, plan, accelerator)


def build_trainer(prepared: Prepared, opened: Opened, folder: Path, progress: Progress) -> Trainer:
    """Return the loop over the prepared rows; building it changes nothing."""
    from textune.training.trainer import Trainer, TrainingRows, TrainingSetup

    rows = TrainingRows(prepared.train, prepared.validation, prepared.padding)
    setup = TrainingSetup(
        prepared.config.training, prepared.objective, hash_plan(opened.plan), opened.max_tokens, prepared.task
    )
    return Trainer(opened.engine, opened.groups, rows, setup, folder, progress, opened.accelerator)


def build_model(prepared: Prepared, *, bare: bool = False) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Load backbone and new head, and apply the method; return the model and the names of its new modules.

    bare: without the method and what it puts before the text.
    """
    import torch

    from textune.training.head import PROBE, set_starting_bias, straighten_hidden_layer

    training, family = prepared.config.training, prepared.backbone.family
    # One seed, one sequence: the same head and adapter weights in training, after a resume, and as "before tuning".
    torch.manual_seed(training.seed)
    module, new_modules = load_classifier(
        prepared.backbone,
        prepared.output_names,
        dropout=training.dropout or 0.0,
        load_kwargs=prepared.method.load_kwargs(family),
        pooling=replace(prepared.pooling, skip=0) if bare else prepared.pooling,
        model_class=prepared.task.model_class,
        random_weights=prepared.config.model.random_weights or (),
    )
    check_random_weights(prepared.backbone.id, prepared.config.model.random_weights or (), new_modules)
    if training.head_init == PROBE:
        straighten_hidden_layer(module, family, new_modules)
    set_starting_bias(module, new_modules, prepared.objective.starting_bias(prepared.train.targets))
    if bare:
        return module, new_modules
    module = prepared.method.apply(module, family, new_modules)
    if prepared.config.model.init is not None:
        prepared.method.load_weights(module, Path(prepared.config.model.init))
    return module, new_modules


def open_engine(prepared: Prepared, module: torch.nn.Module, precision: Precision) -> tuple[Engine, str]:
    """Return the engine for a model of this run, and why it is this one."""
    from textune import engine

    family: Family = prepared.backbone.family
    return engine.open_engine(
        module,
        precision,
        family,
        equal_lengths=prepared.method.needs_equal_lengths(family),
        wanted=prepared.config.training.engine,
    )


def solve_head(
    prepared: Prepared, network: Network, most_rows: int, *, choose_strength: bool = False, named: bool = True
) -> Probe:
    """Solve the head on the features of at most this many training rows, and on class names where they are learned.

    choose_strength: by cross-validation even where contrastive steps fix it. named: whether names may count at all.
    """
    from textune.training.contrast import STRENGTH
    from textune.training.head import start_head

    training = prepared.config.training
    strength = STRENGTH if training.contrast_steps and not choose_strength else None
    return start_head(
        network,
        prepared.train,
        prepared.probe_loss,
        seed=training.seed,
        most_rows=most_rows,
        strength=strength,
        names=prepared.names if named else None,
    )


def describe_plan(
    prepared: Prepared, machine: Mapping[str, Any], probes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what a resumed run must find unchanged. machine: precision, threads and device. probes: the engine's."""
    data = prepared.data
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    return {
        "settings": prepared.config.identity(),
        "data": {k: {"rows": len(e), "sha256": e.fingerprint} for k, e in splits.items() if e is not None},
        "labels": list(data.labels.values),
        "backbone": prepared.backbone.sha256,
        "backbone_files": prepared.backbone.other_files_sha256,
        "precision": dict(machine["precision"]),
        "engine": probes,
        "threads": machine["threads"],
        "device": machine["device"],
        "versions": list_versions(),
    } | ({} if prepared.dialogues is None else {"chat_template": prepared.dialogues.template_sha256})


def _write_plan(plan: Mapping[str, Any], folder: Path) -> None:
    write_text_atomically(folder / PLAN, json.dumps(plan, indent=2) + "\n")


def _check_plan(prepared: Prepared, plan: Mapping[str, Any], device: str, progress: Progress) -> None:
    now = describe_plan(prepared, dict(plan) | {"threads": int(plan["threads"]), "device": device}, plan["engine"])
    seen = now["data"].keys() & (plan["data"].keys() | {"training", "validation"})  # a search sets the test apart
    refuse_changes("the data", plan["data"], {k: now["data"][k] for k in seen})
    refuse_changes("the labels", dict(enumerate(plan["labels"])), dict(enumerate(now["labels"])))
    compared = [key for key in ("backbone", "backbone_files", "chat_template", "device") if key in plan]
    refuse_changes("model or device", *({key: p[key] for key in compared} for p in (plan, now)))
    if plan["versions"] != now["versions"]:
        progress.warn("other library versions than before: the weights may differ in their last bits")


def _list_tokens(prepared: Prepared) -> list[Any]:
    return [split.tokens for split in (prepared.train, prepared.validation) if split is not None]


def _count_passes(prepared: Prepared) -> float:
    """Return how often the training rows pass through the frozen layers."""
    from textune.training.head import PROBE

    training = prepared.config.training
    # one vector a text is cached where only the head is trained, and serves the next run as well
    alone = not prepared.method.trains_body
    return (training.epochs or 0.0) + (training.head_init == PROBE) + alone


def _keep_frozen(prepared: Prepared, opened: Opened, progress: Progress) -> float:
    """Compute the states above the frozen layers once for all epochs; return the seconds it took."""
    from textune.engine import keep_prefix

    started_at = time.monotonic()
    layers = int(opened.plan["engine"].get("prefix_layers", 0))
    keep_prefix(opened.engine, _list_tokens(prepared), layers, prepared.padding, progress)
    return time.monotonic() - started_at


def _start_head(prepared: Prepared, opened: Opened, folder: Path, progress: Progress, shared: Shared) -> SolvedHead:
    """Solve the new head, where that is set and no checkpoint has it."""
    from textune.training.checkpoint import list_checkpoints
    from textune.training.head import MOST_ROWS, MOST_ROWS_ALONE, PROBE, set_head

    started_at, training = time.monotonic(), prepared.config.training
    if training.head_init != PROBE or list_checkpoints(folder / "checkpoints"):
        return SolvedHead()
    if not opened.network.has_output_layer:
        progress.warn("the head does not end in a linear layer, so it starts random instead of solved")
        return SolvedHead()
    named = _contrast(prepared, opened, folder, progress) if training.contrast_steps else True
    solving_at = time.monotonic()
    most = MOST_ROWS if prepared.method.trains_body else MOST_ROWS_ALONE
    probe = shared.keep(
        f"probe {_describe_start(prepared)}", lambda: solve_head(prepared, opened.network, most, named=named)
    )
    set_head(opened.network, probe)
    probe_seconds = time.monotonic() - solving_at
    how = "set after contrast" if training.contrast_steps else probe.judged
    also = f" and {probe.names} class names" if probe.names else ""
    progress.say(
        f"head: solved on the features of {min(most, len(prepared.train)):,} rows{also} in "
        f"{format_seconds(probe_seconds)} (C {probe.strength:g}, {how})"
    )
    if prepared.names is not None and not probe.names:
        progress.say("class names are not learned: alone they tell the training rows apart no better than chance")
    return SolvedHead(probe, time.monotonic() - started_at, probe_seconds)


def _contrast(prepared: Prepared, opened: Opened, folder: Path, progress: Progress) -> bool:
    """Take the contrastive steps; return whether class names were among the texts."""
    from textune.training.contrast import tune_by_contrast
    from textune.training.names import add_names, tell_apart

    steps, hint = prepared.config.training.contrast_steps or 0, f"continue it with: {show_resume(folder)}"
    rows, names = prepared.train, prepared.names
    compute = opened.network.compute_features
    named = names is not None and tell_apart(compute(names), compute(rows), rows.targets)
    with StopRequest() as stop, progress.task("contrast", steps) as task:

        def advance() -> None:
            task.advance(1)
            stop.raise_if_requested("during its contrastive steps, which start anew", hint)

        tune_by_contrast(
            opened.network,
            opened.groups,
            add_names(rows, names) if names is not None and named else rows,
            steps=steps,
            seed=prepared.config.training.seed,
            max_tokens=opened.max_tokens,
            advance=advance,
        )
    progress.say(f"contrast: {steps} steps on pairs of texts before the head is solved")
    return named


def _describe_start(prepared: Prepared) -> tuple[Any, ...]:
    """Return everything that the weights before the first step depend on."""
    config, training = prepared.config, prepared.config.training
    return (
        *map(vars, (config.method, config.model, config.tokens)),
        training.seed,
        training.precision,
        training.label_smoothing,
        training.threshold,
        training.class_weights,
        training.head_init,
        training.learn_names,
        training.contrast_steps,
        training.contrast_steps and [getattr(training, name) for name in _OF_CONTRAST],
        list_fingerprints(prepared.data),
    )


def _describe_best(result: TrainingResult) -> str:
    """Return which weights are used, where they are not the last ones."""
    if result.best_step == result.steps:
        return ""
    if result.best_step == 0:
        return "; on the validation rows the solved head did better than what was tuned from it, so it is kept"
    return f"; the best weights are those of step {result.best_step}"
