"""Rules that decide the settings a person left open, from rows, classes and text length alone.

The rules were chosen on splits of training rows (`benchmarks/rule_trials.py` runs the trials); of data sets
with a test file no test row had a say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from textune.config.long_text import LongText
from textune.config.schema import RunConfig
from textune.errors import ConfigError

LONGEST_DEFAULT = 512
_MAX_WINDOWS = 16
_HEAD_FRACTION = 0.25
_LONG_TEXT_SETTINGS = {"window_overlap": "window", "max_windows": "window", "head_fraction": "head_tail"}
MANY_CLASSES = 20
FEWEST_STEPS, MOST_EPOCHS = 150, 10
SOLVED_HEAD_RATE = 3e-4
FEW_ROWS_PER_CLASS = 64
"""Fewer are few: nothing is held out for validation, and contrastive steps may come first."""


@dataclass(frozen=True)
class TaskDefaults:
    """What a task decides of the settings left open.

    metric: the validation score that ranks checkpoints; metric_reason: for the log, where it is worth a line.
    no_contrast: why contrastive steps make no sense, or nothing. solves_head: whether a new head can be solved.
    """

    metric: str = "accuracy"
    metric_reason: str = ""
    no_contrast: str = ""
    solves_head: bool = True


@dataclass(frozen=True)
class Decision:
    """One setting decided by rule. reason: for the log."""

    setting: str
    value: float | int | str
    reason: str

    def __str__(self) -> str:
        return self.value if isinstance(self.value, str) else f"{self.value:g}"


def choose_max_length(config: RunConfig, max_positions: int) -> tuple[RunConfig, list[Decision]]:
    """Decide max_length: what the backbone can read, at most 512; it costs short texts nothing."""
    if config.tokens.max_length is not None:
        return config, []
    value = min(LONGEST_DEFAULT, max_positions)
    decided = replace(config, tokens=replace(config.tokens, max_length=value))
    return decided, [Decision("max_length", value, "what the backbone can read, at most 512")]


def choose_long_text(config: RunConfig) -> tuple[RunConfig, LongText, list[Decision]]:
    """Decide what becomes of texts longer than max_length, which is decided already.

    Raises ConfigError where a setting belongs to another form.
    """
    tokens = config.tokens
    form = tokens.long_text or "truncate"
    for setting, owner in _LONG_TEXT_SETTINGS.items():
        if form != owner and getattr(tokens, setting) is not None:
            raise ConfigError(
                f"{setting}=: has a meaning with long_text={owner} only, and long_text is {form}",
                hint=f"add long_text={owner}, or set {setting}=none",
            )
    by_rule: dict[str, tuple[float | int, str]] = {}
    if form == "window":
        by_rule["window_overlap"] = ((tokens.max_length or 0) // 4, "a quarter of max_length")
        by_rule["max_windows"] = (_MAX_WINDOWS, "bounds the time and the memory that one text takes")
    elif form == "head_tail":
        by_rule["head_fraction"] = (_HEAD_FRACTION, "a quarter from the beginning, the rest from the end")
    opened = {k: v for k, v in by_rule.items() if getattr(tokens, k) is None}
    tokens = replace(tokens, long_text=form, **{k: v for k, (v, _) in opened.items()})  # type: ignore[arg-type]
    defaults = LongText()
    long_text = LongText(
        form,
        defaults.overlap if tokens.window_overlap is None else tokens.window_overlap,
        defaults.max_windows if tokens.max_windows is None else tokens.max_windows,
        defaults.head_fraction if tokens.head_fraction is None else tokens.head_fraction,
    )
    return replace(config, tokens=tokens), long_text, [Decision(k, v, why) for k, (v, why) in opened.items()]


def choose_validation_rows(rows: int, classes: int = 0) -> int:
    """Return how many training rows to hold out for validation: a tenth, 50 to 2,000, at most a fifth.

    classes: none are held out where there are fewer than 64 rows for each class: a tenth of them says too little to
    choose by, and costs more than it brings.
    """
    if rows < FEW_ROWS_PER_CLASS * classes:
        return 0
    return min(max(rows // 10, 50), 2_000, rows // 5)


def choose_test_rows(rows: int) -> int:
    """Return how many rows to hold out for the test where no test table is given: a fifth, at most 10,000."""
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
    """Decide how the head starts, epochs, batch size, learning rates and dropout where they are open.

    rows: training rows. method_rate, head_rate: the method's own default peak rates. solved: nothing but the head is
    trained. task: what the task decides. docs/explanation.md says where the numbers come from.
    Raises ConfigError where settings contradict each other.
    """
    training, decisions = config.training, []

    def decide(setting: str, value: float | int | str, reason: str) -> None:
        nonlocal training
        if getattr(training, setting) is None:
            training = replace(training, **{setting: value})  # type: ignore[arg-type]
            decisions.append(Decision(setting, value, reason))

    many, few = classes > MANY_CLASSES, rows < FEW_ROWS_PER_CLASS * classes
    if config.model.init is not None:
        decide("head_init", "random", "the head comes from the run of init=")
    if not task.solves_head:
        decide("head_init", "random", "the task's head cannot be solved")
    decide("head_init", "probe", "solved on frozen features")
    probe = training.head_init == "probe"
    if probe and not task.solves_head:
        raise ConfigError("head_init=probe: the head of this task cannot be solved", hint="leave head_init= out")
    if solved and probe:
        decide("epochs", 0, "the head is solved, and nothing else is trained")
    pairs = probe and few and not many and not solved and not task.no_contrast
    steps = choose_contrast_steps(rows) if pairs else 0
    decide("contrast_steps", steps, f"{rows:,} rows of {classes} classes")
    if training.contrast_steps:
        _check_contrast(task.no_contrast, solved=solved, probe=probe)
        decide("epochs", 0, "the head is solved after contrast")
    decide("batch_size", 32 if many or rows > 20_000 else 16, f"{classes} classes, {rows:,} rows")
    assert training.batch_size is not None
    decide("epochs", choose_epochs(rows, classes, training.batch_size), f"{rows:,} rows, {classes} classes")
    decide("learning_rate", method_rate, "the method's own")
    assert training.learning_rate is not None
    if probe:
        rate = training.learning_rate if head_rate is None else head_rate
        decide("head_learning_rate", min(rate, SOLVED_HEAD_RATE), "a solved head needs small steps")
    elif head_rate is None:
        decide("head_learning_rate", training.learning_rate, "as learning_rate")
    else:
        decide("head_learning_rate", head_rate, "the method's own for the head")
    decide("dropout", 0.0, "few trained parameters over few epochs")
    if task.metric_reason:
        decide("metric", task.metric, task.metric_reason)
    training = replace(training, metric=training.metric or task.metric)
    if training.epochs == 0 and not probe:
        raise ConfigError("epochs=0 with head_init=random: nothing would be trained", hint="leave one of them out")
    return replace(config, training=training), decisions


def _check_contrast(reason: str, *, solved: bool, probe: bool) -> None:
    """Raise ConfigError where contrastive steps have no meaning."""
    if reason:
        raise ConfigError(f"contrast_steps=: {reason}", hint="leave contrast_steps= out")
    if solved:
        raise ConfigError("contrast_steps=: method=head trains nothing below the head", hint="choose method=lora")
    if not probe:
        raise ConfigError("contrast_steps=: the head is solved after them", hint="leave head_init=random out")


def choose_contrast_steps(rows: int) -> int:
    """Return the number of contrastive steps: the more rows, the longer until they are learned by heart."""
    return min(24 + rows // 4, 60)


def choose_epochs(rows: int, classes: int, batch_size: int) -> int:
    """Return the passes over the rows: 150 steps at least, in at most 10 passes, fewer passes over many rows."""
    passes = 4 if rows <= 1_500 or (classes > MANY_CLASSES and rows <= 20_000) else 3 if rows <= 6_000 else 2
    passes = passes if rows <= 50_000 else 1
    floor = math.ceil(FEWEST_STEPS * batch_size / max(rows, 1))
    return max(passes, min(floor, MOST_EPOCHS))
