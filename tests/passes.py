"""Passes of the engines over ragged texts, with every gradient, and what two processes train by the lean one."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from textune.backbones import Backbone, load_classifier, resolve_backbone
from textune.config import TrainingConfig
from textune.engine import LeanEngine, Precision, ReferenceEngine
from textune.methods import Rates, resolve
from textune.progress import Silent
from textune.tasks.single_label import CrossEntropy
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import Batch, EncodedSplit, collate
from textune.training.device import open_accelerator
from textune.training.trainer import Trainer, TrainingRows, TrainingSetup

FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta", "electra")
RAGGED = ("film", "the film was a good story", "a dull and slow scene " * 6, "lovely music", "actors " * 30, "the film",
          "the film was a bad story", "its actors and its music were fine, and the film was not")  # fmt: skip
FP32 = Precision("fp32", "test")


@dataclasses.dataclass
class Made:
    backbone: Backbone
    model: torch.nn.Module

    def lean(self, precision: str = "fp32", **options: Any) -> LeanEngine:
        return LeanEngine(self.model, Precision(precision, "test"), self.backbone.family, **options)

    def batch(self, texts: tuple[str, ...] = RAGGED, pairs: tuple[str, ...] | None = None) -> Batch:
        tokens = encode_texts(load_tokenizer(self.backbone.folder), texts, pairs, 40)
        return collate(tokens, range(len(texts)), self.backbone.padding)


def make(folder: Path, method: str, options: dict[str, Any], dropout: float = 0.0) -> Made:
    """A model whose adapters and biases do something, in evaluation mode."""
    backbone = resolve_backbone(str(folder))
    torch.manual_seed(1)
    model, new = load_classifier(backbone, ("a", "b", "c"), dropout=dropout)
    model = resolve(method, options).apply(model, backbone.family, new)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or (name.endswith("bias") and "original" not in name):
                parameter.normal_(std=0.05)
    return Made(backbone, model.eval())


def run(engine: Callable[[Any], torch.Tensor], model: torch.nn.Module, batch: Any) -> dict[str, torch.Tensor]:
    """Logit and every gradient of a weighted sum of them."""
    model.zero_grad()
    logits = engine(batch)
    weights = np.random.default_rng(0).normal(size=tuple(logits.shape))
    (logits.float() * torch.tensor(weights, dtype=torch.float32)).sum().backward()
    gradients = {n: p.grad.float() for n, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach().float()} | {n: g.clone() for n, g in gradients.items()}


def run_reference(made: Made, batch: Batch, precision: str = "fp32") -> dict[str, torch.Tensor]:
    engine = ReferenceEngine(made.model, Precision(precision, "test"), made.backbone.family)
    result = run(engine, made.model, batch)
    engine.release()
    return result


def assert_same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert got.keys() == wanted.keys()
    largest = max(float(v.abs().max()) for n, v in wanted.items() if n != "logits")
    for name, value in wanted.items():
        # what has no gradient (the bias of the keys) has rounding in its place
        bound = tolerance * float(value.abs().max()) + (0 if name == "logits" else 1e-6 * largest)
        difference = float((got[name] - value).abs().max())
        assert difference <= bound, f"{name}: {difference:.2g} apart, {float(value.abs().max()):.2g} the largest"


def train_tiny_bert(backbone: str, folder: Path, accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Train LoRA by the lean engine for two epochs; return what was trained."""
    made = make(Path(backbone), "lora", {})
    engine = made.lean()
    tokens = encode_texts(load_tokenizer(made.backbone.folder), RAGGED * 3, None, 40)
    rows = np.arange(len(tokens))
    split = EncodedSplit(tokens, rows % 3, rows)
    groups = resolve("lora", {}).param_groups(engine, made.backbone.family, Rates(1e-2, 1e-2, 0.0))
    folder.mkdir(parents=True, exist_ok=True)
    config = TrainingConfig(epochs=2, batch_size=5, learning_rate=1e-2, head_learning_rate=1e-2)
    rows_seen = TrainingRows(split, None, made.backbone.padding)
    setup = TrainingSetup(config, CrossEntropy(config.label_smoothing), "plan", max_tokens=80)
    trainer = Trainer(engine, groups, rows_seen, setup, folder, Silent(), accelerator)
    trainer.run()
    return {n: p.detach().clone() for n, p in made.model.named_parameters() if p.requires_grad}


def train_in_process(rank: int, port: int, folder: str, backbone: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port),
                   "MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}  # fmt: skip
    torch.set_num_threads(1)
    accelerator = open_accelerator("cpu")
    assert accelerator.num_processes == 2
    save_file(train_tiny_bert(backbone, Path(folder), accelerator), Path(folder) / f"{rank}.safetensors")
    # The group's threads must end before the interpreter does: one that still holds a tensor then aborts the process.
    accelerator.wait_for_everyone()
    gc.collect()
    accelerator.end_training()
