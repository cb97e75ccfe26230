"""The processor's threads, which belong to the whole process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from textune.training.device import set_threads
from tiny import train_tiny


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_the_threads_of_one_run_are_not_those_of_the_next(work: Path, backbone: Path, reviews: Path) -> None:
    used = []
    for number, threads in enumerate((1, None, 2, None)):
        run = train_tiny(reviews, backbone, work / f"r{number}", method="head", epochs=0, threads=threads)
        used.append(json.loads((run.folder / "plan.json").read_text())["threads"])
    assert used == [1, 3, 2, 3]


def test_threads_that_the_caller_sets_in_between_are_kept() -> None:
    set_threads(1)
    torch.set_num_threads(2)
    set_threads(None)
    assert torch.get_num_threads() == 2
