"""Linear layers over one input as a single product, including LoRA's update: the operator of the lean engine.

y = x (W + s B A)^T + b. The weights are the model's fp32 parameters. What is derived from them here is rounded once to
the compute dtype and dropped by `refresh`. The backward pass computes the gradients of A and B but, unless W is
trained, not that of W (LoRA: Hu et al. 2021, arXiv:2106.09685).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

_MERGE_FROM_TOKENS = 1_024
"""Merging the update into the weights has a fixed cost; computing it separately costs a little per token. From about
this many tokens per pass merging is cheaper."""


@dataclass(frozen=True)
class Part:
    """One linear layer. down [rank, inputs], up [outputs, rank]: LoRA's A and B; scale: alpha / rank."""

    weight: torch.nn.Parameter
    bias: torch.nn.Parameter | None
    down: torch.nn.Parameter | None = None
    up: torch.nn.Parameter | None = None
    scale: float = 1.0
    dropout: float = 0.0


@dataclass(frozen=True)
class _Derived:
    """Tensors for one pass. weight [outputs, inputs], bias [outputs]; merged: weight includes the update.

    down [ranks, inputs] and up [outputs, ranks]: the parts' A, stacked, and scaled B, as a block diagonal.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    down: torch.Tensor | None
    up: torch.Tensor | None
    merged: bool


class FusedLinear:
    """Linear layers with the same input, computed together: [tokens, inputs] -> [tokens, all outputs]."""

    def __init__(self, parts: Sequence[Part], dtype: torch.dtype) -> None:
        self.parts = tuple(parts)
        self.dtype = dtype
        self._versions: tuple[int, ...] = ()
        self._frozen: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._derived: dict[bool, _Derived] = {}
        self._buffer: torch.Tensor | None = None
        self._packed: Any = None

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return every parameter, in the order of the parts."""
        fields = [p for part in self.parts for p in (part.weight, part.bias, part.down, part.up)]
        return [p for p in fields if p is not None]

    def refresh(self) -> None:
        """Drop what was derived from trained parameters."""
        self._derived.clear()
        self._packed = None
        if any(p.requires_grad for part in self.parts for p in (part.weight, part.bias) if p is not None):
            self._frozen = None

    def __call__(self, x: torch.Tensor, *, training: bool) -> torch.Tensor:
        """Return the products. x: [tokens, inputs] in the compute dtype."""
        self._drop_if_changed()
        if training and any(part.dropout for part in self.parts):
            return self._apply_unmerged(x)
        adapted = any(part.down is not None for part in self.parts)
        derived = self._derive(merged=adapted and (len(x) >= _MERGE_FROM_TOKENS or not torch.is_grad_enabled()))
        if not torch.is_grad_enabled():
            return self._infer(x, derived, gelu=False)
        trained = [p for p in self.parameters() if p.requires_grad]
        result: torch.Tensor = _Product.apply(x, derived, self.parts, *trained)  # type: ignore[no-untyped-call]
        return result

    def with_gelu(self, x: torch.Tensor) -> torch.Tensor:
        """Return GELU of the products, without gradients: one kernel computes both."""
        self._drop_if_changed()
        return self._infer(x, self._derive(merged=any(part.down is not None for part in self.parts)), gelu=True)

    def _infer(self, x: torch.Tensor, derived: _Derived, *, gelu: bool) -> torch.Tensor:
        if not _has_packed_products(x):
            y = torch.nn.functional.linear(x, derived.weight, derived.bias)
            return torch.nn.functional.gelu(y) if gelu else y
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(derived.weight, len(x))
        activation: tuple[Any, ...] = ("gelu", [], "none") if gelu else ("none", [], "")
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, derived.bias, *activation)
        return result

    def _drop_if_changed(self) -> None:
        """Drop derived tensors if a parameter was written to or replaced without a call to `refresh`."""
        versions = tuple(mark for p in self.parameters() for mark in (p._version, p.data_ptr()))
        if versions != self._versions:
            self._versions, self._frozen, self._packed = versions, None, None
            self._derived.clear()

    # Not in inference mode: the backward pass must be able to use tensors that inference derived first.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _derive(self, *, merged: bool) -> _Derived:
        if merged not in self._derived:
            bias = self._rounded()[1]
            down, up = self._stack_updates()
            weight = self._merge() if merged else self._rounded()[0]
            self._derived[merged] = _Derived(weight, bias, down, up, merged)
        return self._derived[merged]

    def _rounded(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weight and bias without the update, in the compute dtype."""
        if self._frozen is None:
            biases = [p.weight.new_zeros(len(p.weight)) if p.bias is None else p.bias.detach() for p in self.parts]
            bias = None if all(p.bias is None for p in self.parts) else torch.cat(biases).to(self.dtype)
            weights = [part.weight.detach() for part in self.parts]
            weight = weights[0] if len(weights) == 1 else torch.cat(weights)
            self._frozen = weight.to(self.dtype), bias
        return self._frozen

    def _merge(self) -> torch.Tensor:
        """Return the weights with the updates added in fp32, then rounded: small updates would be lost otherwise."""
        rows, columns = sum(len(p.weight) for p in self.parts), self.parts[0].weight.shape[1]
        if self._buffer is None:
            self._buffer = torch.empty(rows, columns, dtype=self.dtype, device=self.parts[0].weight.device)
        begin = 0
        for part in self.parts:
            end = begin + len(part.weight)
            if part.down is None or part.up is None:
                self._buffer[begin:end].copy_(part.weight)
            else:
                self._buffer[begin:end].copy_(torch.addmm(part.weight, part.up, part.down, alpha=part.scale))
            begin = end
        return self._buffer

    def _stack_updates(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        adapted = [part for part in self.parts if part.down is not None]
        if not adapted:
            return None, None
        down = torch.cat([part.down for part in adapted if part.down is not None])
        up: torch.Tensor = torch.block_diag(
            *(  # type: ignore[no-untyped-call]
                torch.zeros(len(p.weight), 0, device=down.device) if p.up is None else p.up * p.scale
                for p in self.parts
            )
        )
        return down.to(self.dtype), up.to(self.dtype)

    def _apply_unmerged(self, x: torch.Tensor) -> torch.Tensor:
        """Compute updates separately: with dropout in the adapter each has its own mask and cannot be merged."""
        trained = [p for part in self.parts for p in (part.weight, part.bias) if p is not None and p.requires_grad]
        weight, bias = self._rounded_for_training()
        plain = tuple(Part(part.weight, part.bias) for part in self.parts)
        base: torch.Tensor = _Product.apply(x, _Derived(weight, bias, None, None, False), plain, *trained)  # type: ignore[no-untyped-call]
        updates = []
        for part in self.parts:
            if part.down is None or part.up is None:
                updates.append(torch.zeros(len(x), len(part.weight), dtype=x.dtype, device=x.device))
                continue
            masked = torch.nn.functional.dropout(x, part.dropout)
            updates.append((masked @ part.down.to(self.dtype).t()) @ part.up.to(self.dtype).t() * part.scale)
        return base + torch.cat(updates, 1)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _rounded_for_training(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._rounded()


def _has_packed_products(x: torch.Tensor) -> bool:
    """Return whether weights can be packed in advance for oneDNN's bf16 kernels, which makes them a fifth faster."""
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or not x.is_contiguous():
        return False
    available = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.enabled
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # older processors lack the instructions


class _Product(torch.autograd.Function):
    """The product and its gradients. trained: the parts' parameters that need a gradient, in order."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, derived: _Derived, parts: tuple[Part, ...], *trained: torch.Tensor
    ) -> torch.Tensor:
        y = torch.nn.functional.linear(x, derived.weight, derived.bias)
        if derived.down is not None and derived.up is not None and not derived.merged:
            y.addmm_(x @ derived.down.t(), derived.up.t())
        ctx.save_for_backward(x, derived.weight, derived.down, derived.up)
        ctx.parts, ctx.merged = parts, derived.merged
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        x, weight, down, up = ctx.saved_tensors
        inner = None if up is None else gradient @ up  # [tokens, ranks]
        dx = None
        if ctx.needs_input_grad[0]:
            dx = gradient @ weight
            if inner is not None and not ctx.merged:
                dx.addmm_(inner, down)
        d_down = d_up = d_bias = None
        if inner is not None:
            d_down = (inner.t() @ x).float()
            d_up = ((x @ down.t()).t() @ gradient).float()  # [ranks, outputs]; only its diagonal blocks are used
        grads: list[torch.Tensor] = []
        row = rank = 0
        for part in ctx.parts:
            rows = slice(row, row + len(part.weight))
            if part.weight.requires_grad:
                grads.append((gradient[:, rows].t() @ x).float())
            if part.bias is not None and part.bias.requires_grad:
                d_bias = gradient.sum(0, dtype=torch.float32) if d_bias is None else d_bias
                grads.append(d_bias[rows])
            if part.down is not None and d_down is not None and d_up is not None:
                ranks = slice(rank, rank + len(part.down))
                if part.down.requires_grad:
                    grads.append(d_down[ranks])
                if part.up.requires_grad:
                    grads.append(d_up[ranks, rows].t() * part.scale)
                rank = ranks.stop
            row = rows.stop
        return (dx, None, None, *grads)
