"""The space of a search: lists or ranges of values of settings, and the points they span."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from textune.config import RunConfig, build_config, known_settings, merge_settings, setting_type
from textune.config.defaults import choose_method
from textune.config.schema import PARSERS
from textune.config.values import coerce_value, show_value
from textune.errors import ConfigError, suggest
from textune.methods import methods, resolve

Point = dict[str, Any]
"""A value for every searched setting: name -> value; a method's options are named method.OPTION."""

_OTHER_ROWS = "it changes the rows, so trials could not be compared"
_NOT_WHAT_IS_LEARNT = "it changes where or how to compute, not what is learned"
_AFTER_TRAINING = "it decides on answers after the training, and changes no score that trials are compared by"
_HOW_ANSWERS_ARE_WRITTEN = "it changes how answers are written, not what is learned"
NOT_SEARCHED = (
    dict.fromkeys(
        (
            "data",
            "test",
            "validation",
            "task",
            "label",
            "label_separator",
            "test_text",
            "test_text_pair",
            "test_label",
            "labels",
            "text",
            "text_pair",
            "group",
            "fixes",
            "validation_fraction",
            "test_fraction",
            "sample",
            "validation_sample",
            "test_sample",
            "encoding",
            "delimiter",
            "seed",
            "split_seed",
            "init",
            "prompt",
            "completion",
            "messages",
        ),
        _OTHER_ROWS,
    )
    | dict.fromkeys(
        (
            "device",
            "engine",
            "max_tokens",
            "prefix_cache",
            "threads",
            "tensorboard",
            "checkpoint_every_steps",
            "trust",
            "name",
            "runs_dir",
            "packing",
            "row_hashes",
        ),
        _NOT_WHAT_IS_LEARNT,
    )
    | dict.fromkeys(
        ("threshold", "threshold_for", "threshold_label", "costs", "abstain_for", "set_coverage"), _AFTER_TRAINING
    )
    | dict.fromkeys(("max_new_tokens", "temperature", "top_p", "answer_rows"), _HOW_ANSWERS_ARE_WRITTEN)
    | {"chat_template": "it changes which tokens the loss is over, so trials could not be compared"}
    | {"metric": "trials could not be compared; set it once for all trials"}
)
_RANGE = ("low", "high", "step", "log")
_FREE_TEXT = ("joiner", "threshold_label")
"""Settings that are taken to the letter, in which a comma parts nothing."""


@dataclass(frozen=True)
class Dimension:
    """One searched setting: `values`, or a range from `low` to `high`.

    step: None means 1 for whole numbers. log: draw uniformly over the logarithm.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float | int | None = None
    high: float | int | None = None
    step: float | int | None = None
    log: bool = False

    @property
    def examples(self) -> tuple[Any, ...]:
        """Representative values: all of a list, or both ends of a range."""
        return self.values if self.low is None else (self.low, self.high)

    @property
    def count(self) -> float:
        """The number of values; infinite for a range of real numbers."""
        if self.low is None or self.high is None:
            return len(self.values)
        step = self.step or (1 if isinstance(self.low, int) else None)
        return math.inf if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def list_values(self) -> tuple[Any, ...]:
        """Return every value, where their number is finite."""
        if self.low is None or self.high is None:
            return self.values
        return tuple(min(self.low + k * (self.step or 1), self.high) for k in range(int(self.count)))

    def draw(self, trial: Any) -> Any:
        """Draw a value with an Optuna trial."""
        if self.low is None:
            choices = {_as_choice(value): value for value in self.values}
            return choices[trial.suggest_categorical(self.name, list(choices))]
        suggest_number = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        step = self.step or (1 if isinstance(self.low, int) else None)
        return suggest_number(self.name, self.low, self.high, step=step, log=self.log)

    def to_plain(self) -> Any:
        """Return the dimension as plain data for YAML."""
        if self.low is None:
            return list(self.values)
        fields = {k: getattr(self, k) for k in _RANGE}
        return {k: v for k, v in fields.items() if v is not None and v is not False}  # 0 == False, but 0 is a bound


@dataclass(frozen=True)
class Space:
    """All dimensions. The method comes first, since it decides which method options apply."""

    dimensions: tuple[Dimension, ...]
    method: str

    @property
    def is_grid(self) -> bool:
        """Whether every dimension lists its values."""
        return all(d.low is None for d in self.dimensions)

    def list_points(self) -> list[Point]:
        """Return every point, the last dimension changing fastest, without options a method does not have.

        Only for a finite number of points.
        """
        points: list[Point] = [{}]
        for d in self.dimensions:
            values = [{d.name: value} for value in d.list_values()]
            points = [p | o for p in points for o in (values if self._has(p, d) else [{}])]
        return points

    def draw(self, trial: Any) -> Point:
        """Draw one point with an Optuna trial."""
        point: Point = {}
        for d in self.dimensions:
            if self._has(point, d):
                point[d.name] = d.draw(trial)
        return point

    def encode(self, point: Point) -> dict[str, Any]:
        """Return a point with its values as Optuna's choices."""
        return {name: _as_choice(value) for name, value in point.items()}

    def _has(self, point: Mapping[str, Any], dimension: Dimension) -> bool:
        """Return whether the dimension applies to the point's method."""
        option = dimension.name.removeprefix("method.")
        return option == dimension.name or option in _options_of(point.get("method", self.method))

    def count_points(self) -> float:
        """Return an upper bound on the points, perhaps infinite: it also counts options that a method does not have."""
        return math.prod(d.count for d in self.dimensions)

    def list_tried(self, *, every: bool) -> Iterator[Point]:
        """Yield the points to check in advance: all of a grid, or each value with the first value of the others."""
        if every:
            yield from self.list_points()
            return
        searched_methods = next((d.values for d in self.dimensions if d.name == "method"), None)
        for name in searched_methods or (self.method,):
            first: Point = {"method": name} if searched_methods else {}
            dimensions = [d for d in self.dimensions if d.name != "method" and self._has({"method": name}, d)]
            first |= {d.name: d.examples[0] for d in dimensions}
            yield first
            yield from (first | {d.name: value} for d in dimensions for value in d.examples[1:])


