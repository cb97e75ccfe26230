"""The lean engine with one mechanism switched off at a time: each one's own share of the speed.

    python benchmarks/ablation.py --data FOLDER --output results/ablation.jsonl [--rows 160] [--passes 3]
        [--allocator own|tuned|plain]

LoRA training of MiniLM as in `training.py`, and inference with the merged model, on the first 160 rows of
amazon_reviews; steady state, start-up and tokenising not counted. All variants are in one process and take turns batch
by batch; each line gives time without the mechanism / time with all of them, the median over passes through the rows.
The allocator holds for a whole process, so its variants are processes of their own, in turns (--passes of them). There
is no line for "no backward pass below the lowest trained layer": LoRA as it is here trains in every layer.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from sides import (
    ALLOCATORS,
    Results,
    choose_environment,
    describe_setting,
    hold_to,
    load_rows,
    read_rows,
    run_side,
    write_rows,
)
from sides import median as median_of

BATCH_SIZE, MAX_LENGTH, WHOLE = 16, 512, "all mechanisms on"
NEVER = 1 << 62


@dataclass(frozen=True)
class Variant:
    """One thing switched off. engine: which is built; off: what holds while it runs; random: rows in random order.

    pooling: what the head reads; None: the architecture's own, which is the first token.
    """

    name: str
    engine: str = "lean"
    off: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    change: Callable[[Any], None] = lambda engine: None
    random: bool = False
    precision: str | None = None
    note: str = ""
    pooling: str | None = None


def patch(name: str, value: Any) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """Return what holds a module's name at another value for a while."""
    return lambda: mock.patch(f"textune.engine.{name}", value)


class Unfused:
    """Query, key and value as products of their own, laid side by side afterwards."""

    def __init__(self, fused: Any) -> None:
        from textune.engine.lora_op import FusedLinear

        self.products = [FusedLinear([part], fused.dtype) for part in fused.parts]

    def __call__(self, x: Any, *, training: bool) -> Any:
        import torch

        return torch.cat([product(x, training=training) for product in self.products], 1)

    def refresh(self) -> None:
        for product in self.products:
            product.refresh()


def unfuse(engine: Any) -> None:
    layers = [
        dataclasses.replace(layer, fused=Unfused(layer.fused), key_value=Unfused(layer.key_value))
        for layer in engine._encoder.layers
    ]
    engine._encoder = dataclasses.replace(engine._encoder, layers=tuple(layers))


def force_attention(length: int | None) -> Callable[[Any], None]:
    return lambda engine: engine.adopt({"fused_attention_from": length})


