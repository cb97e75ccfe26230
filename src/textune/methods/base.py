"""The contract of a tuning method: one dataclass of options, one class, one registration.

No caller ever asks which method it holds: it calls the hooks below. torch and peft are imported inside them,
so that listing methods and checking options costs nothing.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from textune.backbones import Backbone
from textune.backbones.families import Family
from textune.config.values import coerce_option
from textune.errors import BundleError, ConfigError, ModelError, suggest
from textune.methods.rates import Rates, group_parameters, is_inside
from textune.registry import Registry
from textune.tasks import Task

if TYPE_CHECKING:
    import torch

DELTA_FILE = "delta.safetensors"


@dataclass(frozen=True)
class NoOptions:
    """For methods without options."""


class Method:
    """What every method inherits: train what `apply` leaves trainable, save it as a delta over the backbone."""

    key: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    when: ClassVar[str]
    """When it is the right one, in a sentence."""
    options_type: ClassVar[type] = NoOptions
    learning_rate: ClassVar[float]
    """Default peak rate, found on splits of training rows; `textune.defaults` scales it."""
    head_learning_rate: ClassVar[float | None] = None
    """Default peak rate of the head; None: that of the body."""
    mergeable: ClassVar[bool] = True
    """Whether `merge` gives a plain Hugging Face model with the same logits."""
    merged_to_predict: ClassVar[bool] = True
    """Whether a loaded run is merged before it predicts, which is faster."""
    trains_body: ClassVar[bool] = True
    """Whether anything but the head is trained; else a solved head is all there is to do."""
    needs_peft: ClassVar[bool] = False
    families_refused: ClassVar[Mapping[str, str]] = {}
    """Family name -> why this method cannot be had there."""
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Name -> options: forms of the method that are proven on every family as the method itself is."""
    peft_task_type: str = Task.peft_task_type
    """peft's name of what is trained, for methods that come from peft; `for_task` sets it."""

    def __init__(self, options: Any) -> None:
        self.options = options

    def for_task(self, task: Task) -> Self:
        """Return the method as it trains models of a task."""
        fitting = copy.copy(self)
        fitting.peft_task_type = task.peft_task_type
        return fitting

    @classmethod
    def refusal(cls, family: Family) -> str | None:
        """Return why this method cannot be had on a family, or None."""
        return cls.families_refused.get(family.name)

    @property
    def virtual_tokens(self) -> int:
        """Positions that the method takes from the longest text a backbone reads."""
        return 0

    @property
    def tokens_before_text(self) -> int:
        """Virtual tokens that stand before the text in what the backbone gives back, which pooling leaves out."""
        return 0

    def needs_equal_lengths(self, family: Family) -> bool:
        """Return whether padding would, or might, change the answers: only texts of one length share a pass then."""
        return family.guessed

    def load_kwargs(self, family: Family) -> dict[str, Any]:
        """Return how the backbone must be loaded (extra arguments of from_pretrained)."""
        return {}

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Inject, wraps or freezes; return the model to train. new_modules start random and must be saved."""
        raise NotImplementedError

    def rate_factor(self, parameter: str) -> float:
        """Return what the learning rate of a parameter is multiplied with."""
        return 1.0

    def param_groups(self, model: torch.nn.Module, family: Family, rates: Rates) -> list[dict[str, Any]]:
        """Return the optimizer's groups: the head and each layer at their rates; weight decay on matrices only."""
        return group_parameters(model, family, rates, self.rate_factor)

    def write_weights(self, model: torch.nn.Module, folder: Path, backbone: Backbone) -> list[str]:
        """Write what the run added to the backbone; return the names of the files."""
        from safetensors.torch import save_file

        tensors = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}
        save_file(tensors, folder / DELTA_FILE, metadata={"format": "pt"})
        return [DELTA_FILE]

    def plain_load(self, family: Family) -> list[str]:
        """Return further arguments of from_pretrained that loading by peft alone needs."""
        return []

    def resolved_options(self, family: Family) -> dict[str, Any]:
        """Return the options with every default of the family filled in, as the manifest keeps them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.options).items()}

    def load_weights(self, model: torch.nn.Module, folder: Path) -> None:
        """Lay saved weights over a freshly loaded model to which `apply` was applied.

        Raises BundleError where a saved tensor has no place, or a trained one no saved value.
        """
        import torch
        from safetensors.torch import load_file

        tensors = load_file(folder / DELTA_FILE)
        places = dict(model.named_parameters())
        trained = {name for name, parameter in places.items() if parameter.requires_grad}
        if wrong := sorted(set(tensors) ^ trained):
            raise BundleError(f"{folder / DELTA_FILE}: does not fit the backbone: {', '.join(wrong[:3])}")
        with torch.no_grad():
            for name, tensor in tensors.items():
                if places[name].shape != tensor.shape:
                    raise BundleError(f"{folder / DELTA_FILE}: {name} has another shape than the backbone's")
                places[name].copy_(tensor)

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return a plain Hugging Face model with the same logits."""
        return model


