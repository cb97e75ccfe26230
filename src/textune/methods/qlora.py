"""QLoRA: LoRA over a base of 4-bit weights (Dettmers et al. 2023, arXiv:2305.14314), by bitsandbytes and peft."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textune.backbones.families import Family
from textune.config import option
from textune.errors import MissingExtraError
from textune.methods.base import module_pattern, register
from textune.methods.lora import Lora, LoraOptions
from textune.methods.peft_based import quieten_bitsandbytes

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class QLoraOptions(LoraOptions):
    """Options of `qlora`."""

    quant_type: str = option("nf4", "the sixteen values of a weight", choices=("nf4", "fp4"))
    double_quant: bool = option(True, "quantise the scales, too")


@register("qlora")
class QLora(Lora):
    """LoRA over 4-bit weights. Head and pooler are never quantised: they are trained, or small."""

    summary = "LoRA over a base whose weights are held in 4 bits"
    paper = "https://arxiv.org/abs/2305.14314"
    when = "a backbone too large for the memory at hand; slower than LoRA where that fits"
    options_type = QLoraOptions
    learning_rate = 5e-4
    merged_to_predict = False
    peft_type = None  # peft has no such type: an adapter of LoRA's is imported as lora
    variants: ClassVar = {}

    def load_kwargs(self, family: Family) -> dict[str, Any]:
        """Return the quantisation of every linear layer but those of the head; raise MissingExtraError."""
        if importlib.util.find_spec("bitsandbytes") is None:
            raise MissingExtraError(
                "method qlora needs bitsandbytes, which is not installed", hint="pip install 'textune[qlora]'"
            )
        import torch
        import transformers

        quieten_bitsandbytes()
        settings = self._quantisation(family) | {"bnb_4bit_compute_dtype": torch.float32}
        return {"quantization_config": transformers.BitsAndBytesConfig(**settings)}

    def plain_load(self, family: Family) -> list[str]:
        """Return the quantisation: over fp32 weights the adapter would answer otherwise than it was trained."""
        settings = ", ".join(f"{k}={v!r}" for k, v in self._quantisation(family).items())
        quantisation = f"transformers.BitsAndBytesConfig({settings}, bnb_4bit_compute_dtype=torch.float32)"
        return [f"quantization_config={quantisation}"]

    def _quantisation(self, family: Family) -> dict[str, Any]:
        # Products are in fp32: the engine's autocast region decides the inputs' precision, not the weights' form.
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": self.options.quant_type,
            "bnb_4bit_use_double_quant": self.options.double_quant,
            "llm_int8_skip_modules": [module_pattern((*family.head_modules, "pooler"))],
        }

    def apply(self, model: torch.nn.Module, family: Family, new_modules: tuple[str, ...]) -> torch.nn.Module:
        """Wrap the quantised model by peft."""
        for module in cast(Any, model).modules():
            # bitsandbytes would repack weights for a CPU kernel whose sums differ from training's in the last bits.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        for parameter in cast(Any, model).parameters():
            if not hasattr(parameter, "quant_state"):
                # a view of the weight file would keep all of it mapped, and in memory once it was read
                parameter.data = parameter.data.clone()
        return super().apply(model, family, new_modules)

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the dequantised backbone with the adapter added in fp32: never into 4-bit weights.

        Merging into 4 bits would round the update away.
        """
        import peft

        adapter = peft.get_peft_model_state_dict(model)
        config = cast(Any, model).peft_config["default"]
        plain = dequantise(cast(Any, model).unload())
        wrapped = peft.get_peft_model(plain, config)
        peft.set_peft_model_state_dict(wrapped, adapter)
        return super().merge(wrapped)


def dequantise(model: Any) -> Any:
    """Replace every 4-bit linear layer by one in fp32 with the values that the 4 bits stand for; return the model."""
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
