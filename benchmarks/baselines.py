"""What the lean engine is compared with: one side of training in this process, started by `training.py`.

    python benchmarks/baselines.py SIDE rows.csv MODEL_FOLDER [--steps 10 | --epochs 1] [--fp32]
        [--judge other_rows.csv ...] [--parts 4]

N: Trainer + peft, fp32, every text padded to 512, as tutorials do. D: the same with DataCollatorWithPadding.
S: Trainer + peft, bf16 autocast, texts grouped by length. P: a plain loop over peft on a bf16 frozen base, length
buckets, no dropout; adapters and head stay fp32. N, D and S have transformers' default dropout of 0.1. All: rank 8,
alpha 16, no adapter dropout, on query, key, value and dense; AdamW at 1e-3, linear decay after 10% warm-up, gradients
clipped to 1, batch 16, max_length 512. Nothing of textune is
imported. The last line printed is one JSON object, with the accuracy on each table of --judge (D and S only).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sides import STARTED, load_rows

BATCH_SIZE, RATE, MAX_LENGTH = 16, 1e-3, 512
TARGETS = ["query", "key", "value", "dense"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("N", "D", "S", "P"))
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--judge", type=Path, nargs="*", default=[], help="tables to answer after training")
    told = "compute a batch in so many parts of like length: the same gradient, less padding"
    parser.add_argument("--parts", type=int, default=1, help=told)
    given = parser.parse_args()
    texts, labels = load_rows(given.rows)
    names = sorted(set(labels))
    targets = [names.index(label) for label in labels]
    clock = Clock()
    accuracies: dict[str, float] = {}
    if given.side == "P":
        plain = PlainLoop(given.model, len(names), fp32=given.fp32, seed=given.seed)
        plain.train(plain.encode(texts), targets, given.epochs, clock.step, given.steps)
    else:
        trainer = train_with_trainer(given, texts, targets, len(names), clock)
        for path in given.judge:
            accuracies[path.stem] = measure_accuracy(trainer, *load_rows(path), names)
    print(json.dumps(clock.figures() | {"accuracies": accuracies}))


class Clock:
    """When steps began and how many documents they took."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.steps = self.documents = 0

    def step(self, documents: int) -> None:
        """To be called before each step with its documents, and after the last with 0."""
        self.last = time.time()
        self.first = self.first or self.last
        self.steps += documents > 0
        self.documents += documents

    def figures(self) -> dict[str, Any]:
        """Return start-up (process start to first step) and steady seconds."""
        steady = self.last - self.first
        return {
            "startup_seconds": self.first - float(os.environ.get(STARTED, self.first)), "steady_seconds": steady,
            "documents": self.documents, "steps": self.steps,
        }  # fmt: skip


def build_model(folder: Path, classes: int, *, dtype: Any = None, **options: Any) -> Any:
    """Return transformers' classifier with peft's LoRA."""
    import peft
    import torch
    import transformers

    dtype = dtype or torch.float32
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        str(folder), num_labels=classes, dtype=dtype, **options
    )
    return peft.get_peft_model(base, peft.LoraConfig("SEQ_CLS", r=8, lora_alpha=16, target_modules=TARGETS))


