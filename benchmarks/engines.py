"""Steady training speed of the lean engine beside others: the same rows, LoRA and optimizer, taking turns step by step.

python benchmarks/engines.py --data FOLDER [--rows 160] [--precision bf16] [--output results/engines.jsonl]

FOLDER holds amazon_reviews/train.parquet or .csv (title, content). In one process and on all threads; start-up and
tokenising are not counted. P is a plain loop over peft on a frozen base in the same type, as people write it by hand,
with the same length buckets and no dropout.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from textune.backbones import load_classifier, resolve_backbone
from textune.engine import LeanEngine, Precision, ReferenceEngine
from textune.engine.budget import describe_processor
from textune.methods import resolve
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import Batch, collate, plan_epoch

BATCH_SIZE, MAX_LENGTH = 16, 512


class Plain(torch.nn.Module):
    """P: transformers' model in the type of the products, wrapped by peft, with the attention that it chooses."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        super().__init__()
        import peft
        import transformers

        torch.manual_seed(0)
        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            str(folder), num_labels=2, dtype=dtype, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        targets = ["query", "key", "value", "dense"]
        self.model = peft.get_peft_model(base, peft.LoraConfig("SEQ_CLS", r=8, lora_alpha=16, target_modules=targets))

    def forward(self, batch: Batch) -> torch.Tensor:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        logits: torch.Tensor = self.model(**{k: torch.from_numpy(v) for k, v in inputs.items()}).logits
        return logits.float()

    def refresh(self) -> None:
        """Nothing is derived."""


def build_step(engine: Any, make_batch: Callable[[Any], Batch]) -> Callable[[Any], None]:
    parameters = [p for p in engine.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, foreach=True)

    def step(rows: Any) -> None:
        batch = make_batch(rows)
        loss = torch.nn.functional.cross_entropy(engine(batch), torch.from_numpy(batch.targets))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        engine.refresh()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    found = resolve_backbone("minilm")
    path = given.data / "amazon_reviews" / "train"
    table = pl.read_parquet(f"{path}.parquet") if path.with_suffix(".parquet").is_file() else pl.read_csv(f"{path}.csv")
    head = table.head(given.rows)
    texts = [f"{a or ''} {b or ''}" for a, b in zip(head["title"], head["content"], strict=True)]
    tokens = encode_texts(load_tokenizer(found.folder), texts, None, MAX_LENGTH)
    targets = np.arange(len(texts)) % 2

    def build(kind: str) -> Any:
        if kind == "P":
            dtype = torch.bfloat16 if given.precision == "bf16" else torch.float32
            return Plain(found.folder, dtype).train()
        torch.manual_seed(0)
        method = resolve("lora", {})
        model, new = load_classifier(found, ("a", "b"))
        model = method.apply(model, found.family, new)
        precision = Precision(given.precision, "as set")
        if kind == "reference":
            return ReferenceEngine(model, precision, found.family).train()
        return LeanEngine(model, precision, found.family, first_token_only=kind != "lean, last layer whole").train()

    sides = ("lean", "lean, last layer whole", "reference", "P")
    steps = {
        side: build_step(build(side), lambda rows: collate(tokens, rows, found.padding, targets)) for side in sides
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    plan = plan_epoch(tokens.lengths, BATCH_SIZE, 1, 0)
    for i, rows in enumerate([plan[0], *plan]):  # the first is warm-up
        for turn in range(len(sides)):
            side = sides[(i + turn) % len(sides)]
            begun = time.perf_counter()
            steps[side](rows)
            seconds[side].append(time.perf_counter() - begun)
    total = {side: sum(own[1:]) for side, own in seconds.items()}
    count = int(tokens.lengths.sum())
    lines = [
        {
            "figure": "steady training speed", "side": side, "precision": given.precision,
            "tokens_per_second": round(count / total[side]), "documents_per_second": round(len(texts) / total[side], 1),
            "lean_is_so_many_times_as_fast": round(total[side] / total["lean"], 2), "rows": len(texts),
            "steps": len(plan), "threads": torch.get_num_threads(), "machine": describe_processor(),
            "torch": torch.__version__, "command": "python benchmarks/engines.py --data FOLDER "
            f"--rows {given.rows} --precision {given.precision}",
        }
        for side in sides
    ]  # fmt: skip
    for line in lines:
        print(json.dumps(line), flush=True)
    if given.output:
        with given.output.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()
