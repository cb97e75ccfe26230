"""trl's SFTTrainer with LoRA on prompts and answers, in this process, started by `generation.py`.

    python benchmarks/sft_side.py ROWS.jsonl MODEL_FOLDER [--rank 8] [--rate 5e-4] [--batch-size 8] [--epochs 1]

Nothing of textune is imported. The last line printed is one JSON object: seconds, tokens, and the loss of every step.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Train and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--targets", default="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--bf16", action="store_true", help="compute in bf16; parameters stay fp32")
    parser.add_argument("--seed", type=int, default=42)
    print(json.dumps(train(parser.parse_args())))


def train(given: argparse.Namespace) -> dict[str, Any]:
    """Return seconds of the steps, tokens without padding, and the losses."""
    import datasets
    import peft
    import torch
    import transformers
    import trl

    clock = Clock()
    rows = [json.loads(line) for line in given.rows.read_text(encoding="utf-8").strip().split("\n")]
    chats = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"]}],
        }
        for row in rows
    ]
    model = transformers.AutoModelForCausalLM.from_pretrained(str(given.model), dtype=torch.float32)
    lora = peft.LoraConfig(
        r=given.rank, lora_alpha=given.alpha, target_modules=given.targets.split(","), task_type="CAUSAL_LM"
    )
    with tempfile.TemporaryDirectory() as place:
        settings = trl.SFTConfig(
            output_dir=place, per_device_train_batch_size=given.batch_size, num_train_epochs=given.epochs,
            learning_rate=given.rate, lr_scheduler_type="linear", warmup_steps=0.1, logging_steps=1,
            max_length=given.max_length, completion_only_loss=True, bf16=given.bf16, use_cpu=True, save_strategy="no",
            report_to=[], seed=given.seed, gradient_checkpointing=False, packing=False, disable_tqdm=True,
            dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = trl.SFTTrainer(
            model=model, args=settings, train_dataset=datasets.Dataset.from_list(chats), peft_config=lora,
            processing_class=transformers.AutoTokenizer.from_pretrained(str(given.model)),
            callbacks=[clock.build_callback(transformers.TrainerCallback)],
        )  # fmt: skip
        tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"]) * given.epochs
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "startup_seconds": round(clock.first - clock.started, 2), "steady_seconds": round(clock.last - clock.first, 2),
        "cpu_seconds": round(clock.cpu_last - clock.cpu_first, 2),
        "tokens": int(tokens), "steps": clock.steps, "losses": [round(loss, 4) for loss in losses],
        "version": trl.__version__,
    }  # fmt: skip


class Clock:
    """When the steps began and ended, by the clock and in processor time: other programs may share the machine."""

    def __init__(self) -> None:
        self.started = float(os.environ.get("BENCHMARK_STARTED", time.time()))
        self.first = self.last = self.cpu_first = self.cpu_last = 0.0
        self.steps = 0

    def build_callback(self, base: Any) -> Any:
        """Return a Trainer's callback. base: transformers' class."""
        clock = self

        class Callback(base):  # type: ignore[misc]
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                clock.first, clock.cpu_first = time.time(), time.process_time()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.last, clock.cpu_last = time.time(), time.process_time()
                clock.steps += 1

        return Callback()


if __name__ == "__main__":
    main()
