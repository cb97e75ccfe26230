"""Pool a text's token states into the one vector that the head reads.

The classifiers of transformers read an encoder's first token, but many checkpoints were trained with mean pooling and
say so in `1_Pooling/config.json`. Ignoring that costs accuracy (docs/explanation.md). A forward hook on the
body puts the pooled vector where the head reads it, so the module tree, its parameters and its files stay those of the
plain architecture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.backbones.families import Family
from textune.errors import ConfigError

if TYPE_CHECKING:
    import torch

FIRST, MEAN, LAST, NATIVE = "first", "mean", "last", "native"
EPSILON = 1e-12
"""Epsilon of the normalization, the same as in BERT's layer norms, so that a merged model can reproduce it."""
WITH_POOLER = ("bert", "albert")
"""Families whose head reads the output of the body's pooler."""
POOLING_CONFIG = Path("1_Pooling") / "config.json"
_NATIVE = {"cls": FIRST, "mean": MEAN}
_DESCRIPTIONS = {FIRST: "first token", MEAN: "mean over the tokens", LAST: "last token"}


@dataclass(frozen=True)
class Pooling:
    """Which vector the head reads.

    form: "first" (the first token), "mean" (the mean over tokens, normalized to mean 0 and variance 1), "last" (a
    decoder's last token) or "native" (the default of an unknown architecture). skip: virtual tokens before the text,
    which are not pooled.
    """

    form: str = FIRST
    skip: int = 0


def describe_pooling(form: str | None) -> str:
    """Return a form of pooling in words. None: that of a bundle older than the setting."""
    return _DESCRIPTIONS.get(form or NATIVE, "as the architecture does by default")


def choose_pooling(setting: str | None, family: Family, config: Mapping[str, Any], folder: Path) -> tuple[str, str]:
    """Return the form of pooling for a backbone, and the reason for the log.

    setting: "first", "mean" or None for automatic. config: the backbone's config.json. folder: the backbone's folder.
    Raises ConfigError if the family does not support the requested form.
    """
    refusal = explain_refusal(family)
    if family.decoder:
        if setting is not None:
            raise ConfigError(f"pooling={setting}: {family.name} {refusal}", hint="remove pooling=")
        return LAST, "a decoder's last token attends to the whole text"
    if family.guessed and setting is None:
        return NATIVE, f"{family.name} {refusal}"
    if setting is not None:
        if setting == MEAN and refusal is not None:
            raise ConfigError(f"pooling=mean: {family.name} {refusal}", hint="use pooling=first")
        return setting, "as set"
    trained = read_trained_pooling(folder)
    if trained == MEAN and refusal is not None:
        return FIRST, f"the checkpoint was trained with mean pooling, but {family.name} {refusal}"
    if trained is not None:
        return trained, "from the checkpoint's 1_Pooling/config.json"
    if family.pooling_setting is not None and config.get(family.pooling_setting) in _NATIVE:
        return _NATIVE[config[family.pooling_setting]], "from the checkpoint's config.json"
    return FIRST, "the checkpoint does not specify pooling"


def explain_refusal(family: Family) -> str | None:
    """Return why a family does not support mean pooling, or None if it does."""
    if family.decoder:
        return "is a decoder and reads its last token"
    if family.guessed:
        return "is not a known family, so it is unknown which states its head reads"
    return None


