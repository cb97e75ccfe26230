"""QLoRA: LoRA on 4-bit base weights (Dettmers et al. 2023, arXiv:2305.14314), using bitsandbytes and peft."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textune.backbones.families import Family
from textune.backbones.quiet import quiet_bitsandbytes
from textune.config import option
from textune.errors import MissingExtraError, ModelError
from textune.methods.base import module_pattern, register
from textune.methods.lora import Lora, LoraOptions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class QLoraOptions(LoraOptions):
    """Options of `qlora`."""

    quant_type: str = option("nf4", "4-bit data type of the base weights", choices=("nf4", "fp4"))
    double_quant: bool = option(True, "quantize the scales as well")


@register("qlora")
class QLora(Lora):
    """LoRA on 4-bit weights. Head and pooler are never quantized: they are trained, or small."""

    summary = "LoRA on a base with 4-bit weights"
    paper = "https://arxiv.org/abs/2305.14314"
    when = "a backbone too large for memory otherwise; slower than LoRA where both fit"
    options_type = QLoraOptions
    learning_rate = 5e-4
    merged_to_predict = False
    peft_type = None  # peft has no such type: an adapter of LoRA's is imported as lora
    variants: ClassVar = {}

    def load_kwargs(self, family: Family) -> dict[str, Any]:
        """Return the quantization config for all linear layers outside the head; raise MissingExtraError."""
        if importlib.util.find_spec("bitsandbytes") is None:
            raise MissingExtraError(
                "method qlora needs bitsandbytes, which is not installed", hint="pip install 'textune[qlora]'"
            )
        import torch
        import transformers

        settings = self._quantization_settings(family) | {"bnb_4bit_compute_dtype": torch.float32}
        with quiet_bitsandbytes():
            return {"quantization_config": transformers.BitsAndBytesConfig(**settings)}

    def plain_load(self, family: Family) -> list[str]:
        """Return the quantization config: on fp32 weights the adapter would give other logits than in training."""
        settings = ", ".join(f"{k}={v!r}" for k, v in self._quantization_settings(family).items())
        config = f"transformers.BitsAndBytesConfig({settings}, bnb_4bit_compute_dtype=torch.float32)"
        return [f"quantization_config={config}"]

    def _quantization_settings(self, family: Family) -> dict[str, Any]:
        # Callers set the compute dtype to fp32: the engine's autocast decides the precision of products.
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": self.options.quant_type,
            "bnb_4bit_use_double_quant": self.options.double_quant,
            "llm_int8_skip_modules": [module_pattern((*family.head_modules, *family.output, "pooler"))],
        }

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Wrap the quantized model with peft; raise ModelError for a new layer, which 4 bits could not train."""
        if new := [name for name in new_modules if type(model.get_submodule(name)).__name__ == "Linear4bit"]:
            raise ModelError(
                f"method {self.key}: cannot train {new[0]} in 4 bits, and it would start from random weights",
                hint="choose method=lora, or a backbone= with these weights",
            )
        for module in cast(Any, model).modules():
            # The repacked CPU kernel of bitsandbytes rounds differently from the one used in training.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        for parameter in cast(Any, model).parameters():
            if not hasattr(parameter, "quant_state"):
                # A view of the weight file would keep the whole file mapped.
                parameter.data = parameter.data.clone()
        return super().apply(model, family, new_modules)

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the dequantized backbone with the adapter merged in fp32.

        Merging into 4-bit weights would round the update away.
        """
        import peft

        adapter = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        config = cast(Any, model).peft_config["default"]
        plain = dequantize(cast(Any, model).unload())
        wrapped = peft.get_peft_model(plain, config)
        peft.set_peft_model_state_dict(wrapped, adapter)
        return super().merge(wrapped)


def dequantize(model: Any) -> Any:
    """Replace every 4-bit linear layer with an fp32 layer of the same values; return the model."""
    import bitsandbytes as bnb
    import torch

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, bnb.nn.Linear4bit):
                weight = bnb.functional.dequantize_4bit(child.weight.data, child.weight.quant_state)
                plain = torch.nn.Linear(child.in_features, child.out_features, child.bias is not None, device="meta")
                plain.weight = torch.nn.Parameter(weight.to(torch.float32), requires_grad=False)
                if child.bias is not None:
                    plain.bias = torch.nn.Parameter(child.bias.data.to(torch.float32), requires_grad=False)
                setattr(module, name, plain)
    model.is_loaded_in_4bit = model.is_quantized = False
    model.hf_quantizer = model.quantization_method = None
    del model.config.quantization_config
    return model
