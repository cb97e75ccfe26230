"""Digests of what one commit computes: weights, predictions and figures, to show that a refactoring changed nothing.

    python benchmarks/same_results.py --data FOLDER --output old.json        at the commit before
    python benchmarks/same_results.py --data FOLDER --output new.json --against old.json

Runs `make demo`, each method on 200 film reviews, one multi-label run, a sweep of four trials and an ONNX export
through the command line, with one thread and one cache. Times, paths, memory and versions are left out. `--only` names
the runs to repeat.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METHODS = (
    "lora",
    "head",
    "full",
    "adapter",
    "bitfit",
    "ia3",
    "ln_tuning",
    "prefix",
    "prompt",
    "p_tuning",
    "vera",
    "qlora",
)
_WEIGHTS = ("adapter_model.safetensors", "delta.safetensors", "model.safetensors")
_SWEEP = """
data: embedded:rotten_tomatoes
labels: 0=negative,1=positive
sample: 700
epochs: 1
sweep:
  space:
    learning_rate: [3.0e-4, 1.0e-3]
    batch_size: [16, 32]
"""
_CHANGING = ("second", "time", "memory", "version", "path", "folder", "date", "per_text", "megabyte", "size", "peak")


def main(words: Sequence[str] | None = None) -> None:
    """Run everything and write, or compare, the digests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds go_emotions/train.csv")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args(words)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "sweep.yaml").write_text(_SWEEP, encoding="utf-8")
        for name, commands in list_runs(arguments.data.resolve()).items():
            if arguments.only and name not in arguments.only:
                continue
            for command in commands:
                textune(command, Path(place))
            found[name] = digest(Path(place) / "runs" / name)
            print(name, json.dumps(found[name])[:160], flush=True)
            arguments.output.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if arguments.against:
        before = json.loads(arguments.against.read_text(encoding="utf-8"))
        changed = [
            f"{name}: {key}"
            for name, digests in found.items()
            for key in digests.keys() | before[name].keys()
            if digests.get(key) != before[name].get(key)
        ]
        print(f"{len(found)} runs compared, {len(changed)} differences", *sorted(changed), sep="\n  ")
        raise SystemExit(bool(changed))


def list_runs(data: Path) -> dict[str, list[list[str]]]:
    """Return the commands of each run, by the run's name."""
    exact = ["threads=1", "precision=fp32", "epochs=1"]
    rows = ["sample=300", "validation_fraction=0.1", "test_fraction=0.23"]
    reviews = ["train", "embedded:rotten_tomatoes", "labels=0=negative,1=positive", *rows, *exact, "head_init=random"]
    runs = {"demo": [["demo"]]}
    runs |= {name: [[*reviews, f"method={name}", f"name={name}"]] for name in METHODS}
    columns = ["label=labels", "text=text", "sample=400"]
    emotions = ["train", str(data / "go_emotions" / "train.csv"), *columns, *exact, "name=emotions"]
    runs["emotions"] = [emotions]
    runs["sweep"] = [["sweep", "sweep.yaml", "threads=1", "precision=fp32", "name=sweep"]]
    runs["onnx"] = [["export", "runs/lora", "--to", "onnx", "--output", "runs/onnx"]]
    return runs


def textune(words: Sequence[str], place: Path) -> None:
    """Run one command of textune in the folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TEXTUNE_CACHE": str(place / "cache"), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "textune", *words]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"textune {' '.join(words)}: exit {done.returncode}\n{done.stderr[-2000:]}")


def digest(folder: Path) -> dict[str, Any]:
    """Return the SHA-256 of weights and predictions, and the figures, of a run, a sweep or an export."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name in _WEIGHTS:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "predictions.parquet":
            found[name] = _hash(_read_table(path))
        elif name == "evaluation/metrics.json":
            found[name] = _hash(_strip(json.loads(path.read_text(encoding="utf-8"))))
        elif path.name == "metrics.jsonl":
            found[name] = _hash([_strip(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()])
        elif path.suffix == ".onnx":
            found |= _digest_onnx(path, folder)
    return found


def _digest_onnx(path: Path, folder: Path) -> dict[str, Any]:
    import numpy as np
    import onnx
    import onnxruntime

    model = onnx.load(path)
    tensors = {
        t.name: hashlib.sha256(onnx.numpy_helper.to_array(t).tobytes()).hexdigest() for t in model.graph.initializer
    }
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = np.arange(2 * 12).reshape(2, 12) % 900 + 1_000
    inputs = {entry.name: ids if entry.name == "input_ids" else np.ones_like(ids) for entry in session.get_inputs()}
    if "token_type_ids" in inputs:
        inputs["token_type_ids"] = np.zeros_like(ids)
    logits = np.asarray(session.run(None, inputs)[0])
    name = path.relative_to(folder).as_posix()
    return {f"{name} initializers": _hash(sorted(tensors.values())), f"{name} logits": _hash(logits.tolist())}


def _read_table(path: Path) -> Any:
    import pyarrow.parquet as parquet

    return parquet.read_table(path).to_pylist()


def _strip(value: Any) -> Any:
    """Return JSON without what changes from run to run: times, paths, memory, versions."""
    if isinstance(value, dict):
        return {k: _strip(v) for k, v in value.items() if not any(word in k for word in _CHANGING)}
    if isinstance(value, list):
        return [_strip(v) for v in value]
    return value


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


if __name__ == "__main__":
    main()
