"""What the lean engine runs: the layers of a BERT-like classifier, read from the modules of transformers and peft.

Only known module types are accepted, by exact type. Anything else is refused by name, and the reference engine runs
instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from textune.backbones.pooling import FIRST, MEAN, PoolingHook, find_body, find_pooling
from textune.engine.lora_op import FusedLinear, Part

_KNOWN = (
    "transformers.models.",
    "transformers.activations.",
    "torch.nn.modules.",
    "peft.tuners.lora.layer.Linear",
    "peft.utils.other.ModulesToSaveWrapper",
)
"""Prefixes that the full type names of all modules must have."""


class NotLeanError(Exception):
    """The lean engine does not support a model; the message says why."""


@dataclass(frozen=True)
class Layer:
    """One encoder layer. fused: query, key and value together; query and key_value: separate, for the last layer."""

    fused: FusedLinear
    query: FusedLinear
    key_value: FusedLinear
    attention_output: FusedLinear
    attention_norm: nn.LayerNorm
    feed_forward: FusedLinear
    activation: Callable[[torch.Tensor], torch.Tensor]
    feed_forward_output: FusedLinear
    output_norm: nn.LayerNorm
    attention_dropout: float
    attention_output_dropout: float
    output_dropout: float

    @property
    def is_gelu(self) -> bool:
        """Whether the activation is the exact GELU."""
        return type(self.activation).__name__ == "GELUActivation"

    def parameters(self) -> list[nn.Parameter]:
        """Return every parameter of the layer, once."""
        products = (self.fused, self.attention_output, self.feed_forward, self.feed_forward_output)
        norms = [p for norm in (self.attention_norm, self.output_norm) for p in norm.parameters()]
        return [p for product in products for p in product.parameters()] + norms

    def products(self) -> tuple[FusedLinear, ...]:
        """Return every product of the layer."""
        return (
            self.fused,
            self.query,
            self.key_value,
            self.attention_output,
            self.feed_forward,
            self.feed_forward_output,
        )


@dataclass(frozen=True)
class Encoder:
    """The parts of a classifier. embed: ids, positions, types (int64 [tokens]) -> float32 [tokens, width].

    pooling: "first" or "mean": which vector of each text the head reads after the last layer.
    classify: those vectors, float32 [texts, width] -> logits.
    """

    embed: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    embedding_modules: tuple[nn.Module, ...]
    layers: tuple[Layer, ...]
    classify: Callable[[torch.Tensor], torch.Tensor]
    heads: int
    width: int
    pooling: str = FIRST


def read_encoder(model: nn.Module, dtype: torch.dtype) -> Encoder:
    """Read a classifier, plain or wrapped by peft; raise NotLeanError for anything unknown in it."""
    model = _unwrap(model)
    kind = type(model).__name__
    if kind not in _READERS or not type(model).__module__.startswith("transformers."):
        raise NotLeanError(f"{kind} is not supported")
    form = getattr(model.config, "_attn_implementation", None)
    if form not in ("sdpa", "eager"):
        raise NotLeanError(f"attention '{form}' is not supported")
    for name, module in model.named_modules():
        full = f"{type(module).__module__}.{type(module).__name__}"
        if not full.startswith(_KNOWN):
            raise NotLeanError(f"{name} is a {full}")
        _refuse_hooks(module, name=name)
        if getattr(module, "gradient_checkpointing", False):
            raise NotLeanError("gradient checkpointing is on")
    encoder = _READERS[kind](model, dtype)
    pooling = find_pooling(find_body(model))
    if pooling is not None and pooling.skip:
        raise NotLeanError("it puts virtual tokens before the text")
    return encoder if pooling is None else replace(encoder, pooling=pooling.form)


def _unwrap(model: nn.Module) -> nn.Module:
    """Return the classifier inside a model that peft has wrapped."""
    if "peft" not in sys.modules:  # its import takes a second
        return model
    from peft import PeftModel, PeftModelForSequenceClassification

    if not isinstance(model, PeftModel):
        return model
    if type(model) is not PeftModelForSequenceClassification or model.active_adapters != ["default"]:
        raise NotLeanError("it has several adapters, or one that is not for classification")
    if model.active_peft_config.is_prompt_learning:
        raise NotLeanError(f"{model.active_peft_config.peft_type.value.lower()} adds tokens to the text")
    _refuse_hooks(model, model.base_model)
    return cast(nn.Module, model.base_model.model)


def _refuse_hooks(*modules: nn.Module, name: str = "the model") -> None:
    for module in modules:
        unknown = [hook for hook in module._forward_hooks.values() if not isinstance(hook, PoolingHook)]
        if unknown or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
            raise NotLeanError(f"{name} has hooks")
        if "forward" in vars(module):
            raise NotLeanError(f"the forward of {name} was replaced")


def _expect(module: nn.Module, *kinds: type) -> Any:
    if type(module) not in kinds:
        raise NotLeanError(f"{type(module).__module__}.{type(module).__name__} is not supported")
    return module


def _read_linear(module: nn.Module) -> Part:
    """Return the parameters of a linear layer, plain or adapted by peft's LoRA."""
    if type(module) is nn.Linear:
        return Part(_parameter(module.weight), None if module.bias is None else _parameter(module.bias))
    if "peft" not in sys.modules:
        raise NotLeanError(f"{type(module).__module__}.{type(module).__name__} is not supported")
    from peft.tuners.lora.layer import Linear as LoraLinear

    adapted = _expect(module, LoraLinear)
    base = _expect(adapted.base_layer, nn.Linear)
    if adapted.merged or adapted.disable_adapters or adapted.fan_in_fan_out:
        raise NotLeanError("an adapter is merged, disabled or transposed")
    if list(adapted.lora_A) != ["default"] or adapted.lora_variant or adapted.lora_bias.get("default"):
        raise NotLeanError("it has a variant of LoRA (such as DoRA) or several adapters")
    dropout = adapted.lora_dropout["default"]
    rate = 0.0 if type(dropout) is nn.Identity else float(_expect(dropout, nn.Dropout).p)
    down, up = (_expect(side["default"], nn.Linear) for side in (adapted.lora_A, adapted.lora_B))
    return Part(
        _parameter(base.weight),
        None if base.bias is None else _parameter(base.bias),
        _parameter(down.weight),
        _parameter(up.weight),
        float(adapted.scaling["default"]),
        rate,
    )


