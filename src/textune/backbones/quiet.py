"""Libraries kept quiet while they load a model; afterwards they are as talkative as the caller has set them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_bitsandbytes() -> Iterator[None]:
    """Hide warnings about optional kernels from a hub. peft imports bitsandbytes whenever it is installed."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


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