methods: Registry[type[Method]] = Registry("method")
adopted: Registry[type[Method]] = Registry("method")
"""Methods of imported runs only: they predict, and nobody can train with them, so no help or table names them."""


def register(name: str, registry: Registry[type[Method]] = methods) -> typing.Callable[[type[Method]], type[Method]]:
    """Register a method class under its key."""

    def store(cls: type[Method]) -> type[Method]:
        cls.key = name
        return registry.register(name)(cls)

    return store


def resolve(name: str, raw_options: Mapping[str, Any]) -> Method:
    """Check the options of a method to train with and return it; raise ConfigError listing every problem."""
    if name in adopted.names():
        raise ConfigError(
            f"method {name}: holds an adapter that was made elsewhere; it predicts, but cannot be trained further",
            hint=f"train anew with one of {', '.join(methods.names())}",
        )
    return _build_method(methods.get(name), raw_options)


def resolve_saved(name: str, raw_options: Mapping[str, Any]) -> Method:
    """Return the method of a saved run, which may be an imported one; raise ConfigError like `resolve`."""
    return _build_method((adopted if name in adopted.names() else methods).get(name), raw_options)


def _build_method(cls: type[Method], raw_options: Mapping[str, Any]) -> Method:
    name = cls.key
    fields = {f.name: f for f in dataclasses.fields(cls.options_type)}
    hints = typing.get_type_hints(cls.options_type)
    problems = [f"unknown option 'method.{k}' of {name}{suggest(k, fields)}" for k in raw_options if k not in fields]
    values: dict[str, Any] = {}
    for key in (k for k in raw_options if k in fields):
        try:
            values[key] = coerce_option(fields[key].metadata, hints[key], raw_options[key])
        except ValueError as error:
            problems.append(f"method.{key}={raw_options[key]!r}: {error}")
    if problems:
        raise ConfigError("\n  ".join(problems), hint=f"options of {name}: {', '.join(fields) or 'none'}")
    return cls(cls.options_type(**values))


def check_family(method: Method, family: Family) -> None:
    """Raise ModelError where the family cannot carry the method, naming those that it can."""
    reason = method.refusal(family)
    if reason is not None:
        others = [name for name, cls in methods if cls.refusal(family) is None]
        raise ModelError(
            f"method {method.key} cannot be had on {family.name}: {reason}",
            hint=f"choose {', '.join(others)}",
        )


def longest_text(method: Method, backbone: Backbone) -> int:
    """Return how many tokens of a text the backbone reads under the method."""
    return backbone.max_positions - method.virtual_tokens


def check_fit(method: Method, backbone: Backbone, max_length: int | None) -> None:
    """Raise ModelError where the backbone does not support the method, ConfigError where it reads fewer tokens."""
    check_family(method, backbone.family)
    most = longest_text(method, backbone)
    if max_length is not None and max_length > most:
        beside = f" beside the {method.virtual_tokens} virtual ones of {method.key}" if method.virtual_tokens else ""
        raise ConfigError(f"max_length={max_length}: {backbone.id} reads at most {most} tokens{beside}")


def freeze_all_but(model: torch.nn.Module, modules: Iterable[str]) -> None:
    """Make only the parameters inside the named modules trainable."""
    chosen = tuple(modules)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_inside(name, chosen))


def module_pattern(modules: Iterable[str]) -> str:
    """Return a regular expression that fully matches the names of the modules and of all inside them."""
    return r"(?:.*\.)?(?:" + "|".join(re.escape(m) for m in modules) + r")(?:\..*)?"


def target_pattern(names: Iterable[str], apart: Iterable[str]) -> str:
    """Return a regular expression that fully matches modules by the end of their names, but none inside `apart`."""
    ends, others = ("|".join(map(re.escape, group)) for group in (names, apart))
    return rf"(?!(?:.*\.)?(?:{others})(?:\.|$))(?:.*\.)?(?:{ends})"


def layer_pattern(family: Family, names: Iterable[str]) -> str:
    """Return a regular expression that fully matches modules of every layer, given their names inside a layer."""
    inside = "|".join(re.escape(name) for name in names)
    return rf"(?:.*\.)?{re.escape(family.layers)}\.\d+\.(?:{inside})"
