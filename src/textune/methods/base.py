"""The contract of a tuning method: one dataclass of options, one class, one registration.

Callers never ask which method they have: they call the hooks below. torch and peft are imported inside the hooks,
so that listing methods and checking options stays fast.
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
from textune.config.values import coerce_option, show_value
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
    """Base class of methods: train what `apply` leaves trainable and save it as a delta over the backbone."""

    key: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    when: ClassVar[str]
    """When to choose it, in one sentence."""
    options_type: ClassVar[type] = NoOptions
    learning_rate: ClassVar[float]
    """Default peak learning rate, tuned on splits of training rows; `textune.config.defaults` scales it."""
    head_learning_rate: ClassVar[float | None] = None
    """Default peak learning rate of the head; None: same as the body's."""
    mergeable: ClassVar[bool] = True
    """Whether `merge` gives a plain Hugging Face model with the same logits."""
    merged_to_predict: ClassVar[bool] = True
    """Whether a loaded run is merged before predicting, which is faster."""
    trains_body: ClassVar[bool] = True
    """Whether anything besides the head is trained; if not, solving the head is the whole training."""
    needs_peft: ClassVar[bool] = False
    plain_weights: ClassVar[bool] = False
    """Whether the saved tensors are a plain Hugging Face model's own, under its names, so that no method is needed."""
    families_refused: ClassVar[Mapping[str, str]] = {}
    """Family name -> why it does not support this method."""
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Name -> options: variants that the contract tests run on every family, like the method itself."""
    peft_task_type: str = Task.peft_task_type
    """peft's task type, for methods that peft implements; `for_task` sets it."""

    def __init__(self, options: Any) -> None:
        self.options = options

    def for_task(self, task: Task) -> Self:
        """Return a copy of the method that trains models of this task; raise ModelError where it cannot."""
        if task.writes and (reason := self.explain_no_writing()):
            raise ModelError(
                f"method {self.key} does not support task={task.name}: {reason}", hint="choose method=lora"
            )
        method = copy.copy(self)
        method.peft_task_type = task.peft_task_type
        return method

    def explain_no_writing(self) -> str | None:
        """Return why the method cannot tune a model that writes texts, or None."""
        if not self.trains_body:
            return "it trains a classifier's head, and a model that writes has none"
        if self.virtual_tokens:
            return "padded prompts of different length would get different answers"
        return None

    @classmethod
    def refusal(cls, family: Family) -> str | None:
        """Return why a family does not support this method, or None."""
        return cls.families_refused.get(family.name)

    @property
    def virtual_tokens(self) -> int:
        """Positions that the method uses up of the backbone's maximum length."""
        return 0

    def count_positions(self, family: Family) -> int:
        """Return how many of the backbone's positions the virtual tokens take from texts."""
        return self.virtual_tokens

    @property
    def tokens_before_text(self) -> int:
        """Virtual tokens before the text in the backbone's output; pooling skips them."""
        return 0

    def needs_equal_lengths(self, family: Family) -> bool:
        """Return whether padding may change the logits: then only texts of equal length share a batch."""
        return family.guessed

    def load_kwargs(self, family: Family) -> dict[str, Any]:
        """Return extra arguments of from_pretrained for loading the backbone."""
        return {}

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Inject, wrap or freeze; return the model to train. new_modules start random and must be saved."""
        raise NotImplementedError

    def rate_factor(self, parameter: str) -> float:
        """Return the factor for a parameter's learning rate."""
        return 1.0

    def param_groups(self, model: torch.nn.Module, family: Family, rates: Rates) -> list[dict[str, Any]]:
        """Return the optimizer's groups: a rate for the head and each layer; weight decay on matrices only."""
        return group_parameters(model, family, rates, self.rate_factor)

    def write_weights(self, model: torch.nn.Module, folder: Path, backbone: Backbone) -> list[str]:
        """Write the weights that the run added to the backbone; return the file names."""
        from safetensors.torch import save_file

        tensors = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}
        save_file(tensors, folder / DELTA_FILE, metadata={"format": "pt"})
        return [DELTA_FILE]

    def plain_load(self, family: Family) -> list[str]:
        """Return extra arguments of from_pretrained for loading the adapter with peft alone."""
        return []

    def resolved_options(self, family: Family) -> dict[str, Any]:
        """Return the options with the family's defaults filled in, as stored in the manifest."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.options).items()}

    def load_weights(self, model: torch.nn.Module, folder: Path) -> None:
        """Load saved weights into a fresh model after `apply`.

        Raises BundleError if a saved tensor is unexpected or a trained one is missing.
        """
        import torch
        from safetensors.torch import load_file

        tensors = load_file(folder / DELTA_FILE)
        parameters = dict(model.named_parameters())
        trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
        if mismatched := sorted(set(tensors) ^ trained):
            raise BundleError(f"{folder / DELTA_FILE}: does not fit the backbone: {', '.join(mismatched[:3])}")
        with torch.no_grad():
            for name, tensor in tensors.items():
                if parameters[name].shape != tensor.shape:
                    raise BundleError(f"{folder / DELTA_FILE}: shape of {name} does not match the backbone")
                parameters[name].copy_(tensor)

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return a plain Hugging Face model with the same logits."""
        return model


