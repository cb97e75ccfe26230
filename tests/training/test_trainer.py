"""The loop: its schedule, its arithmetic, its guards, and what it writes down."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from textune.backbones import load_classifier, resolve_backbone
from textune.engine import Precision, ReferenceEngine, precision
from textune.errors import TrainingError
from textune.files import hash_file, read_json_lines
from textune.methods import resolve
from textune.progress import Silent
from textune.tasks.single_label import score_logits
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import (
    Batch,
    Padding,
    collate,
    plan_epoch,
    plan_inference,
    split_micro_batches,
)
from tiny import run_in_two_processes, train_tiny
from trainers import Bag, assert_close, make_split, make_trainer, train_in_process, weights_of


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=700),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_takes_each_row_once(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    batches = plan_epoch(np.asarray(lengths), size, seed, epoch)
    assert sorted(int(r) for batch in batches for r in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert len(batches) == math.ceil(len(lengths) / size)
    again = plan_epoch(np.asarray(lengths), size, seed, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_epochs_differ_and_batches_hold_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 640)
    first, second = (plan_epoch(lengths, 10, 42, epoch) for epoch in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    padded = sum(len(b) * lengths[b].max() for b in first)
    assert padded < 1.2 * lengths.sum()
    assert not np.all(np.diff([lengths[b].mean() for b in first]) >= 0), "the batches come in order of length"


@given(st.lists(st.integers(1, 600), max_size=400), st.integers(1, 5_000), st.integers(1, 64))
@settings(max_examples=60, deadline=None)
def test_inference_takes_each_row_once_within_the_budget(lengths: list[int], tokens: int, rows: int) -> None:
    sizes = np.asarray(lengths, dtype=int)
    batches = list(plan_inference(sizes, tokens, rows))
    assert sorted(int(r) for b in batches for r in b) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * sizes[batch].max() <= tokens


@given(st.lists(st.integers(1, 90), min_size=1, max_size=50), st.none() | st.integers(1, 60),
       st.none() | st.integers(1, 900))  # fmt: skip
def test_micro_batches_keep_the_rows_in_order_and_the_bounds(
    lengths: list[int], size: int | None, tokens: int | None
) -> None:
    sizes = np.asarray(lengths)
    pieces = split_micro_batches(np.arange(len(lengths)), size, None, sizes, tokens)
    assert np.concatenate(pieces).tolist() == list(range(len(lengths)))
    assert all(len(piece) <= (size or len(lengths)) for piece in pieces)
    if tokens is not None:
        assert all(len(piece) == 1 or len(piece) * sizes[piece].max() <= tokens for piece in pieces)


def test_collate_pads_on_either_side_and_marks_the_second_text(backbones: dict[str, Path]) -> None:
    second = ["the dull story was bad", "fine"]
    tokens = encode_texts(load_tokenizer(backbones["bert"]), ["good film", "bad"], second, 32)
    right = collate(tokens, [1, 0], Padding(0, "right", token_types=True))
    left = collate(tokens, [1, 0], Padding(0, "left", token_types=True))
    short, long = tokens.lengths[1], tokens.lengths[0]
    assert right.input_ids.shape == (2, long)
    assert right.attention_mask.sum(1).tolist() == left.attention_mask.sum(1).tolist() == [short, long]
    assert right.attention_mask[0, -1] == 0 and left.attention_mask[0, 0] == 0
    assert right.token_type_ids is not None and left.token_type_ids is not None
    assert np.array_equal(left.input_ids[0, -short:], right.input_ids[0, :short])
    assert np.array_equal(left.token_type_ids[0, -short:], right.token_type_ids[0, :short])
    assert right.token_type_ids[0, :short].tolist() == [0, 0, 0, 1, 1]  # [CLS] bad [SEP] | fine [SEP]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_rate_rises_then_falls(schedule: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, schedule=schedule, warmup_fraction=0.2, epochs=4, learning_rate=0.01)
    trainer.run()
    rates = [line["learning_rate"] for line in read_json_lines(tmp_path / "metrics.jsonl") if line["kind"] == "step"]
    assert len(rates) == trainer.total_steps == 20
    np.testing.assert_allclose(rates[:5], [0.0025, 0.005, 0.0075, 0.01, 0.01])
    done = np.arange(16) / 16
    falling = {"linear": 1 - done, "cosine": 0.5 * (1 + np.cos(np.pi * done)), "constant": np.ones(16)}[schedule]
    np.testing.assert_allclose(rates[4:], 0.01 * falling, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_micro_batches_of_any_size_give_the_weights_of_the_whole(size: int, smoothing: float, tmp_path: Path) -> None:
    # 21 rows in steps of 8: the last step is shorter and its pieces are uneven
    kwargs: dict[str, Any] = {"rows": 21, "epochs": 3, "label_smoothing": smoothing, "learning_rate": 1e-2}
    whole, pieces = (make_trainer(tmp_path / str(s), micro_batch_size=s, **kwargs) for s in (None, size))
    whole.run()
    pieces.run()
    assert_close(weights_of(whole.model), weights_of(pieces.model), 1e-6)


def test_one_step_is_adamw_on_the_mean_loss(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, rows=8, warmup_fraction=0.0, max_grad_norm=0.0, validation=None)
    expected = Bag()
    optimizer = torch.optim.AdamW(expected.parameters(), lr=1e-3, weight_decay=0.0)
    batch = collate(make_split(8).tokens, range(8), Padding(0), make_split(8).targets)
    cross_entropy(expected(batch), torch.from_numpy(batch.targets)).backward()
    optimizer.step()
    trainer.run()
    assert_close(weights_of(trainer.model), weights_of(expected), 1e-7)


class Cramped(Bag):
    """Memory runs out where more than `room` tokens come at once, padding included."""

    room = 0

    def forward(self, batch: Batch) -> torch.Tensor:
        if self.training and batch.input_ids.size > self.room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate many bytes")
        return super().forward(batch)


def test_where_memory_runs_out_the_tokens_at_once_are_halved(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain", epochs=2)
    plain.run()
    engine, told = Cramped(), Silent()
    engine.room = 40
    cramped = make_trainer(tmp_path / "cramped", engine, progress=told, epochs=2)
    cramped.run()
    assert_close(weights_of(plain.model), weights_of(cramped.model), 1e-6)
    assert told.warnings and all("memory ran out" in line for line in told.warnings) and len(told.warnings) < 4


def test_memory_that_does_not_hold_one_text_is_told(tmp_path: Path) -> None:
    engine = Cramped()
    with pytest.raises(TrainingError, match="memory ran out on a single text"):
        make_trainer(tmp_path, engine).run()


def test_memory_that_does_not_hold_the_windows_of_one_text_names_their_number(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, Cramped())
    tokens = trainer._train.tokens
    windows = np.arange(len(tokens) // 4 + 1) * 4
    split = dataclasses.replace(trainer._train, tokens=dataclasses.replace(tokens, window_starts=windows))
    longest = int((split.tokens.longest_windows * 4).max())
    trainer._train = split
    with pytest.raises(TrainingError, match="single text of") as told:
        trainer._accumulate(np.array([int((split.tokens.longest_windows * 4).argmax())]), 1.0)
    assert f"of {longest} tokens" in str(told.value) and "max_windows=" in str(told.value.hint)


def test_other_errors_of_a_pass_are_not_taken_for_memory(tmp_path: Path) -> None:
    class Broken(Bag):
        def forward(self, batch: Batch) -> torch.Tensor:
            if self.training:
                raise RuntimeError("shapes do not fit")
            return super().forward(batch)

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        make_trainer(tmp_path, Broken()).run()


def test_every_step_refreshes_the_engine(tmp_path: Path) -> None:
    engine = Bag()
    trainer = make_trainer(tmp_path, engine, epochs=1)
    trainer.run()
    assert engine.refreshed >= trainer.total_steps


def test_gradients_are_clipped(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_grad_norm=1e-12, learning_rate=0.1, head_learning_rate=0.1)
    before = weights_of(trainer.model)
    trainer.run()
    # AdamW divides by the gradient's size plus 1e-8: a gradient of 1e-12 leaves nearly nothing.
    assert_close(before, weights_of(trainer.model), 1e-3)
    norms = [line["gradient_norm"] for line in read_json_lines(tmp_path / "metrics.jsonl") if line["kind"] == "step"]
    assert min(norms) > 1e-6, "the norm is told as it was before clipping"


def test_same_seed_same_bits_other_seed_other_bits(tmp_path: Path, backbone: Path, reviews: Path) -> None:
    runs = [train_tiny(reviews, backbone, tmp_path / name, dropout=0.1, seed=seed)
            for name, seed in (("a", 1), ("b", 1), ("c", 2))]  # fmt: skip
    first, second, other = (hash_file(run.folder / "adapter_model.safetensors") for run in runs)
    assert first == second != other


def test_patience_stops_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    values = iter([0.5, 0.6, 0.9, 0.7, 0.75, 0.7, 0.99])
    trainer = make_trainer(tmp_path, epochs=8, eval_every_steps=2, patience=3)
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def measure() -> tuple[dict[str, float], np.ndarray[Any, Any]]:
        seen[len(seen)] = weights_of(trainer.model)
        value = next(values)
        return {"loss": 1.0, "accuracy": value, "macro_f1": value}, np.tile([0, 1], 10)

    trainer.measure = measure  # type: ignore[method-assign]
    result = trainer.run()
    # evaluations at steps 0, 2, 4 (the best), 6, 8, 10: three in a row without a better one
    assert (result.steps, result.best_step, result.stopped_early) == (10, 4, True)
    assert_close(weights_of(trainer.model), seen[2], 0.0)
    assert result.best_value == pytest.approx(0.9, abs=1e-5)


@pytest.mark.parametrize(("metric", "best_step"), [("accuracy", 1), ("macro_f1", 2), ("loss", 3)])
def test_the_metric_that_was_asked_for_picks_the_best(metric: str, best_step: int, tmp_path: Path) -> None:
    scores = iter([{"loss": 9.0, "accuracy": 0.0, "macro_f1": 0.0}, {"loss": 0.9, "accuracy": 0.9, "macro_f1": 0.1},
                   {"loss": 0.8, "accuracy": 0.8, "macro_f1": 0.3}, {"loss": 0.1, "accuracy": 0.7, "macro_f1": 0.15},
                   {"loss": 0.5, "accuracy": 0.1, "macro_f1": 0.1}])  # fmt: skip
    trainer = make_trainer(tmp_path, rows=32, eval_every_steps=1, metric=metric)
    trainer.measure = lambda: (next(scores), np.tile([0, 1], 10))  # type: ignore[method-assign]
    assert trainer.run().best_step == best_step


def test_of_checkpoints_that_validation_cannot_tell_apart_the_later_is_kept(tmp_path: Path) -> None:
    # 20 validation rows: one standard error at 80% is 8.9 points
    scores = iter([{"loss": 1.0, "accuracy": a, "macro_f1": a} for a in (0.5, 0.85, 0.8, 0.6, 0.7)])
    trainer = make_trainer(tmp_path, rows=32, eval_every_steps=1)
    trainer.measure = lambda: (next(scores), np.tile([0, 1], 10))  # type: ignore[method-assign]
    assert trainer.run().best_step == 2


@pytest.mark.parametrize(("tuned", "best_step"), [((0.7, 0.6, 0.75, 0.75), 4), ((0.6, 0.65, 0.7, 0.7), 0)])
def test_a_solved_head_is_kept_only_where_it_is_clearly_better(
    tuned: tuple[float, ...], best_step: int, tmp_path: Path
) -> None:
    scores = iter([{"loss": 1.0, "accuracy": a, "macro_f1": a} for a in (0.82, *tuned)])
    trainer = make_trainer(tmp_path, rows=32, eval_every_steps=1, head_init="probe")
    start = weights_of(trainer.model)
    trainer.measure = lambda: (next(scores), np.tile([0, 1], 10))  # type: ignore[method-assign]
    assert trainer.run().best_step == best_step
    moved = any(not torch.equal(value, start[name]) for name, value in weights_of(trainer.model).items())
    assert moved == bool(best_step)


def test_not_a_number_in_the_loss_stops_and_names_the_rows(tmp_path: Path) -> None:
    class Breaking(Bag):
        steps = 0

        def forward(self, batch: Batch) -> torch.Tensor:
            self.steps += self.training
            return super().forward(batch) * (float("nan") if self.steps == 4 else 1.0)

    trainer = make_trainer(tmp_path, Breaking(), checkpoint_every_steps=1, eval_every_steps=100)
    with pytest.raises(TrainingError, match=r"loss became nan at step 4 \(training rows \d+, ") as caught:
        trainer.run()
    rows = [int(r) for r in caught.value.message.partition("training rows ")[2].partition(")")[0].split(", ")]
    assert rows == sorted(101 + plan_epoch(make_split(40).tokens.lengths, 8, 42, 0)[3]), "rows as the file numbers them"
    assert "step-00000003" in caught.value.message and "learning_rate" in (caught.value.hint or "")
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept[-1] == "step-00000003"


def test_infinite_gradient_stops_before_the_step_is_taken(tmp_path: Path) -> None:
    engine = Bag()
    engine.words.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match=r"gradient became (inf|nan) at step 1"):
        make_trainer(tmp_path, engine).run()
    assert all(bool(torch.isfinite(p).all()) for p in engine.parameters())


def test_huge_rate_of_a_whole_run_ends_as_an_error_or_a_warning(tmp_path: Path, backbone: Path, reviews: Path) -> None:
    progress = Silent()
    try:
        train_tiny(reviews, backbone, tmp_path / "run", progress, learning_rate=10, method="full", epochs=8)
    except TrainingError as error:
        assert "at step" in error.message
    else:
        assert any("not learning" in warning for warning in progress.warnings)


@pytest.mark.parametrize("part", ["body", "head"])
def test_no_gradient_fails_at_the_first_step(part: str, tmp_path: Path) -> None:
    class Detached(Bag):
        def forward(self, batch: Batch) -> torch.Tensor:
            mask = torch.from_numpy(batch.attention_mask)[..., None]
            hidden = self.words(torch.from_numpy(batch.input_ids)).sum(1) / mask.sum(1)
            if part == "body":
                return self.classifier(hidden.detach())
            return hidden[:, :2]

    with pytest.raises(TrainingError, match=f"nothing trainable in the {part} gets a gradient"):
        make_trainer(tmp_path, Detached()).run()
    assert not (tmp_path / "checkpoints").exists()


def test_a_later_batch_without_gradient_is_no_failure(tmp_path: Path) -> None:
    class Sure(Bag):
        steps = 0

        def forward(self, batch: Batch) -> torch.Tensor:
            self.steps += self.training
            return super().forward(batch) * (0.0 if self.steps == 3 else 1.0)

    assert make_trainer(tmp_path, Sure()).run().steps == 5


def test_a_run_that_does_not_learn_is_told_so(tmp_path: Path) -> None:
    progress = Silent()
    make_trainer(tmp_path, progress=progress, learning_rate=1e-9, head_learning_rate=1e-9, epochs=8).run()
    assert any("not learning" in warning and "learning rate" in warning for warning in progress.warnings)
    lines = [line for line in read_json_lines(tmp_path / "metrics.jsonl") if line["kind"] == "warning"]
    assert lines and lines[-1]["text"] in progress.warnings


def test_a_resumed_run_that_overfits_is_told_so(tmp_path: Path) -> None:
    def list_warnings(folder: Path, *stops: float | None) -> list[tuple[int, str]]:
        for stop in stops:  # the validation rows have other labels than the training rows of like words
            trainer = make_trainer(folder, rows=16, epochs=40, learning_rate=0.1, head_learning_rate=0.1)
            assert trainer._validation is not None
            trainer._validation.targets[:] = 1 - trainer._validation.targets
            trainer.run(stop)
        lines = read_json_lines(folder / "metrics.jsonl")
        return [(line["step"], line["text"]) for line in lines if line["kind"] == "warning"]

    whole = list_warnings(tmp_path / "whole", None)
    assert any("overfitting" in text for _, text in whole)
    assert list_warnings(tmp_path / "resumed", 20, 30, None) == whole


def test_log_has_a_line_for_each_step_and_evaluation(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=2, eval_every_steps=5)
    trainer.run()
    lines = read_json_lines(tmp_path / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "step"]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["step"] for line in steps] == list(range(1, 11))
    assert [line["step"] for line in evaluations] == [0, 5, 10]
    assert set(steps[0]) == {"kind", "step", "epoch", "loss", "learning_rate", "gradient_norm"}
    assert {"loss", "accuracy", "macro_f1", "train_loss", "epoch"} <= set(evaluations[1])
    assert evaluations[1]["train_loss"] == pytest.approx(np.mean([line["loss"] for line in steps[:5]]))
    assert evaluations[1]["epoch"] == 1.0


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_trainer(tmp_path, tensorboard=True).run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    told = [event.value for event in events.Scalars("step/loss")]
    assert told == pytest.approx([line["loss"] for line in read_json_lines(tmp_path / "metrics.jsonl")
                                  if line["kind"] == "step"])  # fmt: skip
    assert "evaluation/accuracy" in events.Tags()["scalars"]


def test_scores_of_hand_made_logits() -> None:
    logits = np.asarray([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], np.float32)
    scores = score_logits(logits, np.asarray([0, 1, -1]))
    expected = -(math.log(1 / (1 + math.exp(-2))) + math.log(1 / (1 + math.exp(-1)))) / 2
    assert scores["loss"] == pytest.approx(expected)
    assert scores["accuracy"] == pytest.approx(2 / 3), "a label that training never saw counts as an error"
    assert scores["macro_f1"] == pytest.approx(5 / 9), "as `evaluate` has it: 2/3, 1, and 0 of the unknown label"


def test_bf16_keeps_parameters_and_head_in_fp32(backbone: Path) -> None:
    found = resolve_backbone(str(backbone))
    model, new = load_classifier(found, ("a", "b"))
    model = resolve("lora", {}).apply(model, found.family, new)
    engine = ReferenceEngine(model, Precision("bf16", "test"), found.family)
    tokens = encode_texts(load_tokenizer(backbone), ["good film", "bad"], None, 16)
    batch = collate(tokens, [0, 1], found.padding, np.asarray([0, 1]))
    logits = engine(batch)
    assert logits.dtype == torch.float32 and {p.dtype for p in model.parameters()} == {torch.float32}
    exact = ReferenceEngine(model, Precision("fp32", "test"))
    engine.release()
    assert 0 < float((logits - exact(batch)).detach().abs().max()) < 0.1
    assert not torch.equal(logits.bfloat16().float(), logits), "the head rounds to bf16"


def test_the_choice_of_precision_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path))
    seconds = {torch.float32: 3.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "_time_products", lambda dtype: seconds[dtype])
    cpu = torch.device("cpu")
    first = precision.probe_precision("auto", cpu)
    assert first.name == "bf16" and "3.0x" in first.reason
    seconds[torch.float32] = 1.0  # as on a machine that is busy just then
    assert precision.probe_precision("auto", cpu) == first
    (tmp_path / "probes.json").unlink()
    assert precision.probe_precision("auto", cpu).name == "fp32"


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run_in_two_processes(train_in_process, 2, port, str(tmp_path / "two"))
    two = torch.load(tmp_path / "two" / "weights.pt", weights_only=True)
    one = make_trainer(tmp_path / "one", rows=21, epochs=3, learning_rate=1e-2)
    one.run()
    assert_close(weights_of(one.model), two, 1e-6)
    lines = read_json_lines(tmp_path / "two" / "metrics.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 10)), "one process writes"
