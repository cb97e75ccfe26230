"""Libraries kept quiet while they load a model; afterwards they are as talkative as the caller has set them."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_bitsandbytes() -> Iterator[None]:
    """Hide warnings about optional kernels from a hub. peft imports bitsandbytes whenever it is installed."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with _compile_when_called():
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _compile_when_called() -> Iterator[None]:
    """Let functions that bitsandbytes compiles on import wait for their first call.

    `torch.compile` imports the whole compiler, which takes two seconds, and most runs call none of these functions.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or "bitsandbytes" in sys.modules:
        yield
        return
    compile_now: Callable[..., Any] = torch.compile

    def compile_later(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        if function is None:
            return functools.partial(compile_later, **options)

        @functools.cache
        def compiled() -> Callable[..., Any]:
            compiled_now: Callable[..., Any] = compile_now(function, **options)
            return compiled_now

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            return compiled()(*arguments, **named)

        return call

    torch.compile = compile_later
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
