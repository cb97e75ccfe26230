"""Prefix tuning: trained keys and values before the text's, in every layer (Li and Liang 2021, arXiv:2101.00190).

peft implements it for families that accept past keys. DistilBERT, ModernBERT and ALBERT do not; for them textune adds
the prefix inside the attention, through transformers' attention interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textune.backbones import Backbone
from textune.backbones.families import Family
from textune.config import option
from textune.methods.base import Method, freeze_all_but, layer_pattern, register
from textune.methods.peft_based import PromptMethod, list_saved_modules, prompt_shape

if TYPE_CHECKING:
    import torch

_FORM = "textune_prefix"
_SCALE = 0.02
"""Standard deviation of a new prefix: small, so that the model starts close to the pretrained one."""


@dataclass(frozen=True)
class PrefixOptions:
    """Options of `prefix`."""

    tokens: int = option(8, "virtual keys and values in each layer", low=1, high=512)


@register("prefix")
class Prefix(PromptMethod):
    """Trained keys and values before the text's, by whichever of the two ways the family supports."""

    summary = "trained keys and values in every layer's attention"
    paper = "https://arxiv.org/abs/2101.00190"
    when = "when weights must not change and a prompt at the input learns too little"
    options_type = PrefixOptions
    learning_rate = 3e-2
    peft_type = "PREFIX_TUNING"
    peft_fields: ClassVar = {"tokens": "num_virtual_tokens"}
    head_learning_rate = 2e-3

    @classmethod
    def refusal(cls, family: Family) -> str | None:
        """Return why a family does not support prefixes."""
        if family.prefix is None:
            return "its attention accepts no external keys and values"
        return super().refusal(family)

    def count_positions(self, family: Family) -> int:
        """Return 0 where the prefix is added inside the attention, after the positions."""
        return 0 if family.prefix == "attention" else self.virtual_tokens

    def needs_equal_lengths(self, family: Family) -> bool:
        """Return False: the model sees the ids, so a decoder finds a text's last token."""
        return False

    def build_peft_config(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> Any:
        """Return peft's PrefixTuningConfig, in the shape of the family's keys."""
        from peft import PrefixTuningConfig

        config: Any = model.config
        heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        shape = prompt_shape(model, family) | {"token_dim": heads * width, "num_attention_heads": heads}
        return PrefixTuningConfig(
            task_type=self.peft_task_type,
            num_virtual_tokens=self.options.tokens,
            modules_to_save=list_saved_modules(family, new_modules),
            **shape,
        )

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Add the prefix in the way that the family supports."""
        if family.prefix == "attention":
            return add_attention_prefix(model, family, new_modules, self.options.tokens)
        wrapped: Any = super().apply(model, family, new_modules)
        wrapped.prompt_encoder["default"].embedding.weight.data.mul_(_SCALE)  # peft initializes it with deviation 1
        return cast("torch.nn.Module", wrapped)

    @property
    def tokens_before_text(self) -> int:
        """Zero: prefixes are inside the attention, so the backbone's output is the text alone."""
        return 0

    def write_weights(self, model: torch.nn.Module, folder: Path, backbone: Backbone) -> list[str]:
        """Write peft's files, or a delta if textune added the prefix."""
        if backbone.family.prefix == "attention":
            return Method.write_weights(self, model, folder, backbone)
        return super().write_weights(model, folder, backbone)

    def load_weights(self, model: torch.nn.Module, folder: Path) -> None:
        """Load a saved prefix into a model after `apply`."""
        if hasattr(model, "prompt_encoder"):
            super().load_weights(model, folder)
        else:
            Method.load_weights(self, model, folder)


def add_attention_prefix(
    model: torch.nn.Module, family: Family, new_modules: tuple[str, ...], tokens: int
) -> torch.nn.Module:
    """Freeze the model and add trained keys and values to each attention module: float32 [heads, tokens, width]."""
    import re

    import torch

    freeze_all_but(model, (*family.head_modules, *new_modules))
    config: Any = model.config
    heads = int(config.num_attention_heads)
    width = int(config.hidden_size) // heads
    pattern = re.compile(layer_pattern(family, (family.attention_output.rpartition(".")[0],)))
    for name, module in model.named_modules():
        if pattern.fullmatch(name):
            for part in ("prefix_keys", "prefix_values"):
                module.register_parameter(part, torch.nn.Parameter(torch.randn(heads, tokens, width) * _SCALE))
    _register_attention()
    cast(Any, model).set_attn_implementation(_FORM)
    return model


def _register_attention() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(_FORM, attend_with_prefix)
    AttentionMaskInterface.register(_FORM, eager_mask)


def attend_with_prefix(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to the module's prefix and to the text.

    query, key, value: [rows, heads, positions, width]. attention_mask: added to the scores, [rows, 1, positions,
    positions]. Every position sees the whole prefix, even outside a local attention window.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows = (len(query), -1, -1, -1)
    key = torch.cat([module.prefix_keys.to(key.dtype).expand(rows), key], dim=2)
    value = torch.cat([module.prefix_values.to(value.dtype).expand(rows), value], dim=2)
    if attention_mask is not None:
        attention_mask = torch.nn.functional.pad(attention_mask.to(query.dtype), (module.prefix_keys.shape[1], 0))
    attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, is_causal=False, **kwargs)
    return attended, None
