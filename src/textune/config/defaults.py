"""Rules that fill in settings left open, from the number of rows and classes and the text length.

The rules were chosen on splits of training rows (`benchmarks/rule_trials.py` runs the trials). For data sets with a
test file, no test rows were used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from textune.config.long_text import LongText
from textune.config.schema import RunConfig, TrainingConfig
from textune.errors import ConfigError

DEFAULT_METHOD, DEFAULT_BACKBONE = "lora", "minilm"
LONGEST_DEFAULT = 512
_MAX_WINDOWS = 16
_HEAD_FRACTION = 0.25
_LONG_TEXT_SETTINGS = {"window_overlap": "window", "max_windows": "window", "head_fraction": "head_tail"}
MANY_CLASSES = 20
MIN_STEPS, MAX_EPOCHS = 150, 10
MIN_STEPS_SOLVED = 38
"""Where a solved head already tells many classes apart, few steps do: on 8 rows for each of 77 classes, 2, 4 and 8
epochs gave 83.2, 83.8 and 83.6% (results/rules.jsonl, few_epochs), and the head alone 82.5%."""
SOLVED_HEAD_RATE = 3e-4
FEW_ROWS_PER_CLASS = 64
"""Up to this no rows are held out for validation, and contrastive steps may run first. The latter counts what is left
to train on: of 140 rows of two classes 28 are held out, and contrastive steps are taken on the other 112."""
NAMES_UP_TO = 16
"""With more rows per class, names add nothing to them (docs/explanation.md)."""
_OF_STEPS = (
    "batch_size", "head_learning_rate", "schedule", "warmup_fraction", "max_grad_norm", "eval_every_steps", "patience"
)  # fmt: skip
_OF_CONTRAST_TOO = ("learning_rate", "dropout", "weight_decay", "layer_decay", "layer_rates")
"""Settings of training steps, and those of contrastive steps as well."""
TO_USE_THEM = "set epochs= to train on from the solved head"
FEWEST_ROWS_TO_FOLD, FEWEST_SETS_TO_FOLD, MOST_MEGABYTES_TO_FOLD = 16, 40, 1_000.0


@dataclass(frozen=True)
class TaskDefaults:
    """What a task decides of the settings left open.

    metric: the validation score that ranks checkpoints; metric_reason: for the log, where it is worth a line.
    no_contrast, no_names: why contrastive steps or class names as texts make no sense, or nothing.
    solves_head: whether a new head can be solved.
    most_epochs: that the rule gives. most_tokens: of one pass, where its output takes more memory than its layers.
    """

    metric: str = "accuracy"
    metric_reason: str = ""
    no_contrast: str = ""
    no_names: str = ""
    solves_head: bool = True
    most_epochs: int = MAX_EPOCHS
    most_tokens: int | None = None


@dataclass(frozen=True)
class Decision:
    """A setting decided by rule. reason: for the log."""

    setting: str
    value: float | int | str
    reason: str

    def __str__(self) -> str:
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return self.value if isinstance(self.value, str) else f"{self.value:g}"


def choose_method(config: RunConfig) -> str:
    """Return the method's key: as set, else LoRA."""
    return config.method.name or DEFAULT_METHOD


def choose_backbone(config: RunConfig) -> str:
    """Return the backbone's name: as set, else the embedded model."""
    return config.model.backbone or DEFAULT_BACKBONE


def fill_in_model(config: RunConfig) -> RunConfig:
    """Decide method and backbone where they are open; with init= the run that is built on decides them first."""
    method, model = replace(config.method, name=choose_method(config)), config.model
    return replace(config, method=method, model=replace(model, backbone=choose_backbone(config)))


def choose_max_length(config: RunConfig, max_positions: int) -> tuple[RunConfig, list[Decision]]:
    """Decide max_length: the longest text the backbone can read, at most 512. Short texts cost no more."""
    if config.tokens.max_length is not None:
        return config, []
    value = min(LONGEST_DEFAULT, max_positions)
    decided = replace(config, tokens=replace(config.tokens, max_length=value))
    return decided, [Decision("max_length", value, "the backbone's limit, at most 512")]


