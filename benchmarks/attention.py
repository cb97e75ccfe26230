"""Plain against fused attention in LoRA training on the CPU, by text length: tokens per second and memory.

    python benchmarks/attention.py [--output results/attention.jsonl]

Each figure comes from a process of its own; the two forms take turns, three times each, and medians are given.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LENGTHS = (32, 96, 160, 256, 400)
BATCH, STEPS, REPETITIONS = 16, 6, 3


def measure(form: str, length: int) -> dict[str, float]:
    """Train a few steps in this process; return tokens per second and peak memory in MB."""
    import numpy as np
    import torch

    from textune.backbones import load_classifier, resolve_backbone
    from textune.engine import Precision, ReferenceEngine
    from textune.methods import resolve
    from textune.tokens.batches import Batch

    torch.manual_seed(0)
    backbone = resolve_backbone("minilm")
    model, new = load_classifier(backbone, ("a", "b"))
    model = resolve("lora", {}).apply(model, backbone.family, new)
    engine = ReferenceEngine(model, Precision("bf16", "benchmark"), backbone.family).train()
    for config in engine._configs:
        config._attn_implementation = form
    engine._configs = []
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    ids = np.random.default_rng(0).integers(1_000, 20_000, (BATCH, length))
    mask = np.ones_like(ids)
    mask[0, length // 2 :] = 0
    batch = Batch(ids, mask, np.zeros_like(ids), np.arange(BATCH))
    targets = torch.arange(BATCH) % 2
    started = 0.0
    for step in range(STEPS + 2):
        if step == 2:
            started = time.perf_counter()
        torch.nn.functional.cross_entropy(engine(batch), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - started
    return {
        "tokens_per_second": BATCH * length * STEPS / seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]))))
        return
    lines = []
    for length in LENGTHS:
        found: dict[str, list[dict[str, float]]] = {"eager": [], "sdpa": []}
        for _ in range(REPETITIONS):
            for form, results in found.items():
                words = [sys.executable, __file__, "--one", form, str(length)]
                environment = os.environ | {"GOMP_SPINCOUNT": "20000"}
                done = subprocess.run(words, stdout=subprocess.PIPE, check=True, env=environment)
                results.append(json.loads(done.stdout))
        line: dict[str, Any] = {"length": length, "command": "python benchmarks/attention.py"}
        for form, results in found.items():
            for key in results[0]:
                line[f"{form}_{key}"] = round(statistics.median(r[key] for r in results))
        line["plain_over_fused"] = round(line["eager_tokens_per_second"] / line["sdpa_tokens_per_second"], 2)
        lines.append(json.dumps(line))
        print(lines[-1], flush=True)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
