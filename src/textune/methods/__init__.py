"""Tuning methods: importing this package registers all of them; it imports neither torch nor peft."""

from textune.methods import bitfit, full, head, lora
from textune.methods.base import Method, Rates, check_family, is_inside, methods, resolve

__all__ = [
    "Method",
    "Rates",
    "bitfit",
    "check_family",
    "full",
    "head",
    "is_inside",
    "lora",
    "methods",
    "resolve",
]
