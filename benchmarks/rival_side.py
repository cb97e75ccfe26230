"""One rival of the accuracy frontier in this process, started by `accuracy_rivals.py`: SetFit, or Trainer with peft.

    python benchmarks/rival_side.py setfit|trainer WORK.json

Nothing of textune is imported, so the process may run in an environment without it. WORK.json holds texts, labels
(numbers), test (texts), backbone (a folder), seed, max_length, steps (at most so many; 0: no limit). The last line
printed is one JSON object: the answers, the steps, the seconds of training and the versions.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main() -> None:
    """Train, answer and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rival", choices=("setfit", "trainer"))
    parser.add_argument("work", type=Path)
    given = parser.parse_args()
    work = json.loads(given.work.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps((run_setfit if given.rival == "setfit" else run_trainer)(work, place)))


def run_setfit(work: dict[str, Any], place: str) -> dict[str, Any]:
    """Train by the defaults of SetFit: one epoch of pairs of 16, then logistic regression."""
    import datasets
    import setfit

    model = setfit.SetFitModel.from_pretrained(work["backbone"], local_files_only=True)
    model.model_body.max_seq_length = work["max_length"]
    # As a limit alone: with more steps than its epoch has, SetFit would begin others.
    settings = setfit.TrainingArguments(
        output_dir=place, seed=work["seed"], report_to="none", save_strategy="no", show_progress_bar=False,
        max_steps=work["steps"] if 0 < work["steps"] < count_steps(work["labels"]) else -1,
    )  # fmt: skip
    rows = datasets.Dataset.from_dict({"text": work["texts"], "label": work["labels"]})
    started = time.monotonic()
    trainer = setfit.Trainer(model=model, args=settings, train_dataset=rows)
    trainer.train()
    seconds = time.monotonic() - started
    answers = [int(answer) for answer in model.predict(work["test"], use_labels=False, show_progress_bar=False)]
    return describe(answers, trainer.st_trainer.state.global_step, seconds, ("setfit", "sentence-transformers"))


def count_steps(labels: Sequence[int], batch_size: int = 16) -> int:
    """Return the steps of SetFit's epoch: all pairs of the rarer kind, alike or unlike, are repeated to be as many."""
    alike = sum(rows * (rows + 1) // 2 for rows in Counter(labels).values())  # a text is also paired with itself
    unlike = len(labels) * (len(labels) + 1) // 2 - alike
    return math.ceil(2 * max(alike, unlike) / batch_size)


def run_trainer(work: dict[str, Any], place: str) -> dict[str, Any]:
    """Train as tutorials do: LoRA of rank 8 on query and value, 3 epochs of batches of 16 at 1e-3, the last weights."""
    import peft
    import torch
    import transformers

    transformers.set_seed(work["seed"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(work["backbone"])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        work["backbone"], num_labels=max(work["labels"]) + 1, dtype=torch.float32
    )
    lora = peft.LoraConfig(
        task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=0.1, target_modules=["query", "value"]
    )  # fmt: skip
    model = peft.get_peft_model(model, lora)
    settings = transformers.TrainingArguments(
        output_dir=place, seed=work["seed"], num_train_epochs=3, per_device_train_batch_size=16,
        per_device_eval_batch_size=64, learning_rate=1e-3, max_steps=work["steps"] or -1, report_to="none",
        save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    rows = [
        tokenizer(text, truncation=True, max_length=work["max_length"]) | {"labels": label}
        for text, label in zip(work["texts"], work["labels"], strict=True)
    ]
    trainer = transformers.Trainer(
        model=model, args=settings, train_dataset=rows,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    test = [tokenizer(text, truncation=True, max_length=work["max_length"]) for text in work["test"]]
    answers = trainer.predict(test).predictions.argmax(-1).tolist()
    return describe(answers, trainer.state.global_step, seconds, ("transformers", "peft"))


def describe(answers: list[int], steps: int, seconds: float, packages: Sequence[str]) -> dict[str, Any]:
    """Return what the parent reads."""
    versions = {name: importlib.metadata.version(name) for name in (*packages, "torch")}
    return {"answers": answers, "steps": steps, "training_seconds": round(seconds, 1), "versions": versions}


if __name__ == "__main__":
    main()
