"""Libraries kept quiet while they load a model; afterwards they are as talkative as the caller has set them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


@contextmanager
def quiet_bitsandbytes() -> Iterator[None]:
    """Hide warnings about optional kernels from a hub, and keep the import of bitsandbytes short.

    peft imports bitsandbytes whenever it is installed.
    """
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with nullcontext() if "bitsandbytes" in sys.modules else _compile_when_called():
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _compile_when_called() -> Iterator[None]:
    """Let `torch.compile` put off its work to the first call.

    bitsandbytes compiles functions for 4-bit weights while it is imported, and that loads torch's compiler, which costs
    2 seconds and is of no use without such weights.
    """
    import torch

    compile_now = torch.compile

    def compile_later(function: Any = None, **options: Any) -> Any:
        if function is None:
            return lambda decorated: compile_later(decorated, **options)
        compiled: list[Callable[..., Any]] = []

        def call(*arguments: Any, **named: Any) -> Any:
            if not compiled:
                compiled.append(compile_now(function, **options))
            return compiled[0](*arguments, **named)

        return call

    torch.compile = compile_later  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compile_now


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' progress bars and its messages about new heads, and those of bitsandbytes."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as messages

    verbosity, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        with quiet_bitsandbytes():
            yield
    finally:
        messages.set_verbosity(verbosity)
        if bars:
            messages.enable_progress_bar()
        if not hub_bars:
            disable_progress_bars()
        elif not bars:
            enable_progress_bars()
