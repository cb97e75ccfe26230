"""Load an adapter with peft alone, and check that it is complete and fits the backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textune.backbones import Backbone, load_classifier
from textune.errors import BundleError, ModelError, flag
from textune.methods.adopted import build_config as build_peft_config
from textune.methods.peft_based import list_saved_modules
from textune.peft_import.reader import WEIGHTS, ForeignAdapter

if TYPE_CHECKING:
    import torch


def load_base(backbone: Backbone, classes: int) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Return the backbone with a new head, and the names of its new modules."""
    import torch

    with torch.random.fork_rng(devices=[]):  # the random initial weights are overwritten at once
        return load_classifier(backbone, tuple(str(i) for i in range(classes)))


def load_by_peft(adapter: ForeignAdapter, backbone: Backbone, classes: int) -> tuple[Any, tuple[str, ...]]:
    """Load the adapter with peft alone; raise if it or its head is incomplete, or does not fit the backbone."""
    import peft
    from safetensors.torch import load_file

    base_id = backbone.id
    model, new_modules = load_base(backbone, classes)
    needed = [f"{m}.{n}" for m in new_modules for n, _ in model.get_submodule(m).named_parameters(recurse=False)]
    hint = f"name the model that the adapter was trained on with {flag('backbone', '')}"
    try:
        plain: Any = peft.get_peft_model(model, build_peft_config(adapter.peft_type, dict(adapter.settings)))
        expected = list_shapes(plain)  # AdaLora looks for the layers of its ranks only here
    except Exception as error:  # peft passes on what torch and its own checks raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{adapter.folder}: does not fit {base_id}: {reason[:300]}", hint=hint) from error
    shapes, path = adapter.shapes, adapter.folder / WEIGHTS
    if foreign := sorted(shapes.keys() - expected.keys()):
        raise ModelError(f"{path}: {foreign[0]} ({_count(foreign)}) does not exist in {base_id}", hint=hint)
    if other := sorted(name for name in shapes if shapes[name] != expected[name]):
        raise ModelError(
            f"{path}: {other[0]} ({_count(other)}) has the shape {list(shapes[other[0]])}, but in "
            f"{base_id} the shape is {list(expected[other[0]])}",
            hint=hint,
        )
    _check_head(adapter, backbone, [name for name in needed if not adapter.holds(name)], new_modules)
    # If the file lacks a head here, the backbone has one, and peft has already copied it.
    copies = tuple(f"{n}." for n, m in plain.named_modules() if isinstance(m, peft.utils.ModulesToSaveWrapper))
    absent = sorted(expected.keys() - shapes.keys())
    if missing := [name for name in absent if not name.startswith(copies)]:
        raise BundleError(
            f"{path}: {missing[0]} ({_count(missing)}) is missing",
            hint="the file is incomplete, or the adapter belongs to another model",
        )
    initial = peft.get_peft_model_state_dict(plain, save_embedding_layers=False)
    peft.set_peft_model_state_dict(plain, load_file(path) | {name: initial[name] for name in absent})
    return plain.eval(), new_modules


def _check_head(adapter: ForeignAdapter, backbone: Backbone, missing: list[str], new_modules: tuple[str, ...]) -> None:
    """Raise BundleError if head parameters are missing from both the adapter and the backbone."""
    if missing:
        modules = list_saved_modules(backbone.family, new_modules)
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise BundleError(
            f"{adapter.folder}: the head is missing: the adapter has no {missing[0]}{more}, and neither "
            f"has {backbone.id}: predictions would be random",
            hint=f"save the adapter again with modules_to_save={modules}, or train a new one "
            f"with backbone={backbone.id}",
        )


def list_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that peft saves, without a prompt's encoder network."""
    import peft

    state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.startswith("prompt_encoder.")}


def _count(names: list[str]) -> str:
    return f"{len(names)} tensors in total" if len(names) > 1 else "one tensor"