def read_trained_pooling(folder: Path) -> str | None:
    """Return the pooling that a sentence-transformers checkpoint was trained with, or None if it does not say."""
    try:
        content = json.loads((folder / POOLING_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    mode = content.get("pooling_mode")  # newer versions store one word
    if content.get("pooling_mode_mean_tokens") or mode == "mean":
        return MEAN
    return FIRST if content.get("pooling_mode_cls_token") or mode == "cls" else None


class PoolingHook:
    """A forward hook on a classifier's body that puts the pooled vector where the head reads it.

    native: the model pools by itself; only virtual tokens are removed.
    """

    def __init__(self, pooling: Pooling, *, native: bool = False) -> None:
        self.pooling, self.native = pooling, native

    def __call__(self, body: torch.nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        """Replace `pooler_output` if the body has a pooler, else replace the states with the pooled vector."""
        states = output.last_hidden_state[:, self.pooling.skip :]
        if self.native:
            # the model pools over all states, so fill all of them with the pooled vector of the text
            mask = kwargs.get("attention_mask")
            mask = None if mask is None else mask[:, -states.shape[1] :]
            pooled = states[:, 0] if self.pooling.form == FIRST else mean_of(states, mask)
            output.last_hidden_state = pooled[:, None].expand_as(output.last_hidden_state)
            return output
        if self.pooling.form == FIRST:
            pooled = states[:, 0]
        else:
            mask = kwargs.get("attention_mask")
            pooled = pool_mean(states, None if mask is None else mask[:, -states.shape[1] :])
        if getattr(output, "pooler_output", None) is None:
            output.last_hidden_state = pooled[:, None]
        elif self.pooling.form == FIRST:
            output.pooler_output = _run_pooler(body, states)
        else:
            output.pooler_output = pooled
        return output


def _run_pooler(body: Any, states: torch.Tensor) -> torch.Tensor:
    """Apply the body's pooler to other states: [rows, width]."""
    pooler = body.pooler
    activation = getattr(body, "pooler_activation", None)  # only ALBERT, whose pooler is a bare linear layer
    result: torch.Tensor = pooler(states) if activation is None else activation(pooler(states[:, 0]))
    return result


def pool_mean(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the normalized mean over tokens, float32 [rows, width].

    states: [rows, tokens, width]. mask: [rows, tokens] of 0 and 1; None: every token counts.
    """
    return normalize(mean_of(states.float(), mask))


def mean_of(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over tokens: [rows, width]. states, mask: as in `pool_mean`."""
    if mask is None:
        return states.mean(1)
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def normalize(vectors: torch.Tensor) -> torch.Tensor:
    """Normalize each vector to mean 0 and variance 1, so that one learning rate suits the heads of all backbones."""
    import torch

    return torch.nn.functional.layer_norm(vectors, vectors.shape[-1:], eps=EPSILON)


def needs_hook(family: Family, pooling: Pooling) -> bool:
    """Return whether a plain model of the family would pool its tokens differently."""
    if family.decoder or pooling.form in (LAST, NATIVE) or (family.guessed and pooling.form == FIRST):
        return False
    if pooling.form == FIRST or family.pooling_setting is not None:
        return bool(pooling.skip)
    return True


def attach_pooling(model: torch.nn.Module, family: Family, pooling: Pooling) -> None:
    """Make a freshly loaded classifier pool its tokens this way.

    Attaches nothing if the architecture already does so. Raises ValueError if the family does not support it.
    """
    if not needs_hook(family, pooling):
        return
    if family.guessed and pooling.form == MEAN:
        raise ValueError(f"{family.name} {explain_refusal(family)}")
    hook = PoolingHook(pooling, native=family.pooling_setting is not None)
    find_body(model).register_forward_hook(hook, with_kwargs=True)


def pooling_settings(family: Family, pooling: Pooling) -> dict[str, str]:
    """Return the config entries that select the pooling in a family with built-in poolings."""
    if family.pooling_setting is None:
        return {}
    return {family.pooling_setting: next(word for word, form in _NATIVE.items() if form == pooling.form)}


def find_body(model: torch.nn.Module) -> torch.nn.Module:
    """Return the encoder inside a transformers classifier."""
    body: torch.nn.Module = getattr(model, str(model.base_model_prefix))
    return body


def find_pooling(body: torch.nn.Module) -> Pooling | None:
    """Return the pooling attached to a body, or None."""
    poolings = [hook.pooling for hook in body._forward_hooks.values() if isinstance(hook, PoolingHook)]
    return poolings[0] if poolings else None
