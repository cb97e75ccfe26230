"""The contract of a tuning method: one dataclass of options, one class, one registration.

No caller ever asks which method it holds: it calls the hooks below. torch and peft are imported inside them,
so that listing methods and checking options costs nothing.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textune.backbones import Backbone, Family
from textune.config import coerce_value
from textune.errors import BundleError, ConfigError, ModelError, suggest
from textune.registry import Registry

if TYPE_CHECKING:
    import torch

DELTA_FILE = "delta.safetensors"


@dataclass(frozen=True)
class NoOptions:
    """For methods without options."""


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of one run. head: of the new modules on top, which start from random weights."""

    body: float
    head: float
    weight_decay: float


class Method:
    """What every method inherits: train what `apply` leaves trainable, save it as a delta over the backbone."""

    key: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    options_type: ClassVar[type] = NoOptions
    learning_rate: ClassVar[float]
    """Default peak rate, found on splits of training rows; `textune.defaults` scales it."""
    mergeable: ClassVar[bool] = True
    """Whether `merge` gives a plain Hugging Face model with the same logits."""
    needs_peft: ClassVar[bool] = False
    families_refused: ClassVar[Mapping[str, str]] = {}
    """Family name -> why this method cannot be had there."""

    def __init__(self, options: Any) -> None:
        self.options = options

    def load_kwargs(self) -> dict[str, Any]:
        """Returns how the backbone must be loaded (extra arguments of from_pretrained)."""
        return {}

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Injects, wraps or freezes; returns the model to train. new_modules start random and must be saved."""
        raise NotImplementedError

    def param_groups(self, model: torch.nn.Module, family: Family, rates: Rates) -> list[dict[str, Any]]:
        """Returns the optimizer's groups: the head at its own rate; weight decay on matrices only."""
        return group_parameters(model, family.head_modules, rates)

    def write_weights(self, model: torch.nn.Module, folder: Path, backbone: Backbone) -> list[str]:
        """Writes what the run added to the backbone; returns the names of the files."""
        from safetensors.torch import save_file

        tensors = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}
        save_file(tensors, folder / DELTA_FILE, metadata={"format": "pt"})
        return [DELTA_FILE]

    def resolved_options(self, family: Family) -> dict[str, Any]:
        """Returns the options with every default of the family filled in, as the manifest keeps them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.options).items()}

    def load_weights(self, model: torch.nn.Module, folder: Path) -> None:
        """Lays saved weights over a freshly loaded model to which `apply` was applied.

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
        """Returns a plain Hugging Face model with the same logits."""
        return model


methods: Registry[type[Method]] = Registry("method")


def register(name: str) -> typing.Callable[[type[Method]], type[Method]]:
    """Registers a method class under its key."""

    def store(cls: type[Method]) -> type[Method]:
        cls.key = name
        return methods.register(name)(cls)

    return store


def resolve(name: str, raw_options: Mapping[str, Any]) -> Method:
    """Checks a method's options and returns the method; raises ConfigError listing every problem."""
    cls = methods.get(name)
    fields = {f.name: f for f in dataclasses.fields(cls.options_type)}
    hints = typing.get_type_hints(cls.options_type)
    problems = [f"unknown option 'method.{k}' of {name}{suggest(k, fields)}" for k in raw_options if k not in fields]
    values: dict[str, Any] = {}
    for key in (k for k in raw_options if k in fields):
        try:
            values[key] = _coerce_option(fields[key], hints[key], raw_options[key])
        except ValueError as error:
            problems.append(f"method.{key}={raw_options[key]!r}: {error}")
    if problems:
        raise ConfigError("\n  ".join(problems), hint=f"options of {name}: {', '.join(fields) or 'none'}")
    return cls(cls.options_type(**values))


def _coerce_option(f: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    kinds = [a for a in typing.get_args(hint) if a is not type(None)] if type(None) in typing.get_args(hint) else [hint]
    if value is None or (isinstance(value, str) and value.lower() in ("auto", "none", "")):
        if kinds[0] is hint:
            raise ValueError("must have a value")
        return None
    result = coerce_value(kinds[0], value)
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
    if choices and result not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    if low is not None and not low <= result <= high:
        raise ValueError(f"must be between {low:g} and {high:g}")
    return result


def check_family(method: Method, family: Family) -> None:
    """Raises ModelError where the family cannot carry the method, naming those that it can."""
    reason = method.families_refused.get(family.name)
    if reason is not None:
        others = [name for name, cls in methods if family.name not in cls.families_refused]
        raise ModelError(
            f"method {method.key} cannot be had on {family.name}: {reason}",
            hint=f"choose {', '.join(others)}",
        )


def is_inside(parameter: str, modules: Iterable[str]) -> bool:
    """Returns whether a parameter's dotted name runs through one of the modules (peft's wrapping included)."""
    dotted = f".{parameter}."
    return any(f".{module}." in dotted for module in modules)


def freeze_all_but(model: torch.nn.Module, modules: Iterable[str]) -> None:
    """Makes only the parameters inside the named modules trainable."""
    chosen = tuple(modules)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_inside(name, chosen))


def group_parameters(model: torch.nn.Module, head: tuple[str, ...], rates: Rates) -> list[dict[str, Any]]:
    """Groups trainable parameters by head or body and by decay; biases and norms are never decayed."""
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_head, decayed = is_inside(name, head), parameter.ndim >= 2
        group = groups.setdefault(
            (in_head, decayed),
            {
                "name": ("head" if in_head else "body") + ("" if decayed else ", no decay"),
                "params": [],
                "lr": rates.head if in_head else rates.body,
                "weight_decay": rates.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def module_pattern(modules: Iterable[str]) -> str:
    """Returns a regular expression that fully matches the names of the modules and of all inside them."""
    return r"(?:.*\.)?(?:" + "|".join(re.escape(m) for m in modules) + r")(?:\..*)?"
