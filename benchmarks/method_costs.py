"""What each method costs on backbones of two sizes: trained parameters, disk, and memory over the bare model's.

    python benchmarks/method_costs.py --output results/method_costs.jsonl [--only lora ...]

The backbones have random weights of the sizes of all-MiniLM-L6-v2 and distilbert-base-uncased: nothing here depends on
the values. Memory is the growth of the process's peak from before the weights are loaded to after three training steps
of 16 rows x 128 tokens in fp32, each method in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "minilm": {
        "model_type": "bert", "vocab_size": 30_522, "hidden_size": 384, "num_hidden_layers": 6,
        "num_attention_heads": 12, "intermediate_size": 1_536, "pad_token_id": 0,
    },
    "distilbert": {
        "model_type": "distilbert", "vocab_size": 30_522, "dim": 768, "n_layers": 6, "n_heads": 12,
        "hidden_dim": 3_072, "pad_token_id": 0,
    },
}  # fmt: skip
ROWS, TOKENS, STEPS = 16, 128, 3


def main() -> None:
    """Measure every method on both sizes, each in its own process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "SIZE", "FOLDER"), help="measure one, print it")
    arguments = parser.parse_args()
    if arguments.one:
        method, size, folder = arguments.one
        print(json.dumps(measure(method, size, Path(folder))))
        return
    from textune.methods import methods

    lines = []
    with tempfile.TemporaryDirectory() as place:
        for size in SIZES:
            folder = build_model(size, Path(place) / size)
            for method in arguments.only or sorted(methods.names()):
                words = [sys.executable, __file__, "--one", method, size, str(folder)]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                lines.append(done.stdout.strip().splitlines()[-1])
                print(lines[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def build_model(size: str, folder: Path) -> Path:
    """Save a model of random weights; return its folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    settings = dict(SIZES[size])
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    transformers.AutoModel.from_config(config).save_pretrained(str(folder), safe_serialization=True)
    return folder


def measure(name: str, size: str, folder: Path) -> dict[str, Any]:
    """Return the costs of one method."""
    import numpy as np
    import torch

    from textune.backbones import load_classifier, resolve_backbone
    from textune.engine import Precision, ReferenceEngine
    from textune.methods import Rates, count_parameters, resolve
    from textune.run.costs import peak_memory_mb
    from textune.run.save import weight_megabytes
    from textune.tokens.batches import Batch

    torch.set_num_threads(1)
    backbone, method = resolve_backbone(str(folder)), resolve(name, {})
    if name == "qlora":
        import bitsandbytes  # noqa: F401  its own memory is not the method's
    before = peak_memory_mb()
    model, new = load_classifier(backbone, ("a", "b"), load_kwargs=method.load_kwargs(backbone.family))
    model = method.apply(model, backbone.family, new).train()
    trainable, total = count_parameters(model)
    engine = ReferenceEngine(model, Precision("fp32", "benchmark"), backbone.family)
    groups = method.param_groups(model, backbone.family, Rates(1e-4, 1e-4, 0.0))
    optimizer = torch.optim.AdamW(groups)
    ids = np.random.default_rng(0).integers(5, 30_000, (ROWS, TOKENS))
    batch = Batch(ids, np.ones_like(ids), None, np.arange(ROWS))
    targets = torch.arange(ROWS) % 2
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        torch.nn.functional.cross_entropy(engine(batch), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as place:
        method.write_weights(model, Path(place), backbone)
        disk = weight_megabytes(Path(place))
    return {
        "method": name, "size": size, "trainable": trainable, "total": total, "disk_mb": round(disk, 3),
        "peak_mb": round(peak_memory_mb() - before),
        "seconds_per_step": round(min(seconds), 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
