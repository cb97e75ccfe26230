"""The reference engine: the unchanged Hugging Face or peft model, under autocast if bf16 is fast."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textune.backbones.families import Family
from textune.engine.masks import form_masks
from textune.engine.pooling import pool_windows
from textune.engine.precision import Precision
from textune.tokens.batches import Batch
from textune.tokens.packed_rows import build_block_mask

_LONGEST_FOR_PLAIN_ATTENTION = 192
"""Longest text for which plain attention is faster than fused attention on a CPU. Its speed-up is 1.3 at 96 tokens and
0.7 at 400, with 1.7 times the memory (`benchmarks/attention.py`)."""


class ReferenceEngine(torch.nn.Module):
    """Runs the model's own forward. Its parameters stay fp32: autocast rounds them on the fly.

    family: names the modules above the encoder, which compute in fp32 so that logits are not rounded to bf16's eight
    bits, and those whose output must be rounded. equal_lengths: a forward pass only contains texts of equal length,
    for models whose logits depend on padding; no batch may be packed then.
    """

    name = "reference"

    def __init__(
        self,
        model: torch.nn.Module,
        precision: Precision,
        family: Family | None = None,
        *,
        equal_lengths: bool = False,
    ) -> None:
        super().__init__()
        self._equal_lengths = equal_lengths
        self.model = model
        self.precision = precision
        self._restore: list[Callable[[], None]] = []
        self._configs = _find_switchable_configs(model)
        if precision.name == "bf16" and family is not None:
            self._set_dtypes(family)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.model.parameters()).device

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the logits of a batch: float32 [rows, classes]."""
        if not self._equal_lengths:
            return pool_windows(self._run(batch), batch)
        lengths = batch.attention_mask.sum(1)
        groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        logits = torch.cat([self._run(_unpad(batch, windows)) for windows in groups])
        order = torch.from_numpy(np.argsort(np.concatenate(groups))).to(logits.device)
        return pool_windows(logits[order], batch)

    def _run(self, batch: Batch) -> torch.Tensor:
        """Return the logits of every window: float32 [windows, classes]."""
        inputs: dict[str, Any] = {
            "input_ids": self._tensor(batch.input_ids),
            "attention_mask": self._tensor(batch.attention_mask),
        }
        if batch.token_type_ids is not None:
            inputs["token_type_ids"] = self._tensor(batch.token_type_ids)
        if batch.segments is not None:
            inputs["position_ids"] = self._tensor(batch.position_ids)
        if batch.columns is not None:
            inputs |= {"logits_to_keep": self._tensor(batch.columns), "use_cache": False}
        if self.device.type == "cpu":
            form = "eager" if batch.input_ids.shape[1] <= _LONGEST_FOR_PLAIN_ATTENTION else "sdpa"
            for config in self._configs:
                config._attn_implementation = form
        if batch.segments is not None:
            mask = partial(build_block_mask, batch.segments)
            inputs["attention_mask"] = form_masks(self.model.config, mask, self.device)
        with self._autocast():
            logits: torch.Tensor = self.model(**inputs).logits
        return logits.float()

    def write(self, ids: Any, mask: Any, options: Mapping[str, Any], streamer: Any = None) -> Any:
        """Return the tokens that continue prompts padded on the left: int64 [prompts, tokens].

        options: of transformers' GenerationConfig. They alone decide: a penalty of repetitions or a shortest length in
        the model's own generation_config.json is not used.
        """
        import transformers

        for config in self._configs:
            config._attn_implementation = "sdpa"
        settings = transformers.GenerationConfig(**options)
        model: Any = self.model
        with _hide_defaults(model), torch.inference_mode(), self._autocast():
            written = model.eval().generate(
                input_ids=self._tensor(ids),
                attention_mask=self._tensor(mask),
                generation_config=settings,
                streamer=streamer,
            )
        return written[:, ids.shape[1] :].cpu().numpy()

    def adopt(self, probes: Mapping[str, Any]) -> None:
        """Do nothing: the form of attention depends on the length of each batch."""

    def refresh(self) -> None:
        """Do nothing: this engine derives nothing from the parameters."""

    def release(self) -> torch.nn.Module:
        """Undo the engine's changes to the model's modules and return the model."""
        while self._restore:
            self._restore.pop()()
        for config in self._configs:
            config._attn_implementation = "sdpa"
        return self.model

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _set_dtypes(self, family: Family) -> None:
        for name, module in self.model.named_modules():
            if any(name == head or name.endswith(f".{head}") for head in family.head_modules):
                self._restore.append(run_in_fp32(module))
            elif name.endswith(tuple(f".{rounded}" for rounded in family.rounded_modules)):
                self._restore.append(_round_output(module))


@contextlib.contextmanager
def _hide_defaults(model: torch.nn.Module) -> Iterator[None]:
    """Take away the settings of a model's generation_config.json, with which transformers fills what is left open."""
    import transformers

    defaults = [(module, module.generation_config) for module in model.modules() if "generation_config" in vars(module)]
    try:
        for module, _ in defaults:
            module.generation_config = transformers.GenerationConfig()
        yield
    finally:
        for module, settings in defaults:
            module.generation_config = settings


def _unpad(batch: Batch, windows: NDArray[Any]) -> Batch:
    """Return windows of equal length without their padding, one row per window."""
    mask = batch.attention_mask[windows]
    columns = mask[0].astype(bool)
    types = None if batch.token_type_ids is None else batch.token_type_ids[windows][:, columns]
    return Batch(batch.input_ids[windows][:, columns], mask[:, columns], types, windows)


def _find_switchable_configs(model: torch.nn.Module) -> list[Any]:
    """Return the configurations whose attention can be switched for each batch: those loaded with SDPA."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    return [c for c in configs.values() if getattr(c, "_attn_implementation", None) == "sdpa"]


def run_in_fp32(module: torch.nn.Module) -> Callable[[], None]:
    """Make a module compute in fp32 inside an autocast region; return a function that undoes it."""
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        device = args[0].device.type
        with torch.autocast(device, enabled=False):
            return original(*(a.float() if torch.is_tensor(a) and a.is_floating_point() else a for a in args), **kwargs)

    module.forward = forward

    def undo() -> None:
        del module.forward

    return undo


def _round_output(module: torch.nn.Module) -> Callable[[], None]:
    """Round a module's output to bf16 under autocast (4-bit layers and VeRA return fp32); return its undoing."""
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        return output.to(torch.bfloat16) if torch.is_autocast_enabled(output.device.type) else output

    module.forward = forward

    def undo() -> None:
        del module.forward

    return undo
