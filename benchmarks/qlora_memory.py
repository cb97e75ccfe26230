"""What 4-bit weights save on this machine, on an encoder and on a decoder, and whether a reload is exact.

    python benchmarks/qlora_memory.py --output results/qlora_memory.jsonl

Random weights of the sizes of bert-base (110 million) and of a small Qwen3-like decoder (about 200 million): memory
depends on sizes alone. Each line: the bytes that the weights take, and the growth of the resident memory when
it is loaded and has read one batch, in fp32 (LoRA's base) and in 4 bits (QLoRA's base); then, after three training
steps, the largest difference of the logits between the trained model and a load of its saved run in a fresh process.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "encoder": {"model_type": "bert", "vocab_size": 30_522, "pad_token_id": 0},
    "decoder": {
        "model_type": "qwen3", "vocab_size": 32_000, "hidden_size": 1_024, "num_hidden_layers": 12, "head_dim": 64,
        "num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 3_072, "pad_token_id": 0,
    },
}  # fmt: skip
TOKENS = 64


def main() -> None:
    """Measure both sizes under both methods, each step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", nargs=4, metavar=("WHAT", "METHOD", "BACKBONE", "RUN"), help="one step, printed")
    arguments = parser.parse_args()
    if arguments.one:
        what, method, backbone, run = arguments.one
        print(json.dumps({"train": train, "reload": reload}[what](method, Path(backbone), Path(run))))
        return
    lines = []
    with tempfile.TemporaryDirectory() as place:
        for size in SIZES:
            backbone = build_model(size, Path(place) / size)
            figures: dict[str, Any] = {"size": size}
            for method in ("lora", "qlora"):
                run = Path(place) / f"{size}-{method}"
                trained = call("train", method, backbone, run)
                loaded = call("reload", method, backbone, run)
                difference = max(abs(a - b) for a, b in zip(trained.pop("logits"), loaded["logits"], strict=True))
                figures[method] = trained | {"reload_difference": difference}
            for key in ("weights_mb", "resident_mb"):
                figures[f"{key}_ratio"] = round(figures["qlora"][key] / figures["lora"][key], 3)
            lines.append(json.dumps(figures))
            print(lines[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def call(what: str, method: str, backbone: Path, run: Path) -> dict[str, Any]:
    """Run one step in a fresh process and return what it printed."""
    words = [sys.executable, __file__, "--one", what, method, str(backbone), str(run)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def build_model(size: str, folder: Path) -> Path:
    """Save a model of random weights with a tokenizer of numbers; return its folder."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    settings = dict(SIZES[size])
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    transformers.AutoModel.from_config(config).save_pretrained(str(folder), safe_serialization=True)
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(1_000)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def train(name: str, folder: Path, run: Path) -> dict[str, Any]:
    """Load, measures, takes three steps and save; return memory and logits."""
    import bitsandbytes  # noqa: F401  its own memory is not the weights'
    import numpy as np
    import peft  # noqa: F401
    import psutil
    import torch

    from textune.backbones import load_classifier, resolve_backbone
    from textune.bundle import TextColumns
    from textune.config import build_config, write_settings
    from textune.engine import Precision, ReferenceEngine
    from textune.inference import Predictor
    from textune.methods import Rates, resolve
    from textune.run.save import BundleFacts, TrainedModel, write_bundle
    from textune.tokens.batches import Batch

    backbone, method = resolve_backbone(str(folder)), resolve(name, {})
    before = psutil.Process().memory_info().rss
    torch.manual_seed(1)
    model, new = load_classifier(backbone, ("a", "b"), load_kwargs=method.load_kwargs(backbone.family))
    model = method.apply(model, backbone.family, new)
    ids = np.random.default_rng(0).integers(5, 900, (4, TOKENS))
    batch = Batch(ids, np.ones_like(ids), None, np.arange(4))
    with torch.inference_mode():  # weights that are mapped from their file are in memory only once they are used
        ReferenceEngine(model, Precision("fp32", "benchmark"), backbone.family).eval()(batch)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    resident = psutil.Process().memory_info().rss - before
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    weights += sum(count_state(p.quant_state) for p in model.parameters() if hasattr(p, "quant_state"))
    model.train()
    engine = ReferenceEngine(model, Precision("fp32", "benchmark"), backbone.family)
    optimizer = torch.optim.AdamW(method.param_groups(model, backbone.family, Rates(1e-3, 1e-3, 0.0)))
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(engine(batch), torch.arange(4) % 2)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    run.mkdir()
    write_settings(build_config({}), run / "config.yaml")
    facts = BundleFacts(
        labels=("a", "b"),
        label_values=("a", "b"),
        columns=TextColumns(),
        max_length=TOKENS,
        seed=1,
        data_fingerprint="-",
        engine={"name": "reference"},
    )
    write_bundle(run, TrainedModel(model, method, backbone, new), facts)
    model.eval()
    texts = make_texts()
    probe = Predictor.load(run, backbone=str(folder), precision="fp32", device="cpu", merge=False)
    probe._engine = engine.eval()
    logits = probe.predict_logits(texts).ravel().tolist()
    return {"weights_mb": round(weights / 1e6, 1), "resident_mb": round(resident / 1e6, 1), "logits": logits}


def reload(name: str, folder: Path, run: Path) -> dict[str, Any]:
    """Return the logits of a fresh load."""
    from textune.inference import Predictor

    predictor = Predictor.load(run, backbone=str(folder), precision="fp32", device="cpu", merge=False)
    return {"logits": predictor.predict_logits(make_texts()).ravel().tolist()}


def make_texts() -> list[str]:
    """Return texts of unequal length."""
    return [" ".join(str(7 * i % 900 + 5) for i in range(n)) for n in (3, 17, 60)]


def count_state(state: Any) -> int:
    """Return the bytes of what stands beside 4-bit weights: scales, quantised once more."""
    tensors = [state.absmax, state.code]
    if state.nested:
        tensors += [state.state2.absmax, state.state2.code]
    return int(sum(t.numel() * t.element_size() for t in tensors))


if __name__ == "__main__":
    main()
