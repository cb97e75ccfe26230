"""What the methods that come from peft share: wrapping, and peft's own folder format on disk."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textune.backbones import Backbone, Family
from textune.errors import BundleError, ModelError
from textune.methods.base import Method

if TYPE_CHECKING:
    import torch

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def list_saved_modules(family: Family, new_modules: tuple[str, ...]) -> list[str]:
    """Returns the modules that are trained and saved whole: the family's head and all that started random.

    A module that the checkpoint lacked and that is not saved would be random again after a reload.
    """
    inside_head = tuple(f"{head}." for head in family.head_modules)
    extra = [m for m in new_modules if m not in family.head_modules and not m.startswith(inside_head)]
    return [*family.head_modules, *extra]


class PeftMethod(Method):
    """A method that peft implements."""

    needs_peft: ClassVar[bool] = True

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Returns the peft configuration of this method."""
        raise NotImplementedError

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Wraps the model by peft; raises ModelError where peft finds nothing to adapt."""
        import peft

        try:
            with warnings.catch_warnings():
                # peft asks transformers for a property by its old name; no one who trains can do anything about that
                warnings.simplefilter("ignore", FutureWarning)
                wrapped: torch.nn.Module = peft.get_peft_model(
                    model, self.build_peft_config(model, family, new_modules), autocast_adapter_dtype=True
                )
        except (ValueError, TypeError) as error:
            raise ModelError(f"method {self.key} on {family.name}: {error}") from error
        return wrapped

    def write_weights(self, model: torch.nn.Module, folder: Path, backbone: Backbone) -> list[str]:
        """Writes adapter_config.json and adapter_model.safetensors with the hub id as base, never a path."""
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)  # type: ignore[operator]
        (folder / "README.md").unlink(missing_ok=True)  # peft's template; the run writes its own card
        path = folder / _CONFIG
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = backbone.id
        config["revision"] = backbone.revision
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return [_CONFIG, _WEIGHTS]

    def load_weights(self, model: torch.nn.Module, folder: Path) -> None:
        """Lays a saved adapter over a freshly wrapped model; raises BundleError where a tensor is missing or extra."""
        import peft
        from safetensors.torch import load_file

        try:
            result = peft.set_peft_model_state_dict(model, load_file(folder / _WEIGHTS))
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            raise BundleError(f"{folder / _WEIGHTS}: does not fit the backbone: {error}") from error
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        wrong = sorted((trained & set(result.missing_keys)) | set(result.unexpected_keys))
        if wrong:
            raise BundleError(f"{folder / _WEIGHTS}: does not fit the backbone: {', '.join(wrong[:3])}")

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        """Returns the backbone with the adapter added into its weights and the trained head in place."""
        merged: torch.nn.Module = model.merge_and_unload()  # type: ignore[operator]
        return merged
