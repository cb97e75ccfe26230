"""The cache of frozen layers: their states are the same in every epoch, so they are computed once and memory-mapped.

The key covers everything that the states depend on: the bytes of the frozen parameters, the token ids, the arithmetic
and the machine. So runs, trials and processes share the states, and stale ones are never found.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from textune import cache
from textune.engine.budget import describe_processor
from textune.engine.prefix import Prefix
from textune.files import hash_file, write_folder
from textune.tokens import Tokenized
from textune.tokens.batches import Batch, Padding, collate, plan_inference

if TYPE_CHECKING:
    from textune.engine.lean import LeanEngine

_FORMAT = "2"
STATES, _DIGEST = "states.npy", "states.sha256"
_TOKENS_PER_BATCH = 8_192
LARGEST_BYTES = 4 * 2**30
"""Limit of one run's states; above it the layers run in every epoch, as without a cache."""


def count_bytes(engine: LeanEngine, tokens: Tokenized, layers: int) -> int:
    """Return the size of a split's states on disk."""
    return math.prod(_shape(engine, tokens, layers)) * int(_dtype(engine, layers).itemsize)


def choose_layers(engine: LeanEngine, splits: Sequence[Tokenized], epochs: float) -> int:
    """Return how many of the lowest layers are computed once and cached; 0 if that saves nothing or does not fit."""
    layers = engine.count_frozen_layers()
    if not layers or epochs <= 1:
        return 0
    size = sum(count_bytes(engine, tokens, layers) for tokens in splits)
    folder = cache.cache_dir()
    while not folder.exists():
        folder = folder.parent
    return layers if size <= LARGEST_BYTES and 2 * size < shutil.disk_usage(folder).free else 0


def open_prefix(
    engine: LeanEngine, tokens: Tokenized, layers: int, padding: Padding, advance: Callable[[int], None]
) -> Prefix | None:
    """Return a split's states from the cache, or compute and cache them; None if the disk is full.

    advance: called with the number of rows done.
    """
    folder = _find_folder(engine, tokens, layers)
    path = folder / STATES
    shape = _shape(engine, tokens, layers)
    if not _is_intact(folder):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _compute(engine, tokens, layers, padding, folder, shape, advance)
        except OSError:
            return None  # a run works without the cache
        cache.clean(cache.LARGEST_BYTES)
    else:
        advance(len(tokens))
    try:
        os.utime(folder)
        states = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if states.shape != shape or states.dtype != _dtype(engine, layers):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Prefix(tokens, layers, states)


def is_kept(engine: LeanEngine, tokens: Tokenized, layers: int) -> bool:
    """Return whether a split's states are in the cache."""
    return (_find_folder(engine, tokens, layers) / STATES).is_file()


def plan_prefix(tokens: Tokenized) -> list[NDArray[Any]]:
    """Return the batches of rows in which a split's states are computed."""
    return list(plan_inference(tokens.longest_windows, _TOKENS_PER_BATCH, windows=tokens.count_windows()))


def start_prefix(engine: LeanEngine, tokens: Tokenized, layers: int) -> Prefix:
    """Return an empty prefix in memory, for a rehearsal to fill in the rows that it uses."""
    return Prefix(tokens, layers, np.zeros(_shape(engine, tokens, layers), _dtype(engine, layers)))


def fill_prefix(prefix: Prefix, engine: LeanEngine, rows: NDArray[Any], padding: Padding) -> None:
    """Compute the states of some rows and store them in the prefix."""
    _fill(prefix.states, engine, collate(prefix.tokens, rows, padding), prefix.layers)


def _is_intact(folder: Path) -> bool:
    """Return whether states are there as they were computed: others would train other weights, unnoticed."""
    try:
        return hash_file(folder / STATES) == (folder / _DIGEST).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def _find_folder(engine: LeanEngine, tokens: Tokenized, layers: int) -> Path:
    return cache.prefix_cache_dir() / _make_key(engine, tokens, layers)[:40]


def _shape(engine: LeanEngine, tokens: Tokenized, layers: int) -> tuple[int, int]:
    return (len(tokens.offsets) - 1 if layers == engine.layers else len(tokens.ids), engine.width)


def _dtype(engine: LeanEngine, layers: int) -> Any:
    rounded = engine.dtype == torch.bfloat16 and layers < engine.layers
    return np.dtype(np.uint16 if rounded else np.float32)


def _compute(
    engine: LeanEngine,
    tokens: Tokenized,
    layers: int,
    padding: Padding,
    folder: Path,
    shape: tuple[int, int],
    advance: Callable[[int], None],
) -> None:
    with write_folder(folder, shared=True) as partial:
        states = np.lib.format.open_memmap(partial / STATES, mode="w+", dtype=_dtype(engine, layers), shape=shape)
        if hasattr(os, "posix_fallocate"):  # a disk that fills up under a mapped file ends the process
            with (partial / STATES).open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, (partial / STATES).stat().st_size)
        for rows in plan_prefix(tokens):
            _fill(states, engine, collate(tokens, rows, padding), layers)
            advance(len(rows))
        states.flush()
        del states
        (partial / _DIGEST).write_text(hash_file(partial / STATES), encoding="utf-8")


def _fill(states: NDArray[Any], engine: LeanEngine, batch: Batch, layers: int) -> None:
    assert batch.source is not None
    hidden, order = engine.run_frozen(batch, layers)
    hidden = (hidden.float() if layers == engine.layers else hidden).cpu().contiguous()
    computed = hidden.view(torch.int16).numpy().view(np.uint16) if hidden.dtype == torch.bfloat16 else hidden.numpy()
    windows = batch.source.list_windows(batch.rows)[order]
    if layers == engine.layers:
        states[windows] = computed
        return
    begin = 0
    offsets = batch.source.offsets
    for window in windows:
        end = begin + int(offsets[window + 1] - offsets[window])
        states[offsets[window] : offsets[window + 1]] = computed[begin:end]
        begin = end


def _make_key(engine: LeanEngine, tokens: Tokenized, layers: int) -> str:
    digest = hashlib.sha256()
    machine = (describe_processor(), torch.__version__, torch.get_num_threads())
    digest.update("|".join(map(str, (_FORMAT, layers, *machine, *engine.describe_arithmetic()))).encode())
    for parameter in engine.frozen_parameters(layers):
        digest.update(str(tuple(parameter.shape)).encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().data)
    for array in (tokens.ids, tokens.offsets, tokens.second_starts):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()
