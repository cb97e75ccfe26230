"""CUDA graphs: the kernels of one pass over a pack, launched at once where packs of the same size come again.

A small encoder's pass is some hundred kernels that each run for less time than it takes to launch them. A pass of a
size that was seen before is recorded; from then on, inputs are copied into the recording's own, and it is played.
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

_MOST_KEPT = 32
_SWITCH = "TEXTUNE_CUDA_GRAPHS"
_LARGEST_DIFFERENCE = 0.02
"""Of the largest logit: what a recording may differ from the pass itself, whose products may go other ways."""

Pass = Callable[[Pack], torch.Tensor]


def has_graphs(device: torch.device) -> bool:
    """Return whether passes can be recorded here; TEXTUNE_CUDA_GRAPHS=off in the environment says no."""
    return device.type == "cuda" and os.environ.get(_SWITCH, "").lower() != "off"


@dataclass(frozen=True)
class Recording:
    """pack and logits: the tensors that `play` reads and writes. pool: the memory of what lies between."""

    pack: Pack
    logits: torch.Tensor
    play: Callable[[], Any]
    pool: Any = None

    def run(self, pack: Pack) -> torch.Tensor:
        """Return the logits of a pack of the same size."""
        for own, new in zip(_list_tensors(self.pack), _list_tensors(pack), strict=True):
            own.copy_(new)
        self.play()
        return self.logits.clone()


class Graphs:
    """Recorded passes of one model. run: the pass itself."""

    def __init__(self, run: Pass) -> None:
        self._run = run
        self._recordings: dict[Hashable, Recording] = {}
        self._seen: set[Hashable] = set()
        self._mark: Hashable = None
        self._broken = False
        self._lock = threading.Lock()  # a recording has one set of inputs

    def forget(self) -> None:
        """Drop every recording: they read weights at the addresses that those had."""
        self._recordings.clear()
        self._seen.clear()

    def __call__(self, pack: Pack, mark: Hashable) -> torch.Tensor:
        """Return the logits of a pack. mark: tells the state of the weights; recordings of another are dropped."""
        with self._lock:
            if mark != self._mark:
                self.forget()
                self._mark = mark
            size = (len(pack.ids), len(pack.starts), pack.longest)
            if size in self._recordings:
                return self._recordings[size].run(pack)
            logits = self._run(pack)
            if size in self._seen and len(self._recordings) < _MOST_KEPT and not self._broken:
                self._record(size, pack, logits)
            self._seen.add(size)
            return logits

    def _record(self, size: Hashable, pack: Pack, logits: torch.Tensor) -> None:
        """Keep a recording if it gives what the pass gave; whatever goes wrong, the passes themselves go on."""
        try:
            first = next(iter(self._recordings.values()), None)
            recording = capture(self._run, pack, None if first is None else first.pool)
            difference = float((recording.run(pack) - logits).abs().max())
            if not difference <= _LARGEST_DIFFERENCE * float(logits.abs().max()):
                raise RuntimeError(f"the logits differ by {difference:.2g}")
        except RuntimeError as error:
            self._broken = True
            self._recordings.clear()
            warnings.warn(f"CUDA graphs are not used: {error} ({_SWITCH}=off leaves them out)", stacklevel=2)
            return
        self._recordings[size] = recording


def capture(run: Pass, pack: Pack, pool: Any) -> Recording:
    """Record a pass on CUDA. pool: that of another recording, which is never played at the same time."""
    with torch.inference_mode(False), torch.no_grad():  # what is written into later must not be an inference tensor
        own = pack.map(torch.clone)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run(own)  # libraries set themselves up in the first pass on a stream, which must not be recorded
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits = run(own)
    return Recording(own, logits, graph.replay, graph.pool())


def _list_tensors(pack: Pack) -> list[torch.Tensor]:
    return [pack.ids, pack.positions, pack.types, pack.starts, pack.bounds]
