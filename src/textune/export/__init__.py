"""Runs in forms that other tools load."""

from textune.lazy import make_callable

make_callable(__name__)
