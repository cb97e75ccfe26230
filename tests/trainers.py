"""The smallest engine there is, and trainers of it, in one process and in several."""

from __future__ import annotations

import dataclasses
import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from textune.config import TrainingConfig
from textune.progress import Silent
from textune.tasks.single_label import CrossEntropy
from textune.tokens import Tokenized
from textune.tokens.batches import Batch, EncodedSplit, Padding
from textune.training.device import open_accelerator
from textune.training.trainer import Trainer, TrainingRows, TrainingSetup

CONFIG = TrainingConfig(epochs=1, batch_size=8, learning_rate=1e-3, head_learning_rate=1e-3, dropout=0.0)


class Bag(torch.nn.Module):
    """The smallest engine there is: the mean of word vectors, and a linear layer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = torch.nn.Embedding(50, 8)
        self.classifier = torch.nn.Linear(8, 2)

    def refresh(self) -> None:
        self.refreshed = getattr(self, "refreshed", 0) + 1

    def forward(self, batch: Batch) -> torch.Tensor:
        mask = torch.from_numpy(batch.attention_mask)[..., None]
        hidden = self.words(torch.from_numpy(batch.input_ids)) * mask
        return self.classifier(hidden.sum(1) / mask.sum(1))


def make_split(rows: int, seed: int = 0) -> EncodedSplit:
    """Return rows of random length whose class is told by their first word."""

    random = np.random.default_rng(seed)
    targets = random.integers(0, 2, rows)
    texts = [np.concatenate([[1 + t], random.integers(3, 50, random.integers(1, 9))]) for t in targets]
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in texts])])
    tokens = Tokenized(np.concatenate(texts).astype(np.uint16), offsets, np.diff(offsets).astype(np.int32), None, 16)
    return EncodedSplit(tokens, targets, np.arange(101, 101 + rows))


def make_trainer(folder: Path, engine: torch.nn.Module | None = None, rows: int = 40, validation: int | None = 20,
                 progress: Any = None, accelerator: Accelerator | None = None, **changes: Any) -> Trainer:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    engine = engine or Bag()
    config = dataclasses.replace(CONFIG, **changes)
    parts = {"body": (engine.words, config.learning_rate), "head": (engine.classifier, config.head_learning_rate)}
    groups = [{"name": name, "params": list(module.parameters()), "lr": rate, "weight_decay": 0.0}
              for name, (module, rate) in parts.items()]  # fmt: skip
    seen = TrainingRows(make_split(rows), None if validation is None else make_split(validation, 1), Padding(0))
    setup = TrainingSetup(config, CrossEntropy(config.label_smoothing), "plan")
    return Trainer(engine, groups, seen, setup, folder, progress or Silent(), accelerator or open_accelerator("cpu"))


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in module.named_parameters()}


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], atol: float) -> None:
    for name in first.keys() | second.keys():
        torch.testing.assert_close(first[name], second[name], atol=atol, rtol=0.0, msg=lambda m, n=name: f"{n}: {m}")


def train_in_process(rank: int, processes: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_PORT": str(port),
                   "MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}  # fmt: skip
    torch.set_num_threads(1)
    accelerator = open_accelerator("cpu")
    assert accelerator.num_processes == processes
    trainer = make_trainer(Path(folder), rows=21, epochs=3, learning_rate=1e-2, micro_batch_size=2,
                           accelerator=accelerator)  # fmt: skip
    trainer.run()
    if rank == 0:
        torch.save(weights_of(trainer.model), Path(folder) / "weights.pt")
    # The group's threads must end before the interpreter does: one that still holds a tensor then aborts the process.
    accelerator.wait_for_everyone()
    del trainer
    gc.collect()
    accelerator.end_training()