methods: Registry[type[Method]] = Registry("method")
adopted: Registry[type[Method]] = Registry("method")
"""Methods of imported runs. They cannot be trained, so no help or table lists them."""


def register(name: str, registry: Registry[type[Method]] = methods) -> typing.Callable[[type[Method]], type[Method]]:
    """Register a method class under its key."""

    def store(cls: type[Method]) -> type[Method]:
        cls.key = name
        return registry.register(name)(cls)

    return store


def resolve(name: str, raw_options: Mapping[str, Any]) -> Method:
    """Check a trainable method's options and return the method; raise ConfigError listing every problem."""
    if name in adopted.names():
        raise ConfigError(
            f"method {name}: an imported adapter can predict, but cannot be trained further",
            hint=f"train a new model with one of {', '.join(methods.names())}",
        )
    return _build_method(methods.get(name), raw_options)


def resolve_saved(name: str, raw_options: Mapping[str, Any]) -> Method:
    """Return the method of a saved run, which may be imported; raise ConfigError like `resolve`."""
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
            problems.append(f"method.{key}={show_value(raw_options[key])}: {error}")
    if problems:
        raise ConfigError("\n  ".join(problems), hint=f"options of {name}: {', '.join(fields) or 'none'}")
    return cls(cls.options_type(**values))


def check_family(method: Method, family: Family) -> None:
    """Raise ModelError if the family does not support the method; the hint lists those it supports."""
    reason = method.refusal(family)
    if reason is not None:
        supported = [name for name, cls in methods if cls.refusal(family) is None]
        raise ModelError(
            f"method {method.key} does not support {family.name}: {reason}",
            hint=f"choose one of {', '.join(supported)}",
        )


_SHORTEST_TEXT = 4
"""In tokens: the least that max_length= may be."""


def longest_text(method: Method, backbone: Backbone) -> int:
    """Return the most text tokens that the backbone reads with this method."""
    return backbone.max_positions - method.count_positions(backbone.family)


def check_fit(method: Method, backbone: Backbone, max_length: int | None) -> None:
    """Raise ModelError if the backbone does not support the method, ConfigError if max_length exceeds its limit."""
    check_family(method, backbone.family)
    taken, left = method.count_positions(backbone.family), longest_text(method, backbone)
    if taken and left < _SHORTEST_TEXT:
        raise ConfigError(
            f"method.tokens={taken}: leaves {max(left, 0)} of the {backbone.max_positions} positions of {backbone.id} "
            "for text",
            hint=f"use at most {max(backbone.max_positions - _SHORTEST_TEXT, 1)}",
        )
    virtual = f" with {method.key}'s {taken} virtual tokens" if taken else ""
    check_length(backbone, max_length, left, virtual)


def check_length(backbone: Backbone, max_length: int | None, limit: int | None = None, why: str = "") -> None:
    """Raise ConfigError if max_length exceeds a limit, by default the backbone's. why: what lowers it."""
    limit = backbone.max_positions if limit is None else limit
    if max_length is not None and max_length > limit:
        raise ConfigError(f"max_length={max_length}: {backbone.id} reads at most {limit} tokens{why}")


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Return the numbers of trainable and of all parameters, without the frozen copies that peft keeps of some."""
    named = dict(model.named_parameters())
    trained = {name for name, parameter in named.items() if parameter.requires_grad}
    copies = {
        name
        for name in named
        if ".original_module." in name or name.replace("base_layer", "ln_tuning_layers.default") in trained - {name}
    }
    # a 4-bit weight is stored two to a byte
    sizes = {n: p.numel() * (2 if hasattr(p, "quant_state") else 1) for n, p in named.items() if n not in copies}
    return sum(size for name, size in sizes.items() if name in trained), sum(sizes.values())


def freeze_all_but(model: torch.nn.Module, modules: Iterable[str]) -> None:
    """Make only the parameters inside the named modules trainable."""
    trainable = tuple(modules)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_inside(name, trainable))


def module_pattern(modules: Iterable[str]) -> str:
    """Return a regular expression that fully matches the names of these modules and of everything inside them."""
    return r"(?:.*\.)?(?:" + "|".join(re.escape(m) for m in modules) + r")(?:\..*)?"


def target_pattern(names: Iterable[str], excluded: Iterable[str]) -> str:
    """Return a regular expression that fully matches modules by the end of their names, outside `excluded`."""
    targets, outside = ("|".join(map(re.escape, group)) for group in (names, excluded))
    return rf"(?!(?:.*\.)?(?:{outside})(?:\.|$))(?:.*\.)?(?:{targets})"


def layer_pattern(family: Family, names: Iterable[str]) -> str:
    """Return a regular expression that fully matches modules of every layer by their names inside a layer."""
    inside = "|".join(re.escape(name) for name in names)
    return rf"(?:.*\.)?{re.escape(family.layers)}\.\d+\.(?:{inside})"