def choose_long_text(config: RunConfig) -> tuple[RunConfig, LongText, list[Decision]]:
    """Decide how texts longer than max_length are read; max_length must be set.

    Raises ConfigError if a setting belongs to another form.
    """
    tokens = config.tokens
    form = tokens.long_text or "truncate"
    for setting, owner in _LONG_TEXT_SETTINGS.items():
        if form != owner and getattr(tokens, setting) is not None:
            raise ConfigError(
                f"{setting}= only applies with long_text={owner}, but long_text is {form}",
                hint=f"add long_text={owner}, or set {setting}=none",
            )
    by_rule: dict[str, tuple[float | int, str]] = {}
    if form == "window":
        by_rule["window_overlap"] = ((tokens.max_length or 0) // 4, "a quarter of max_length")
        by_rule["max_windows"] = (_MAX_WINDOWS, "limits the time and memory per text")
    elif form == "head_tail":
        by_rule["head_fraction"] = (_HEAD_FRACTION, "a quarter from the beginning, the rest from the end")
    decided = {k: v for k, v in by_rule.items() if getattr(tokens, k) is None}
    tokens = replace(tokens, long_text=form, **{k: v for k, (v, _) in decided.items()})  # type: ignore[arg-type]
    defaults = LongText()
    long_text = LongText(
        form,
        defaults.overlap if tokens.window_overlap is None else tokens.window_overlap,
        defaults.max_windows if tokens.max_windows is None else tokens.max_windows,
        defaults.head_fraction if tokens.head_fraction is None else tokens.head_fraction,
    )
    return replace(config, tokens=tokens), long_text, [Decision(k, v, why) for k, (v, why) in decided.items()]


def has_few_rows(rows: int, classes: int) -> bool:
    """Return whether there are too few rows per class to hold some out."""
    return rows <= FEW_ROWS_PER_CLASS * classes


def choose_validation_rows(rows: int, classes: int = 0) -> int:
    """Return how many training rows to hold out for validation: a tenth, 50 to 2,000, at most a fifth.

    classes: with at most 64 rows per class none are held out. So few are too noisy to choose by, and training needs
    them more.
    """
    if has_few_rows(rows, classes):
        return 0
    return min(max(rows // 10, 50), 2_000, rows // 5)


def calibrates_out_of_fold(rows: int, classes: int, megabytes: float, *, sets: bool = False) -> bool:
    """Return whether a run without validation rows trains twice more, on half of its rows each, to be calibrated.

    megabytes: of the backbone's weights, of which another copy is needed meanwhile. sets: rows have sets of labels, and
    each label a threshold, which takes more rows. With many classes the solved head is already well calibrated
    (results/calibration.jsonl).
    """
    fewest = FEWEST_SETS_TO_FOLD if sets else FEWEST_ROWS_TO_FOLD
    few = rows >= fewest and has_few_rows(rows, classes)
    return few and classes <= MANY_CLASSES and megabytes <= MOST_MEGABYTES_TO_FOLD


def choose_test_rows(rows: int) -> int:
    """Return how many rows to hold out for the test without a test table: a fifth, at most 10,000."""
    return min(rows // 5, 10_000)


def choose_training(
    config: RunConfig,
    *,
    rows: int,
    classes: int,
    method_rate: float,
    head_rate: float | None = None,
    task: TaskDefaults = TaskDefaults(),
    solved: bool = False,
) -> tuple[RunConfig, list[Decision]]:
    """Decide head initialization, epochs, batch size, learning rates and dropout if they are left open.

    rows: training rows. method_rate, head_rate: the method's default peak rates. solved: only the head is trained.
    task: what the task decides.
    docs/explanation.md says where the numbers come from.
    Raises ConfigError if settings contradict each other.
    """
    training, decisions = config.training, []

    def decide(setting: str, value: float | int | str, reason: str) -> None:
        nonlocal training
        if getattr(training, setting) is None:
            training = replace(training, **{setting: value})  # type: ignore[arg-type]
            decisions.append(Decision(setting, value, reason))

    many, few = classes > MANY_CLASSES, has_few_rows(rows, classes)
    if config.model.init is not None:
        decide("head_init", "random", "the head comes from the run of init=")
    if not task.solves_head:
        decide("head_init", "random", "the task's head cannot be solved")
    decide("head_init", "probe", "solved on frozen features")
    probe = training.head_init == "probe"
    if probe and not task.solves_head:
        raise ConfigError("head_init=probe: the head of this task cannot be solved", hint="leave head_init= out")
    if solved and probe:
        decide("epochs", 0, "the head is solved and nothing else is trained")
    pairs = probe and few and not many and not solved and not task.no_contrast
    if training.learn_names is None and probe and not task.no_names and rows <= NAMES_UP_TO * classes:
        decide("learn_names", True, f"{rows / classes:.3g} rows per class: a name counts as one more")
    if training.learn_names:
        _check_names(task.no_names, probe=probe, built_on=config.model.init is not None)
    steps = choose_contrast_steps(rows) if pairs else 0
    decide("contrast_steps", steps, f"{rows:,} rows of {classes} classes")
    if training.contrast_steps:
        _check_contrast(task.no_contrast, solved=solved, probe=probe, built_on=config.model.init is not None)
        decide("epochs", 0, "the head is solved after the contrastive steps")
    size = f"{classes} classes, {rows:,} rows" if classes > 1 else f"{rows:,} rows"
    decide("batch_size", 32 if many or rows > 20_000 else 16, size)
    assert training.batch_size is not None
    refine = probe and few and many
    epochs = (choose_short_epochs if refine else choose_epochs)(rows, classes, training.batch_size)
    decide("epochs", min(epochs, task.most_epochs), f"{rows:,} rows, {classes} classes" if classes > 1 else size)
    decide("learning_rate", method_rate, "the method's default")
    assert training.learning_rate is not None
    if probe:
        rate = training.learning_rate if head_rate is None else head_rate
        decide("head_learning_rate", min(rate, SOLVED_HEAD_RATE), "a solved head needs small steps")
    elif head_rate is None:
        decide("head_learning_rate", training.learning_rate, "same as learning_rate")
    else:
        decide("head_learning_rate", head_rate, "the method's default for the head")
    decide("dropout", 0.0, "few trained parameters and few epochs")
    if task.most_tokens is not None:
        decide("max_tokens", task.most_tokens, "logits over the whole vocabulary take memory")
    if task.metric_reason:
        decide("metric", task.metric, task.metric_reason)
    training = replace(training, metric=training.metric or task.metric)
    if training.epochs == 0 and not probe:
        raise _refuse_no_epochs(task, built_on=config.model.init is not None)
    return replace(config, training=training), decisions


def list_unused(config: RunConfig, decided: RunConfig) -> tuple[str, ...]:
    """Return the settings that no step uses, where a rule decided that the head is solved and no training step follows.

    config: as set. decided: what `choose_training` made of it.
    """
    if config.training.epochs is not None or decided.training.epochs != 0:
        return ()
    return _OF_STEPS if decided.training.contrast_steps else _OF_STEPS + _OF_CONTRAST_TOO


def warn_of_unused(config: RunConfig, decided: RunConfig) -> str | None:
    """Return a warning if settings were set that no step uses."""
    default = TrainingConfig()
    names = list_unused(config, decided)
    names = tuple(name for name in names if getattr(config.training, name) != getattr(default, name))
    return f"{explain_unused(names, decided)} ({TO_USE_THEM})" if names else None


def explain_unused(names: Sequence[str], decided: RunConfig) -> str:
    """Return why no step uses these settings, as a sentence without its hint."""
    after = "after the contrastive steps" if decided.training.contrast_steps else "and nothing else is trained"
    return f"no training step uses {', '.join(names)}: by rule epochs is 0, because the head is solved {after}"


def _refuse_no_epochs(task: TaskDefaults, *, built_on: bool) -> ConfigError:
    """Return the error where neither head nor body would be trained. built_on: whether init= is set."""
    if not task.solves_head:
        return ConfigError("epochs=0: nothing would be trained", hint="remove epochs=0")
    if built_on:
        return ConfigError(
            "epochs=0 with init=: nothing would be trained, because the head comes from that run",
            hint="set head_init=probe to solve the head anew, or remove epochs=0",
        )
    return ConfigError("epochs=0 with head_init=random: nothing would be trained", hint="remove one of them")


def _check_contrast(reason: str, *, solved: bool, probe: bool, built_on: bool) -> None:
    """Raise ConfigError if contrastive steps do not apply.

    reason: why the task has no use for them. built_on: whether init= is set.
    """
    if reason:
        raise ConfigError(f"contrast_steps=: {reason}", hint="remove contrast_steps=")
    if solved:
        raise ConfigError("contrast_steps=: method=head trains nothing below the head", hint="use method=lora")
    if not probe and built_on:
        raise ConfigError(
            "contrast_steps= with init=: the head is solved after these steps, but comes from that run",
            hint="set head_init=probe to solve the head anew, or remove contrast_steps=",
        )
    if not probe:
        raise ConfigError(
            "contrast_steps= needs head_init=probe: the head is solved afterwards", hint="remove head_init=random"
        )


def _check_names(reason: str, *, probe: bool, built_on: bool) -> None:
    """Raise ConfigError if class names cannot be learned. reason: of the task. built_on: whether init= is set."""
    if reason:
        raise ConfigError(f"learn_names=true: {reason}", hint="remove learn_names=")
    if not probe:
        why = "comes from the run of init=" if built_on else "starts random"
        raise ConfigError(
            f"learn_names=true: the head is solved with the names, but it {why}",
            hint="set head_init=probe, or remove learn_names=",
        )


def choose_contrast_steps(rows: int) -> int:
    """Return the number of contrastive steps: more rows take longer to memorize."""
    return min(24 + rows // 4, 60)


def choose_epochs(rows: int, classes: int, batch_size: int) -> int:
    """Return the number of epochs: at least 150 steps but at most 10 epochs, and fewer epochs for many rows."""
    passes = 4 if rows <= 1_500 or (classes > MANY_CLASSES and rows <= 20_000) else 3 if rows <= 6_000 else 2
    passes = passes if rows <= 50_000 else 1
    needed = math.ceil(MIN_STEPS * batch_size / max(rows, 1))
    return max(passes, min(needed, MAX_EPOCHS))


def choose_short_epochs(rows: int, classes: int, batch_size: int) -> int:
    """Return the number of epochs that refine a solved head: one for every four rows per class, at most four.

    At least 38 steps, but at most 10 epochs.
    """
    passes = min(math.ceil(rows / (4 * max(classes, 1))), 4)
    needed = math.ceil(MIN_STEPS_SOLVED * batch_size / max(rows, 1))
    return max(passes, min(needed, MAX_EPOCHS))
