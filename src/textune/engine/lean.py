"""The lean engine: BERT-like classifiers without padding, over the parameters of the Hugging Face and peft modules.

It owns no parameters. Texts are packed end to end. Layers are fused products (`lora_op`), and attention is computed
text by text (`attention`). Where the head reads the first token only, the last layer computes queries and everything
after attention for that token alone.
Nothing below the lowest trained layer has a backward pass. Logits and gradients equal the reference engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from textune.backbones.families import Family
from textune.backbones.pooling import MEAN, normalize
from textune.engine.attention import attend, cells_of_group, probe_attention
from textune.engine.encoder import Layer, NotLeanError, read_encoder
from textune.engine.graphs import Graphs, has_graphs
from textune.engine.packing import Pack, mean_of_texts, pack_batch
from textune.engine.pooling import pool_windows
from textune.engine.precision import Precision
from textune.engine.prefix import Prefix
from textune.engine.varlen import attend_varlen, has_varlen
from textune.tokens.batches import Batch

__all__ = ["LeanEngine", "NotLeanError"]


class LeanEngine(torch.nn.Module):
    """Computes a classifier's logits; raises NotLeanError if `read_encoder` does not support the model.

    precision: of the products and of the residual stream; parameters, norm weights and the head stay fp32.
    first_token_only: compute only what the first token needs in the last layer (off in benchmarks).
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
        self._first_position = family.find_first_position(getattr(model.config, "pad_token_id", None))
        self._first_token_only = first_token_only
        self._fused_from: int | None = None
        self._prefixes: tuple[Prefix, ...] = ()
        self._prefix_marks: tuple[Any, ...] = ()
        self._graphs = Graphs(self._run_whole)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the products and of the residual stream."""
        return self._dtype

    @property
    def layers(self) -> int:
        """The number of encoder layers."""
        return len(self._encoder.layers)

    @property
    def width(self) -> int:
        """The width of a token's state."""
        return self._encoder.width

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.model.parameters()).device

    def probe_attention(self, longest: int) -> int | None:
        """Return the length in tokens from which PyTorch's fused attention is faster; None: it never is."""
        return probe_attention(self._encoder.heads, self._encoder.width, longest, self._dtype, self.device)

    def adopt(self, probes: Mapping[str, Any]) -> None:
        """Use the form of attention that a run's probe chose."""
        self._fused_from = probes.get("fused_attention_from")

    def refresh(self) -> None:
        """Drop everything derived from the parameters; call it after every change to them."""
        self._graphs.forget()
        for layer in self._encoder.layers:
            for product in layer.products():
                product.refresh()

    def release(self) -> torch.nn.Module:
        """Return the unchanged model."""
        self.refresh()
        return self.model

    def count_frozen_layers(self) -> int:
        """Return how many of the lowest layers give the same in every epoch, without trained weights or dropout."""
        encoder = self._encoder
        dropped = any(
            isinstance(m, torch.nn.Dropout) and m.p > 0 for e in encoder.embedding_modules for m in e.modules()
        )
        if dropped or any(p.requires_grad for p in self.frozen_parameters(0)):
            return 0
        count = 0
        for layer in encoder.layers:
            dropouts = (layer.attention_dropout, layer.attention_output_dropout, layer.output_dropout)
            if any(dropouts) or any(p.requires_grad for p in layer.parameters()):
                break
            count += 1
        return count

    def frozen_parameters(self, layers: int) -> list[torch.nn.Parameter]:
        """Return the parameters of the embeddings and of this many of the lowest layers."""
        embeddings = [p for module in self._encoder.embedding_modules for p in module.parameters()]
        return embeddings + [p for layer in self._encoder.layers[:layers] for p in layer.parameters()]

    def describe_arithmetic(self) -> tuple[Any, ...]:
        """Return what the states depend on besides parameters and tokens."""
        layers = [
            (
                layer.attention_norm.eps,
                layer.output_norm.eps,
                repr(layer.activation),
                tuple(part.scale for product in layer.products() for part in product.parts),
            )
            for layer in self._encoder.layers
        ]
        modules = tuple(repr(module) for module in self._encoder.embedding_modules)
        shape = (self._encoder.heads, self._first_position, self._encoder.pooling)
        return (self._dtype, self._fused_from, *shape, *modules, *layers)

    @torch.inference_mode()
    def run_frozen(self, batch: Batch, layers: int) -> tuple[torch.Tensor, NDArray[Any]]:
        """Return the states after the lowest layers, and the order of the batch's windows in them.

        There is one state per token, end to end; after the last layer, one per window, which the head reads.
        """
        training, prefixes, self._prefixes = self.training, self._prefixes, ()
        self.eval()
        pack = self._pack(batch)
        hidden = self._run_layers(self._embed(pack), pack, 0, layers)
        self._prefixes = prefixes
        self.train(training)
        return hidden, pack.order.cpu().numpy()

    def keep(self, *prefixes: Prefix) -> None:
        """Read the states of frozen layers from the cache from now on, until a parameter of these layers changes."""
        self._prefixes = prefixes
        self._prefix_marks = self._mark_frozen()

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the logits of a batch: float32 [rows, classes]."""
        prefix = self._find_prefix(batch)
        recorded = prefix is None and self._may_record()
        pack = self._pack(batch, filled=recorded)
        if recorded:
            logits = self._graphs(pack, self._mark_all())[: len(pack.order)]
        elif prefix is None:
            logits = self._run_whole(pack)
        else:
            assert batch.source is not None
            windows = batch.source.list_windows(batch.rows)[pack.order.cpu().numpy()]
            first = self._run_layers(prefix.read(windows).to(self.device), pack, prefix.layers, self.layers)
            logits = self._encoder.classify(first.float())
        ordered = torch.empty_like(logits).index_copy(0, pack.order, logits)
        return pool_windows(ordered, batch)

    def _run_whole(self, pack: Pack) -> torch.Tensor:
        """Return the logits of a pack's texts, in the pack's order: float32 [texts, classes]."""
        return self._encoder.classify(self._run_layers(self._embed(pack), pack, 0, self.layers).float())

    def _may_record(self) -> bool:
        """Return whether a CUDA graph can replace this pass: no training, and kernels that depend on sizes only."""
        idle = not self.training and not torch.is_grad_enabled()
        return idle and has_graphs(self.device) and self._takes_varlen()

    def _mark_all(self) -> tuple[Any, ...]:
        return tuple(mark for p in self.parameters() for mark in (p._version, p.data_ptr()))

    def _pack(self, batch: Batch, *, filled: bool = False) -> Pack:
        cells = cells_of_group(self._encoder.heads, self._dtype)
        grouped = not self._takes_varlen()
        return pack_batch(batch, self._first_position, cells, self._dtype, self.device, grouped=grouped, filled=filled)

    def _takes_varlen(self) -> bool:
        dropped = self.training and any(layer.attention_dropout for layer in self._encoder.layers)
        return not dropped and has_varlen(self.device, self._dtype, self.width // self._encoder.heads)

    def _embed(self, pack: Pack) -> torch.Tensor:
        return self._encoder.embed(pack.ids, pack.positions, pack.types).to(self._dtype)

    def _run_layers(self, hidden: torch.Tensor, pack: Pack, begin: int, end: int) -> torch.Tensor:
        """Return the states after `end` layers from those after `begin`; after the last, one per text."""
        for number in range(begin, end):
            layer = self._encoder.layers[number]
            last = number == self.layers - 1
            hidden = self._run_last(layer, hidden, pack) if last else self._run_layer(layer, hidden, pack)
        return hidden

    def _find_prefix(self, batch: Batch) -> Prefix | None:
        if not self._prefixes or batch.source is None:
            return None
        if self._mark_frozen() != self._prefix_marks:
            self._prefixes = ()  # a frozen layer was written to, so the cached states are stale
            return None
        return next((prefix for prefix in self._prefixes if prefix.tokens is batch.source), None)

    def _mark_frozen(self) -> tuple[Any, ...]:
        layers = max((prefix.layers for prefix in self._prefixes), default=0)
        return tuple((p._version, p.data_ptr(), p.requires_grad) for p in self.frozen_parameters(layers))

    def _run_layer(self, layer: Layer, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
        mixed = self._attend(layer, layer.fused(hidden, training=self.training), None, pack)
        return self._finish(layer, hidden, mixed)

    def _run_last(self, layer: Layer, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
        """Return the vector of each text that the head reads after the last layer: float [texts, width]."""
        if self._encoder.pooling == MEAN:
            return normalize(mean_of_texts(self._run_layer(layer, hidden, pack), pack))
        if not self._first_token_only:
            return self._run_layer(layer, hidden, pack)[pack.starts]
        first = hidden[pack.starts]
        keys_values = layer.key_value(hidden, training=self.training)
        mixed = self._attend(layer, keys_values, layer.query(first, training=self.training), pack)
        return self._finish(layer, first, mixed)

    def _attend(self, layer: Layer, packed: torch.Tensor, queries: torch.Tensor | None, pack: Pack) -> torch.Tensor:
        if not pack.groups:
            return attend_varlen(packed, queries, pack.bounds, pack.longest, self._encoder.heads)
        dropout = layer.attention_dropout if self.training else 0.0
        return attend(packed, queries, pack.groups, self._encoder.heads, dropout=dropout, fused_from=self._fused_from)

    def _finish(self, layer: Layer, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Run the part of a layer after attention, for some or all tokens."""
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
    total = hidden + update
    if not _norms_mixed_types(total.device):
        total = total.float()
    normed = torch.nn.functional.layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return normed.to(hidden.dtype)


def _norms_mixed_types(device: torch.device) -> bool:
    """Return whether layer_norm accepts bf16 input with fp32 weights: on CUDA it does not (pytorch/pytorch#188503)."""
    return device.type == "cpu"