def settings_at(base: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings overridden by a point's values; a different method drops the base's method options."""
    flat = merge_settings(base, {k: v for k, v in point.items() if not k.startswith("method")})
    if "method" in point:
        flat = merge_settings(flat, {"method": {"name": point["method"]}})
    options = {k.removeprefix("method."): v for k, v in point.items() if k.startswith("method.")}
    return merge_settings(flat, {"method": options}) if options else flat


def split_several(flat: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Separate the settings that hold several values (1e-3,5e-4, or a list) but take one: these are searched."""
    base, several = dict(flat), dict[str, list[Any]]()
    method = base.get("method")
    options = dict(method) if isinstance(method, Mapping) else {} if method is None else {"name": method}
    for name, value in (*flat.items(), *((f"method.{k}", v) for k, v in options.items() if k != "name")):
        values = value.split(",") if isinstance(value, str) and name not in _FREE_TEXT else value
        if name != "method" and _takes_one(name) and isinstance(values, list) and len(values) > 1:
            several[name] = values
            base.pop(name, None)
            if name.startswith("method."):  # dropout= is not the method's own option of that name
                options.pop(name.removeprefix("method."), None)
    names = options.get("name")
    if isinstance(names, str) and "," in names:
        several["method"] = [part.strip() for part in options.pop("name").split(",")]
    return base | ({"method": options} if options or "method" in base else {}), several


def _takes_one(name: str) -> bool:
    """Return whether a setting may be searched and takes one number or word, not a list in a syntax of its own."""
    if name.startswith("method."):
        option = name.removeprefix("method.")
        kinds = [typing.get_type_hints(m.options_type).get(option) for _, m in methods]
    else:
        kinds = [] if name in NOT_SEARCHED or name in PARSERS else [setting_type(name)]
    return any(set(typing.get_args(kind) or (kind,)) & {int, float, str} for kind in kinds if kind is not None)


def parse_space(raw: Any, base: RunConfig) -> tuple[Space, list[str]]:
    """Parse `sweep: space:`; return it with a line for each problem."""
    if not isinstance(raw, Mapping) or not raw:
        return Space((), choose_method(base)), [
            "space: must name settings with their values, such as learning_rate: [1e-3, "
            "5e-4] or {low: 1e-4, high: 1e-2, log: true}"
        ]
    problems: list[str] = []
    dimensions: list[Dimension] = []
    raw = {str(name): values for name, values in raw.items()}
    names = sorted(raw, key=lambda name: name != "method")
    for name in names:
        searched_methods = next((d.values for d in dimensions if d.name == "method"), (choose_method(base),))
        dimension = _parse_dimension(name, raw[name], base, searched_methods, problems)
        dimensions += [dimension] if dimension else []
    return Space(tuple(dimensions), choose_method(base)), problems


def _parse_dimension(
    name: str, raw: Any, base: RunConfig, searched_methods: tuple[str, ...], problems: list[str]
) -> Dimension | None:
    known = [n for n in known_settings() if n not in NOT_SEARCHED]
    known += [f"method.{option}" for m in searched_methods if m in methods.names() for option in _options_of(m)]
    if name in NOT_SEARCHED:
        problems.append(f"space: {name} cannot be searched: {NOT_SEARCHED[name]}")
        return None
    if name not in known:
        problems.append(f"space: unknown setting '{name}'{suggest(name, known)}")
        return None
    problems_before = len(problems)

    def coerce(value: Any, bound: str = "") -> Any:
        try:
            return _coerce(name, value, base, searched_methods)
        except ConfigError as error:
            message = error.message.removeprefix(f"{name}={show_value(value)}: ")
            problems.append(f"space: {name}={show_value(value)}{bound}: {message}")
            return None

    if isinstance(raw, Mapping):
        problems += [f"space: {name}: unknown key '{k}'{suggest(str(k), _RANGE)}" for k in raw if k not in _RANGE]
        problems += [f"space: {name}: a range needs {k}" for k in ("low", "high") if k not in raw]
        if len(problems) > problems_before:
            return None
        dimension = Dimension(
            name,
            (),
            coerce(raw["low"], " (low)"),
            coerce(raw["high"], " (high)"),
            None if raw.get("step") is None else _number(name, raw["step"], problems),
            raw.get("log") is True,
        )
        if len(problems) == problems_before:
            problems += _find_range_problems(dimension, raw)
    else:
        if not isinstance(raw, list | tuple) or not raw:
            problems.append(f"space: {name}={show_value(raw)}: must be a list of values, or a range with low and high")
            return None
        values = {_as_choice(v): v for v in (coerce(v) for v in raw)}
        dimension = Dimension(name, tuple(values.values()))
    return dimension if len(problems) == problems_before else None


def _find_range_problems(dimension: Dimension, raw: Mapping[str, Any]) -> list[str]:
    low, high, name = dimension.low, dimension.high, dimension.name
    numbers = isinstance(low, int | float) and isinstance(high, int | float) and not isinstance(low, bool)
    if not numbers:
        return [f"space: {name}: a range is for numbers; list the values: [..., ...]"]
    assert low is not None and high is not None
    step, problems = dimension.step, []
    if low >= high:
        problems.append(f"low {low:g} must be less than high {high:g}")
    if not isinstance(raw.get("log", False), bool):
        problems.append("log must be true or false")
    if dimension.log and low <= 0:
        problems.append("with log: true, low must be more than 0")
    if dimension.log and step is not None:
        problems.append("step and log cannot be combined")
    if step is not None and (step <= 0 or (isinstance(low, int) and step != int(step))):
        required = "a whole number of 1 or more" if isinstance(low, int) else "more than 0"
        problems.append(f"step {step:g} must be {required}")
    return [f"space: {name}: {problem}" for problem in problems]


def _number(name: str, value: Any, problems: list[str]) -> float | int | None:
    try:
        number = coerce_value(float, value)
    except ValueError as error:
        problems.append(f"space: {name}: step={show_value(value)}: {error}")
        return None
    return int(number) if number.is_integer() else number


def _coerce(name: str, value: Any, base: RunConfig, searched_methods: tuple[str, ...]) -> Any:
    """Return a value in the setting's type, as plain data; raise ConfigError."""
    if name == "method":
        if not isinstance(value, str):
            raise ConfigError("must be a method's name; search its options as method.OPTION")
        methods.get(value)
        return value
    if name.startswith("method."):
        option = name.removeprefix("method.")
        owner = next(m for m in searched_methods if m in methods.names() and option in _options_of(m))
        return _plain(getattr(resolve(owner, {option: value}).options, option))
    return build_config(base.to_dict() | {name: value}).to_dict()[name]


def _options_of(method: str) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(methods.get(method).options_type))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_choice(value: Any) -> Any:
    """Return the value as a choice that Optuna accepts; lists and mappings become JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
