"""Base classes of the methods that peft implements: wrapping, and peft's file format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textune.backbones import Backbone
from textune.backbones.families import Family
from textune.backbones.pooling import find_body
from textune.backbones.quiet import quiet_bitsandbytes
from textune.errors import BundleError, ModelError
from textune.methods.base import Method

if TYPE_CHECKING:
    import torch

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_CARD = "create_or_update_model_card"


def list_saved_modules(family: Family, new_modules: tuple[str, ...]) -> list[str]:
    """Return the modules that are trained and saved in full: the family's head and all new modules.

    A new module that is not saved would be random again after a reload.
    """
    inside_head = tuple(f"{head}." for head in family.head_modules)
    extra = [m for m in new_modules if m not in family.head_modules and not m.startswith(inside_head)]
    return [*family.head_modules, *extra]


class PeftMethod(Method):
    """A method that peft implements.

    peft_type: peft's name of the method; adapters of this type are imported as this method. peft_fields: option
    -> field of peft's configuration, for the options that an imported adapter sets.
    """

    needs_peft: ClassVar[bool] = True
    peft_type: ClassVar[str | None] = None
    peft_fields: ClassVar[Mapping[str, str]] = {}

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return the peft configuration of this method."""
        raise NotImplementedError

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Wrap the model with peft; raise ModelError if peft finds nothing to adapt."""
        try:
            with warnings.catch_warnings(), quiet_bitsandbytes():
                import peft

                # peft uses a deprecated property of transformers; users cannot fix that
                warnings.simplefilter("ignore", FutureWarning)
                wrapped: torch.nn.Module = peft.get_peft_model(
                    model, self.build_peft_config(model, family, new_modules), autocast_adapter_dtype=True
                )
        except (ValueError, TypeError) as error:
            raise ModelError(f"method {self.key} on {family.name}: {error}") from error
        return wrapped

    def write_weights(self, model: torch.nn.Module, folder: Path, backbone: Backbone) -> list[str]:
        """Write adapter_config.json and adapter_model.safetensors; the base is the hub id, never a path."""
        vars(model)[_CARD] = lambda folder: (
            None
        )  # peft's template, which takes longer than the weights of a small model
        try:
            model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)  # type: ignore[operator]
        finally:
            del vars(model)[_CARD]
        (folder / "README.md").unlink(missing_ok=True)  # textune writes a real model card
        path = folder / _CONFIG
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = backbone.id
        config["revision"] = backbone.revision
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return [_CONFIG, _WEIGHTS]

    def load_weights(self, model: torch.nn.Module, folder: Path) -> None:
        """Load a saved adapter into a freshly wrapped model; raise BundleError if a tensor is missing or extra."""
        import peft
        from safetensors.torch import load_file

        tensors = load_file(folder / _WEIGHTS)
        # an adapter made elsewhere may hold the word embeddings that it adapts
        states = (peft.get_peft_model_state_dict(model, save_embedding_layers=form) for form in (False, "auto"))
        needed, known = ({name for name in state if not name.startswith("prompt_encoder.")} for state in states)
        if mismatched := sorted({*needed - set(tensors), *set(tensors) - known}):
            raise BundleError(f"{folder / _WEIGHTS}: does not fit the backbone: {', '.join(mismatched[:3])}")
        try:
            peft.set_peft_model_state_dict(model, tensors)
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            raise BundleError(f"{folder / _WEIGHTS}: does not fit the backbone: {error}") from error

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the backbone with the adapter merged into its weights and the trained head in place."""
        unwrap_saved_modules(model)
        merged: torch.nn.Module = model.merge_and_unload()  # type: ignore[operator]
        return merged


class TargetMethod(PeftMethod):
    """A method that adapts linear layers: those of its option `targets`, or the family's."""

    def targets(self, family: Family) -> list[str]:
        """Return the layers to adapt, by the end of their names."""
        return list(self.options.targets or family.linear)

    def resolved_options(self, family: Family) -> dict[str, Any]:
        """Return the options with the family's layers filled in."""
        return super().resolved_options(family) | {"targets": self.targets(family)}


