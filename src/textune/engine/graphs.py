"""CUDA graphs: all kernels of a pass in one launch, for pack sizes that recur.

A small encoder's pass consists of some hundred kernels, each shorter than its own launch. When a pack size occurs for
the second time its pass is recorded. From then on inputs are copied into the recording's tensors and it is replayed.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch

from textune.engine.packing import Pack

_MOST_RECORDINGS = 32
_SWITCH = "TEXTUNE_CUDA_GRAPHS"
_LARGEST_DIFFERENCE = 0.02
"""The largest allowed difference of a recording, as a share of the largest logit: its kernels may differ."""

Pass = Callable[[Pack], torch.Tensor]


def has_graphs(device: torch.device) -> bool:
    """Return whether passes can be recorded on the device; TEXTUNE_CUDA_GRAPHS=off disables it."""
    return device.type == "cuda" and os.environ.get(_SWITCH, "").lower() != "off"


@dataclass(frozen=True)
class Recording:
    """A recorded pass. pack, logits: the tensors that `play` reads and writes. pool: memory of intermediate results."""

    pack: Pack
    logits: torch.Tensor
    play: Callable[[], Any]
    pool: Any = None

    def run(self, pack: Pack) -> torch.Tensor:
        """Return the logits of a pack of the same size."""
        for recorded, new in zip(_list_tensors(self.pack), _list_tensors(pack), strict=True):
            recorded.copy_(new)
        self.play()
        return self.logits.clone()


class Graphs:
    """Recorded passes of one model. run: the pass without a recording."""

    def __init__(self, run: Pass) -> None:
        self._run = run
        self._recordings: dict[Hashable, Recording] = {}
        self._run_sizes: set[Hashable] = set()
        self._mark: Hashable = None
        self._broken = False
        self._lock = threading.Lock()  # a recording has one set of inputs

    def forget(self) -> None:
        """Drop every recording, since they read weights at fixed addresses."""
        self._recordings.clear()
        self._run_sizes.clear()

    def __call__(self, pack: Pack, mark: Hashable) -> torch.Tensor:
        """Return the logits of a pack. mark: identifies the weights; recordings of other weights are dropped."""
        with self._lock:
            if mark != self._mark:
                self.forget()
                self._mark = mark
            size = (len(pack.ids), len(pack.starts), pack.longest)
            if size in self._recordings:
                return self._recordings[size].run(pack)
            logits = self._run(pack)
            if size in self._run_sizes and len(self._recordings) < _MOST_RECORDINGS and not self._broken:
                self._record(size, pack, logits)
            self._run_sizes.add(size)
            return logits

    def _record(self, size: Hashable, pack: Pack, logits: torch.Tensor) -> None:
        """Record a pass and keep it if its logits are the same; on failure, passes run without recordings."""
        try:
            first = next(iter(self._recordings.values()), None)
            recording = capture(self._run, pack, None if first is None else first.pool)
            difference = float((recording.run(pack) - logits).abs().max())
            if not difference <= _LARGEST_DIFFERENCE * float(logits.abs().max()):
                raise RuntimeError(f"the logits differ by {difference:.2g}")
        except RuntimeError as error:
            self._broken = True
            self._recordings.clear()
            warnings.warn(f"CUDA graphs are not used: {error} ({_SWITCH}=off disables them)", stacklevel=2)
            return
        self._recordings[size] = recording


def capture(run: Pass, pack: Pack, pool: Any) -> Recording:
    """Record a pass on CUDA. pool: shared with another recording, which never runs at the same time."""
    with torch.inference_mode(False), torch.no_grad():  # inference tensors could not be overwritten later
        recorded = pack.map(torch.clone)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run(recorded)  # the first pass on a stream initializes libraries, which must not be recorded
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits = run(recorded)
    return Recording(recorded, logits, graph.replay, graph.pool())


def _list_tensors(pack: Pack) -> list[torch.Tensor]:
    return [pack.ids, pack.positions, pack.types, pack.starts, pack.bounds]