def _parameter(tensor: Any) -> nn.Parameter:
    if type(tensor) is not nn.Parameter or tensor.dtype != torch.float32:
        raise NotLeanError(f"its weights are of type {type(tensor).__name__}, {tensor.dtype}")
    return tensor


def _norm(module: nn.Module) -> nn.LayerNorm:
    norm: nn.LayerNorm = _expect(module, nn.LayerNorm)
    return norm


def _build_layer(
    dtype: torch.dtype,
    attention: Sequence[nn.Module],
    others: Sequence[nn.Module],
    norms: Sequence[nn.Module],
    activation: Any,
    dropouts: tuple[float, float, float],
) -> Layer:
    query, key, value = (_read_linear(module) for module in attention)
    output, inner, outer = (FusedLinear([_read_linear(module)], dtype) for module in others)
    return Layer(
        FusedLinear([query, key, value], dtype),
        FusedLinear([query], dtype),
        FusedLinear([key, value], dtype),
        output,
        _norm(norms[0]),
        inner,
        activation,
        outer,
        _norm(norms[1]),
        *dropouts,
    )


def _read_bert_layers(layers: Any, dtype: torch.dtype) -> tuple[Layer, ...]:
    """Read layers of BERT's architecture, shared by RoBERTa, XLM-R and ELECTRA."""
    read = []
    for layer in layers:
        if layer.is_decoder or layer.add_cross_attention:
            raise NotLeanError("it is a decoder")
        attention, projection = layer.attention.self, layer.attention.output
        read.append(
            _build_layer(
                dtype,
                (attention.query, attention.key, attention.value),
                (projection.dense, layer.intermediate.dense, layer.output.dense),
                (projection.LayerNorm, layer.output.LayerNorm),
                layer.intermediate.intermediate_act_fn,
                (float(attention.dropout.p), float(projection.dropout.p), float(layer.output.dropout.p)),
            )
        )
    return tuple(read)


def _embed_with_types(
    embeddings: nn.Module, project: nn.Module | None = None
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    def embed(ids: torch.Tensor, positions: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        out = embeddings(input_ids=ids[None], position_ids=positions[None], token_type_ids=types[None])[0]
        result: torch.Tensor = out if project is None else project(out)
        return result

    return embed


def _read_bert(model: Any, dtype: torch.dtype) -> Encoder:
    base = model.bert
    pooling = find_pooling(base)
    skips_pooler = pooling is not None and pooling.form == MEAN

    def classify(first: torch.Tensor) -> torch.Tensor:
        pooled = first if skips_pooler else base.pooler(first[:, None])
        logits: torch.Tensor = model.classifier(model.dropout(pooled))
        return logits

    return Encoder(
        _embed_with_types(base.embeddings),
        (base.embeddings,),
        _read_bert_layers(base.encoder.layer, dtype),
        classify,
        model.config.num_attention_heads,
        model.config.hidden_size,
    )


def _read_roberta(model: Any, dtype: torch.dtype) -> Encoder:
    base = model.roberta
    return Encoder(
        _embed_with_types(base.embeddings),
        (base.embeddings,),
        _read_bert_layers(base.encoder.layer, dtype),
        lambda first: model.classifier(first[:, None]),
        model.config.num_attention_heads,
        model.config.hidden_size,
    )


def _read_electra(model: Any, dtype: torch.dtype) -> Encoder:
    base = model.electra
    project = getattr(base, "embeddings_project", None)
    return Encoder(
        _embed_with_types(base.embeddings, project),
        (base.embeddings, *([] if project is None else [project])),
        _read_bert_layers(base.encoder.layer, dtype),
        lambda first: model.classifier(first[:, None]),
        model.config.num_attention_heads,
        model.config.hidden_size,
    )


def _read_distilbert(model: Any, dtype: torch.dtype) -> Encoder:
    base = model.distilbert
    layers = tuple(
        _build_layer(
            dtype,
            (layer.attention.q_lin, layer.attention.k_lin, layer.attention.v_lin),
            (layer.attention.out_lin, layer.ffn.lin1, layer.ffn.lin2),
            (layer.sa_layer_norm, layer.output_layer_norm),
            layer.ffn.activation,
            (float(layer.attention.dropout.p), 0.0, float(layer.ffn.dropout.p)),
        )
        for layer in base.transformer.layer
    )

    def embed(ids: torch.Tensor, positions: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = base.embeddings(input_ids=ids[None], position_ids=positions[None])[0]
        return out

    def classify(first: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(model.pre_classifier(first))
        logits: torch.Tensor = model.classifier(model.dropout(inner))
        return logits

    return Encoder(embed, (base.embeddings,), layers, classify, model.config.n_heads, model.config.dim)


_READERS: dict[str, Callable[[Any, torch.dtype], Encoder]] = {
    "BertForSequenceClassification": _read_bert,
    "RobertaForSequenceClassification": _read_roberta,
    "XLMRobertaForSequenceClassification": _read_roberta,
    "ElectraForSequenceClassification": _read_electra,
    "DistilBertForSequenceClassification": _read_distilbert,
}
