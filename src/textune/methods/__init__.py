"""Tuning methods: importing this package registers all of them; it imports neither torch nor peft."""

from textune.methods import (
    adapter,
    adopted,
    bitfit,
    full,
    head,
    ia3,
    ln_tuning,
    lora,
    p_tuning,
    prefix,
    prompt,
    qlora,
    vera,
)
from textune.methods.base import (
    Method,
    check_family,
    check_fit,
    check_length,
    longest_text,
    methods,
    resolve,
    resolve_saved,
)
from textune.methods.rates import Rates, is_inside

__all__ = [
    "Method",
    "Rates",
    "adapter",
    "adopted",
    "bitfit",
    "check_family",
    "check_fit",
    "check_length",
    "full",
    "head",
    "ia3",
    "is_inside",
    "ln_tuning",
    "longest_text",
    "lora",
    "methods",
    "p_tuning",
    "prefix",
    "prompt",
    "qlora",
    "resolve",
    "resolve_saved",
    "vera",
]