def train_with_trainer(given: Any, texts: list[str], targets: list[int], classes: int, clock: Clock) -> Any:
    """Train N, D or S; return the Trainer."""
    import transformers

    transformers.set_seed(given.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(given.model))
    padding = "max_length" if given.side == "N" else False
    columns = tokenizer(texts, truncation=True, max_length=MAX_LENGTH, padding=padding)
    rows = [
        {name: column[i] for name, column in columns.items()} | {"labels": target} for i, target in enumerate(targets)
    ]

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.step(min(BATCH_SIZE, len(rows)))

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.step(0)

    class InParts(transformers.Trainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            return step_in_parts(self, model, inputs, given.parts)

    expert = given.side == "S"
    arguments = transformers.TrainingArguments(
        output_dir=str(given.rows.parent / "trainer"), use_cpu=True, per_device_train_batch_size=BATCH_SIZE,
        max_steps=given.steps or -1, num_train_epochs=given.epochs, learning_rate=RATE, warmup_steps=0.1,
        weight_decay=0.0, save_strategy="no", report_to="none", logging_strategy="no", disable_tqdm=True,
        bf16=expert and not given.fp32, train_sampling_strategy="group_by_length" if expert else "random",
        seed=given.seed,
    )  # fmt: skip
    collator = None if given.side == "N" else transformers.DataCollatorWithPadding(tokenizer)
    collator = collator or transformers.default_data_collator
    trainer = (InParts if given.parts > 1 else transformers.Trainer)(
        build_model(given.model, classes), arguments, train_dataset=rows, data_collator=collator,
        callbacks=[Watch()], processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    if given.steps is None:  # the last batch of an epoch may be smaller
        clock.documents = round(len(rows) * given.epochs)
    return trainer


def step_in_parts(trainer: Any, model: Any, inputs: Any, parts: int) -> Any:
    """Make the gradient of one batch in parts of like length; return the batch's mean loss."""
    model.train()
    mask = inputs["attention_mask"]
    order = mask.sum(1).argsort()
    total = 0.0
    for part in order.split(math.ceil(len(order) / parts)):
        longest = int(mask[part].sum(1).max())
        piece = {name: value[part, :longest] if value.ndim == 2 else value[part] for name, value in inputs.items()}
        loss = model(**piece).loss * len(part) / len(order)
        trainer.accelerator.backward(loss)
        total = loss.detach() + total
    return total


def measure_accuracy(trainer: Any, texts: list[str], labels: list[str], names: list[str]) -> float:
    """Return the share of right answers of a trained Trainer."""
    columns = trainer.processing_class(texts, truncation=True, max_length=MAX_LENGTH)
    order = sorted(range(len(texts)), key=lambda i: len(columns["input_ids"][i]))  # spares padding
    rows = [{name: column[i] for name, column in columns.items()} for i in order]
    answers = trainer.predict(rows).predictions.argmax(-1).tolist()
    right = [names[answer] == labels[i] for answer, i in zip(answers, order, strict=True)]
    return float(sum(right) / len(right))


class PlainLoop:
    """P: what people write by hand who know their way around."""

    def __init__(self, folder: Path, classes: int, *, fp32: bool, seed: int) -> None:
        import torch
        import transformers

        transformers.set_seed(seed)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
        self.model = build_model(
            folder, classes, dtype=torch.float32 if fp32 else torch.bfloat16, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        head = self.model.base_model.model.classifier
        head.float()
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
        self.random = random.Random(seed)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text."""
        return list(self.tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"])

    def logits(self, ids: list[list[int]], rows: list[int]) -> Any:
        """Return the logits of some rows, padded to the longest."""
        batch = self.tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
        return self.model(**batch).logits.float()

    def plan(self, lengths: list[int]) -> list[list[int]]:
        """Return the batches of one epoch: of like length, in random order."""
        order = self.random.sample(range(len(lengths)), len(lengths))
        size = BATCH_SIZE * 64
        chunks = [sorted(order[i : i + size], key=lengths.__getitem__) for i in range(0, len(order), size)]
        batches = [chunk[i : i + BATCH_SIZE] for chunk in chunks for i in range(0, len(chunk), BATCH_SIZE)]
        return self.random.sample(batches, len(batches))

    def train(
        self, ids: list[list[int]], targets: list[int], epochs: float, told: Callable[[int], None],
        steps: int | None = None,
    ) -> None:  # fmt: skip
        """Train; `told` hears of each step before it begins, and of the end."""
        import torch

        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0, foreach=True)
        total = steps or round(epochs * math.ceil(len(ids) / BATCH_SIZE))
        warmup = max(1, round(0.1 * total))
        factor = lambda step: min((step + 1) / warmup, (total - step) / max(total - warmup, 1))  # noqa: E731
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        lengths, answers = [len(own) for own in ids], torch.tensor(targets)
        self.model.train()
        batches: list[list[int]] = []
        for _ in range(total):
            batches = batches or self.plan(lengths)
            rows = batches.pop()
            told(len(rows))
            loss = torch.nn.functional.cross_entropy(self.logits(ids, rows), answers[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        told(0)

    def predict(self, texts: list[str]) -> list[int]:
        """Return the class of each text."""
        import torch

        ids = self.encode(texts)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        answers = [0] * len(ids)
        self.model.eval()
        with torch.inference_mode():
            for begin in range(0, len(order), 32):
                rows = order[begin : begin + 32]
                for row, answer in zip(rows, self.logits(ids, rows).argmax(1).tolist(), strict=True):
                    answers[row] = answer
        return answers


if __name__ == "__main__":
    main()