TRAINING = (
    Variant(WHOLE),
    Variant("length buckets", random=True, note="random batches, still packed"),
    Variant("packing", "reference", note="transformers' own forward under autocast, padded, in length buckets"),
    Variant("packing and length buckets", "reference", random=True, note="the same with random batches"),
    Variant("fused query, key and value", change=unfuse, note="three products and a copy that lays them together"),
    Variant("merged LoRA weights", off=patch("lora_op._MERGE_FROM_TOKENS", NEVER), note="the update beside the weight"),
    Variant("first token only in the last layer", "lean, last layer whole"),
    Variant("bf16", precision="fp32"),
    Variant("plain attention", change=force_attention(0), note="PyTorch's fused form at every length"),
    Variant("choice of attention by a probe", change=force_attention(None), note="plain products at every length"),
    Variant("texts attend in groups", off=patch("lean.cells_of_group", lambda *_: 0), note="each text by itself"),
    Variant("groups that fit the caches", off=patch("lean.cells_of_group", lambda *_: NEVER), note="no limit of 4 MB"),
)
INFERENCE = (
    Variant(WHOLE),
    Variant("packing", "reference", note="transformers' own forward under autocast, padded, in length buckets"),
    Variant("laid-out weights and fused GELU", off=patch("lora_op._has_packed_products", lambda _: False)),
    Variant("first token only in the last layer", "lean, last layer whole"),
    Variant("bf16", precision="fp32"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--allocator", choices=ALLOCATORS, default="own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=("training", "inference", "allocator"),
                        default=["training", "inference", "allocator"])  # fmt: skip
    parser.add_argument("--one", nargs=4, metavar=("KIND", "ROWS", "PASSES", "TUNE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        kind, rows, passes, tune = given.one
        print(json.dumps(run_turns(kind, Path(rows), int(passes), tune=tune == "own")))
        return
    hold_to(given.threads)
    command = (
        f"python benchmarks/ablation.py {'' if given.data is None else '--data FOLDER '}--rows {given.rows} "
        f"--passes {given.passes} --allocator {given.allocator}"
    )
    fixed = describe_setting(given.threads) | {
        "rows": given.rows, "repetitions": given.passes, "dropout": 0.0, "scaled": False, "command": command,
        "data": "rotten_tomatoes" if given.data is None else "amazon_reviews",
    }  # fmt: skip
    results = Results(given.output, fixed)
    with tempfile.TemporaryDirectory() as place:
        texts = read_rows(given.data, "amazon_reviews", "train", slice(0, given.rows))
        rows = write_rows(Path(place) / "rows.csv", *texts)
        for kind in ("training", "inference"):
            if kind in given.only and not results.find(figure=f"ablation, {kind}", allocator=given.allocator):
                for line in start(kind, rows, given.passes, given.allocator, given.threads)["variants"]:
                    results.add({"figure": f"ablation, {kind}", "allocator": given.allocator} | line)
        if "allocator" in given.only:
            compare_allocators(results, rows, given)


def start(kind: str, rows: Path, passes: int, allocator: str, threads: int) -> dict[str, Any]:
    """Run the turns of one kind in a process of their own under an allocator."""
    words = [sys.executable, __file__, "--one", kind, str(rows), str(passes), allocator]
    return run_side(words, choose_environment(allocator, threads, ours=True)).figures()


def compare_allocators(results: Results, rows: Path, given: Any) -> None:
    """Steady training with everything on, under each allocator's settings."""
    figure, run = "ablation, allocator", "allocator run"
    if results.find(figure=figure):
        return
    for repetition in range(1, given.passes + 1):
        for allocator in ALLOCATORS:
            if not results.find(figure=run, allocator=allocator, repetition=repetition):
                own = start("alone", rows, 1, allocator, given.threads)["variants"][0]
                results.add({"figure": run, "allocator": allocator, "repetition": repetition} | own)
    seconds = {name: median_of(results.find(figure=run, allocator=name), "seconds") for name in ALLOCATORS}
    told = {
        "plain": "as glibc has it", "own": "mallopt by the command itself", "tuned": "glibc's tunables: huge pages, too"
    }  # fmt: skip
    for allocator, own in seconds.items():
        line = {"figure": figure, "side": allocator, "allocator": allocator, "seconds": own, "unit": "time over own's"}
        results.add(line | {"value": round((own or 0) / (seconds["own"] or 1), 3), "note": told[allocator]})


def open_rows(rows: Path, *, tune: bool) -> tuple[Any, Any, Any, str]:
    """Return MiniLM, the tokens of the rows, two classes in turns as targets, and the precision that suits the machine.

    tune: whether the allocator is set first, as textune's commands do.
    """
    if tune:
        from textune.cli.allocator import tune_allocator

        tune_allocator()
    import torch

    from textune.backbones import resolve_backbone
    from textune.engine import probe_precision
    from textune.tokens import encode_texts, load_tokenizer

    found = resolve_backbone("minilm")
    tokens = encode_texts(load_tokenizer(found.folder), load_rows(rows)[0], None, MAX_LENGTH)
    return found, tokens, np.arange(len(tokens)) % 2, probe_precision("auto", torch.device("cpu")).name


def run_turns(kind: str, rows: Path, passes: int, *, tune: bool) -> dict[str, Any]:
    """Measure the variants of one kind in this process, in turns."""
    from textune.tokens.batches import collate, plan_epoch

    found, tokens, targets, auto = open_rows(rows, tune=tune)
    variants = {"training": TRAINING, "inference": INFERENCE, "alone": TRAINING[:1]}[kind]
    steps = [build_step(found, variant, auto, training=kind != "inference") for variant in variants]
    buckets = plan_epoch(tokens.lengths, BATCH_SIZE, 1, 0)
    order = np.random.default_rng(1).permutation(len(tokens))
    shuffled = [order[i : i + BATCH_SIZE] for i in range(0, len(order), BATCH_SIZE)]

    def batches(plan: Sequence[Any]) -> Iterator[Any]:
        yield from (collate(tokens, batch, found.padding, targets) for batch in plan)

    seconds: list[list[float]] = [[] for _ in variants]
    for number in range(passes + 1):  # the first is warm-up
        plans = list(zip(batches(buckets), batches(shuffled), strict=True))
        sums = [0.0] * len(variants)
        for i, (bucketed, random) in enumerate(plans[: 2 if number == 0 else None]):
            for turn in range(len(variants)):
                which = (i + turn) % len(variants)
                with variants[which].off():
                    begun = time.perf_counter()
                    steps[which](random if variants[which].random else bucketed)
                    sums[which] += time.perf_counter() - begun
        if number:
            for own, total in zip(seconds, sums, strict=True):
                own.append(total)
    lines = []
    for variant, own in zip(variants, seconds, strict=True):
        middle = statistics.median(own)
        times = statistics.median(mine / whole for mine, whole in zip(own, seconds[0], strict=True))
        lines.append(
            {"side": variant.name if variant.name == WHOLE else f"without: {variant.name}", "value": round(times, 3),
             "unit": "time without / time with", "seconds": round(middle, 4), "note": variant.note,
             "documents_per_second": round(len(tokens) / middle, 2), "precision": variant.precision or auto,
             "tokens_per_second": round(int(tokens.lengths.sum()) / middle)}
        )  # fmt: skip
    return {"variants": lines}


def build_step(found: Any, variant: Variant, auto: str, *, training: bool) -> Callable[[Any], None]:
    """Return what takes one step with a variant: of training, or a forward pass of the merged model."""
    import torch

    from textune.backbones import load_classifier
    from textune.backbones.pooling import Pooling
    from textune.engine import LeanEngine, Precision, ReferenceEngine
    from textune.methods import resolve

    torch.manual_seed(0)
    method = resolve("lora", {})
    pooling = None if variant.pooling is None else Pooling(variant.pooling)
    model, new = load_classifier(found, ("a", "b"), pooling=pooling)
    model = method.apply(model, found.family, new)
    if not training:
        model = method.merge(model.eval().requires_grad_(False))
    precision = Precision(variant.precision or auto, "as set")
    engine: Any
    if variant.engine == "reference":
        engine = ReferenceEngine(model, precision, found.family)
    else:
        engine = LeanEngine(model, precision, found.family, first_token_only=variant.engine == "lean")
        engine.adopt({"fused_attention_from": engine.probe_attention(MAX_LENGTH)})
        variant.change(engine)
    if not training:
        engine.eval()

        def classify(batch: Any) -> None:
            with torch.inference_mode():
                engine(batch)

        return classify
    engine.train()
    parameters = [p for p in engine.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, foreach=True)

    def step(batch: Any) -> None:
        loss = torch.nn.functional.cross_entropy(engine(batch), torch.from_numpy(batch.targets))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        engine.refresh()

    return step


if __name__ == "__main__":
    main()
