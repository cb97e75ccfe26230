"""The lean engine: BERT-like classifiers without padding, over the parameters of the Hugging Face and peft modules.

It owns no parameter. Texts stand end to end in one run of tokens; layers are fused products (`lora_op`), attention goes
text by text (`attention`), the last layer computes its queries and all after them for the first token alone, and
nothing below the lowest trained layer has a backward pass. Its logits and gradients are the reference engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from textune.batching import Batch
from textune.engine.attention import attend, cells_of_group, probe_attention
from textune.engine.encoder import Layer, NotLeanError, read_encoder
from textune.engine.packing import Pack, pack_batch
from textune.engine.pooling import pool_windows
from textune.engine.precision import Precision
from textune.families import Family

__all__ = ["LeanEngine", "NotLeanError"]


class LeanEngine(torch.nn.Module):
    """Computes a classifier's logits; raises NotLeanError where the model is not on the list of `read_encoder`.

    precision: of the products and of the residual stream; parameters, norms' weights and the head stay fp32.
    first_token_only: compute in the last layer only what the first token needs (switched off to measure it).
    """

    name = "lean"

    def __init__(
        self, model: torch.nn.Module, precision: Precision, family: Family, *, first_token_only: bool = True
    ) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self._dtype = torch.bfloat16 if precision.name == "bf16" else torch.float32
        self._encoder = read_encoder(model, self._dtype)
        self._first_position = family.first_position
        self._first_token_only = first_token_only
        self._fused_from: int | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    def probe_attention(self, longest: int) -> int | None:
        """Returns from which length in tokens PyTorch's fused attention is faster here; None: from none on."""
        return probe_attention(self._encoder.heads, self._encoder.width, longest, self._dtype, self.device)

    def adopt(self, probes: Mapping[str, Any]) -> None:
        """Takes the form of attention that a run's probe chose."""
        self._fused_from = probes["fused_attention_from"]

    def refresh(self) -> None:
        """Drops what was derived from parameters: to be called after every change of them."""
        for layer in self._encoder.layers:
            for product in layer.products():
                product.refresh()

    def release(self) -> torch.nn.Module:
        """Returns the model, in which nothing was changed."""
        self.refresh()
        return self.model

    def forward(self, batch: Batch) -> torch.Tensor:
        """Returns the logits of a batch: float32 [rows, classes]."""
        encoder = self._encoder
        pack = pack_batch(
            batch, self._first_position, cells_of_group(encoder.heads, self._dtype), self._dtype, self.device
        )
        hidden = encoder.embed(pack.ids, pack.positions, pack.types).to(self._dtype)
        for layer in encoder.layers[:-1]:
            hidden = self._run_layer(layer, hidden, pack)
        first = self._run_last(encoder.layers[-1], hidden, pack)
        logits = encoder.classify(first.float())
        ordered = torch.empty_like(logits).index_copy(0, pack.order, logits)
        return pool_windows(ordered, batch)

    def _run_layer(self, layer: Layer, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
        mixed = self._attend(layer, layer.fused(hidden, training=self.training), None, pack)
        return self._finish(layer, hidden, mixed)

    def _run_last(self, layer: Layer, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
        """Returns the first token of each text above the last layer: [texts, width]."""
        if not self._first_token_only:
            return self._run_layer(layer, hidden, pack)[pack.starts]
        first = hidden[pack.starts]
        keys_values = layer.key_value(hidden, training=self.training)
        mixed = self._attend(layer, keys_values, layer.query(first, training=self.training), pack)
        return self._finish(layer, first, mixed)

    def _attend(self, layer: Layer, packed: torch.Tensor, queries: torch.Tensor | None, pack: Pack) -> torch.Tensor:
        dropout = layer.attention_dropout if self.training else 0.0
        return attend(packed, queries, pack.groups, self._encoder.heads, dropout=dropout, fused_from=self._fused_from)

    def _finish(self, layer: Layer, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Runs all of a layer that follows the attention, for some or for all tokens."""
        out = layer.attention_output(mixed, training=self.training)
        hidden = _add_and_norm(hidden, self._drop(out, layer.attention_output_dropout), layer.attention_norm)
        if torch.is_grad_enabled() or not layer.is_gelu:
            inner = layer.activation(layer.feed_forward(hidden, training=self.training))
        else:
            inner = layer.feed_forward.with_gelu(hidden)
        out = layer.feed_forward_output(inner, training=self.training)
        return _add_and_norm(hidden, self._drop(out, layer.output_dropout), layer.output_norm)

    def _drop(self, hidden: torch.Tensor, rate: float) -> torch.Tensor:
        return torch.nn.functional.dropout(hidden, rate, self.training) if rate else hidden


def _add_and_norm(hidden: torch.Tensor, update: torch.Tensor, norm: Any) -> torch.Tensor:
    return torch.nn.functional.layer_norm(hidden + update, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