class PromptMethod(PeftMethod):
    """A method that puts virtual tokens before the text. They cannot be merged into the weights."""

    mergeable: ClassVar[bool] = False

    @property
    def virtual_tokens(self) -> int:
        """Positions taken by virtual tokens."""
        return int(self.options.tokens)

    @property
    def tokens_before_text(self) -> int:
        """All virtual tokens: the head must read the text's first token, not a virtual one."""
        return self.virtual_tokens

    def needs_equal_lengths(self, family: Family) -> bool:
        """Return True for decoders: without ids, they classify the last position, even if it is padding."""
        return family.decoder or super().needs_equal_lengths(family)

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Wrap the model with peft.

        Raises ModelError for new word embeddings, which peft would not train here, and on an unknown family whose head
        reads the first token, which would be a virtual one.
        """
        if family.guessed and self.tokens_before_text:
            try:
                reason = "its head would read a virtual token" if _reads_first_token(model) else None
            except (ValueError, RuntimeError) as error:  # such as a head that looks for the end of the text
                reason = str(error).splitlines()[0]
            if reason is not None:
                raise ModelError(
                    f"method {self.key} does not support {family.name}: {reason}",
                    hint="choose another method=, such as lora",
                )
        words = model.get_input_embeddings()  # type: ignore[operator]
        if new := [name for name in new_modules if model.get_submodule(name) is words]:
            raise ModelError(
                f"method {self.key}: cannot train {new[0]}, which would start from random weights",
                hint="choose another method=, such as lora, or a backbone= with these weights",
            )
        return super().apply(model, family, new_modules)

    def fold(self, prompt_encoder: Any) -> None:
        """Remove what only training needs: peft saves the prompts, not the network that produced them."""

    def write_weights(self, model: torch.nn.Module, folder: Path, backbone: Backbone) -> list[str]:
        """Write peft's files without the prompt network: peft mistakes parts of it for a head by their names."""
        from safetensors.torch import load_file, save_file

        names = super().write_weights(model, folder, backbone)
        tensors = load_file(folder / _WEIGHTS)
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("prompt_encoder.")}
        save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
        return names

    def load_weights(self, model: torch.nn.Module, folder: Path) -> None:
        """Load saved prompts and head into a freshly wrapped model; raise BundleError if they do not fit."""
        self.fold(model.prompt_encoder["default"])  # type: ignore[index]
        super().load_weights(model, folder)


def _reads_first_token(model: torch.nn.Module) -> bool:
    """Return whether the head's answer depends on the body's first state, tried on a text of four words."""
    import torch

    def change(body: torch.nn.Module, args: Any, output: Any) -> Any:
        pooled = getattr(output, "pooler_output", None)
        output.last_hidden_state[:, 0] += 1.0
        if pooled is not None:  # read from the first state within the body
            pooled += 1.0
        return output

    was_training, ids = model.training, torch.arange(4, 8, device=next(model.parameters()).device)[None]
    model.eval()
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        handle = find_body(model).register_forward_hook(change)
        try:
            found = model(input_ids=ids).logits
        finally:
            handle.remove()
    model.train(was_training)
    return not torch.allclose(found, expected, atol=1e-6)


def prompt_shape(model: torch.nn.Module, family: Family) -> dict[str, int]:
    """Return the sizes of a soft prompt; peft cannot detect them for every family."""
    config: Any = model.config
    return {
        "token_dim": int(getattr(config, family.prompt_size)),
        "num_layers": int(config.num_hidden_layers),
        "num_attention_heads": int(config.num_attention_heads),
        "num_transformer_submodules": 1,
    }


def uses_conv1d(model: torch.nn.Module) -> bool:
    """Return whether the weights are stored transposed, like GPT-2's."""
    return any(type(module).__name__ == "Conv1D" for module in model.modules())


def unwrap_saved_modules(model: torch.nn.Module) -> None:
    """Replace peft's wrappers of fully trained modules by the trained copies.

    For some methods peft's merge raises on heads of several modules; for others it loses the trained head.
    """
    from peft.utils import ModulesToSaveWrapper

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ModulesToSaveWrapper):
                setattr(module, name, child.modules_to_save["default"])
