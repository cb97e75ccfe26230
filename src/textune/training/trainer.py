"""A plain training loop over accelerate: exact resuming, guards against silent failure, a log of JSON lines.

The loss is the sum over rows divided by the rows of the whole optimizer step, across micro-batches and processes, so
micro-batches of different size are weighted by their rows.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from textune.config import TrainingConfig
from textune.engine import is_out_of_memory, predict_logits
from textune.engine.budget import MOST_TOKENS
from textune.errors import TrainingError, show_resume
from textune.process.interrupt import RunInterrupted, StopRequest
from textune.progress import Progress
from textune.tasks import Objective, Task, TrainingSoFar, default_task
from textune.tokens.batches import EncodedSplit, Padding, plan_epoch, split_micro_batches
from textune.training.checkpoint import (
    CheckpointState,
    check_space,
    estimate_bytes,
    list_checkpoints,
    load_checkpoint,
    load_trainable,
    remove_all_but,
    save_checkpoint,
    trainable_parameters,
)
from textune.training.log import TrainingLog, find_logged_rate
from textune.training.signs import Signs

_SECONDS_BETWEEN_CHECKPOINTS = 120.0
_CHECKPOINTS_KEPT = 2
Look = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training. best_step: the step whose weights the model now has. seconds: of training alone.

    paused: it stopped at the requested epoch, and a later `run` continues it. start_seconds: spent before.
    """

    steps: int
    best_step: int
    best_value: float | None
    seconds: float
    stopped_early: bool
    total_steps: int
    paused: bool = False
    start_seconds: float = 0.0


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a training and how they are padded."""

    train: EncodedSplit
    validation: EncodedSplit | None
    padding: Padding


@dataclass(frozen=True)
class TrainingSetup:
    """How to train.

    config: with every None decided by `textune.config.defaults`. plan: fingerprint of settings, data and probes.
    max_tokens: of one forward pass, padding included; None: no limit. task: makes batches and calls the engine.
    """

    config: TrainingConfig
    objective: Objective
    plan: str
    max_tokens: int | None = None
    task: Task = field(default_factory=lambda: default_task(reads_sets=False).open())


class Trainer:
    """Trains one engine on one split; most callers only need `run`.

    engine: a module `engine(batch) -> logits` that contains the model. groups: the method's optimizer groups.
    folder: for checkpoints and the log.
    """

    def __init__(
        self,
        engine: torch.nn.Module,
        groups: list[dict[str, Any]],
        rows: TrainingRows,
        setup: TrainingSetup,
        folder: Path,
        progress: Progress,
        accelerator: Accelerator,
    ) -> None:
        config = setup.config
        self._objective, self._task = setup.objective, setup.task
        self._metric = config.metric or self._objective.metric
        self._bare_engine, self._train, self._validation = engine, rows.train, rows.validation
        self._padding, self._config, self._folder, self._plan = rows.padding, config, folder, setup.plan
        self._progress, self._accelerator = progress, accelerator
        for group in groups:
            group["initial_lr"] = group["lr"]
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, foreach=True)
        self._engine, self._optimizer = accelerator.prepare(engine, optimizer)
        self._bare_optimizer = optimizer
        optimizer.register_step_post_hook(lambda *_: engine.refresh())  # type: ignore[operator]
        self._max_tokens = setup.max_tokens
        self._checkpoints = folder / "checkpoints"
        self._log = TrainingLog(folder, tensorboard=config.tensorboard, active=accelerator.is_main_process)
        self._signs = Signs(progress, self._log)
        assert config.epochs is not None and config.batch_size is not None
        self._batch_size = config.batch_size
        self._steps_per_epoch = math.ceil(len(rows.train) / config.batch_size)
        self.total_steps = max(1, round(config.epochs * self._steps_per_epoch)) if config.epochs else 0
        self.eval_every = config.eval_every_steps or min(self._steps_per_epoch, max(1, math.ceil(self.total_steps / 4)))
        self._saved_at = time.monotonic()

    @property
    def model(self) -> torch.nn.Module:
        """The engine, which holds the model's parameters."""
        return self._bare_engine

    def run(self, until_epoch: float | None = None, look: Look | None = None, start: float = 0.0) -> TrainingResult:
        """Train to the end, starting from the newest intact checkpoint if there is one, and load the best weights.

        until_epoch: pause at the first evaluation at or after this epoch, without changing rates or evaluations.
        look: returns the validation scores before the first step, instead of `measure`. start: seconds spent before.
        Raises TrainingError (NaN, no gradient), BundleError (disk full, damaged checkpoint), RunInterrupted.
        """
        parameters = list(trainable_parameters(self.model).values())
        check_space(self._folder, estimate_bytes(parameters) * (_CHECKPOINTS_KEPT + 2))
        pause_at = math.inf if until_epoch is None else math.ceil(until_epoch * self._steps_per_epoch)
        state = load_checkpoint(self._checkpoints, self.model, self._bare_optimizer, self._plan, self._progress.warn)
        self.model.refresh()  # type: ignore[operator]
        if state is None:
            state = CheckpointState(step=0, plan=self._plan, start_seconds=start)
        else:
            self._progress.say(f"resuming at step {state.step} of {self.total_steps}")
        self._log.forget_after(state.step)
        if state.step == 0 and self._validation is not None:
            first = self.measure()[0] if look is None else look()
            self._log.write({"kind": "evaluation", "step": 0, "epoch": 0.0} | dict(first))
            if self._config.head_init == "probe" and self.total_steps:
                # The solved head competes with all later steps: where tuning is clearly worse, it is restored.
                state = replace(state, best_step=0, best_value=self._rank(first))
                self.save(state)
        if not self.total_steps and not state.finished:
            state = replace(state, finished=True)
            self.save(state)
        if state.step >= pause_at and state.step % self.eval_every == 0 and not state.finished:
            return self._finish(state, paused=True)  # already paused at this step
        self._engine.train()
        with StopRequest() as stop, self._progress.task("training", self.total_steps) as task:
            if state.step:
                task.advance(state.step)
            started_at = time.monotonic() - state.seconds
            for step, rows in self.remaining_steps(state):
                loss, norm = self.take_step(step, rows, first=step == 1)
                state = replace(
                    state,
                    step=step,
                    seconds=time.monotonic() - started_at,
                    running_loss=state.running_loss + loss * self._count(rows),
                    running_rows=state.running_rows + self._count(rows),
                )
                self._log.write(
                    {
                        "kind": "step",
                        "step": step,
                        "epoch": round(step / self._steps_per_epoch, 4),
                        "loss": loss,
                        "learning_rate": find_logged_rate(self._bare_optimizer.param_groups),
                        "gradient_norm": norm,
                    }
                )
                task.advance(1, f"loss {loss:.3f}")
                last = step == self.total_steps
                if step % self.eval_every == 0 or last:
                    state = replace(self._evaluate(state), seconds=time.monotonic() - started_at)
                    last = last or self._out_of_patience(state)
                    state = replace(state, finished=last)
                    self.save(state)
                    if step >= pause_at and not last:
                        return self._finish(state, paused=True)
                elif self._is_checkpoint_due(step) or stop.signal_number is not None:
                    self.save(state)
                if stop.signal_number is not None and not last:
                    self._stop(stop.signal_number, step)
                if last:
                    break
        return self._finish(state)

    def remaining_steps(self, state: CheckpointState) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the number and rows of each remaining step."""
        if state.finished:
            return
        step, lengths = state.step, self._train.tokens.lengths
        while step < self.total_steps:
            epoch, done = divmod(step, self._steps_per_epoch)
            for rows in plan_epoch(lengths, self._batch_size, self._config.seed, epoch)[done:]:
                if step == self.total_steps:
                    return
                step += 1
                yield step, rows

    def take_step(self, step: int, rows: NDArray[Any], *, first: bool) -> tuple[float, float]:
        """Take an optimizer step; return the mean loss of its rows and the gradient norm before clipping."""
        accelerator, config = self._accelerator, self._config
        for group in self._bare_optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._rate_factor(step)
        local_rows = rows[accelerator.process_index :: accelerator.num_processes]
        weight = 1.0 if len(local_rows) else 0.0  # a process without rows must still exchange gradients
        local_rows = local_rows if len(local_rows) else rows[:1]
        total = self._accumulate(local_rows, weight / self._count(rows))
        value = float(accelerator.reduce(total, reduction="sum"))
        if not math.isfinite(value):
            self._fail_not_finite("loss", value, step, rows)
        parameters = [p for g in self._bare_optimizer.param_groups for p in g["params"]]
        if first:  # later, a zero gradient can come from a batch that the model fits perfectly
            self._check_gradients()
        limit = config.max_grad_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        if not math.isfinite(norm):
            self._fail_not_finite("gradient", norm, step, rows)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return value, norm

    def _accumulate(self, rows: NDArray[Any], weight: float) -> torch.Tensor:
        """Accumulate the rows' gradients over micro-batches and return the loss; if memory runs out, halve them."""
        try:
            return self._run_micro_batches(rows, weight)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or self._accelerator.num_processes > 1:
                raise
        tokens = self._train.tokens
        longest = int((tokens.longest_windows * tokens.count_windows())[rows].max())
        self._max_tokens = min(self._max_tokens or MOST_TOKENS, longest * len(rows)) // 2
        if self._max_tokens < longest // 2:
            hint = "choose a smaller max_length= or max_windows=, or a smaller backbone="
            raise TrainingError(f"memory ran out on a single text of {longest} tokens", hint=hint)
        self._progress.warn(f"memory ran out: continuing with at most {self._max_tokens:,} tokens at once")
        self._optimizer.zero_grad(set_to_none=True)
        return self._accumulate(rows, weight)

    def _run_micro_batches(self, rows: NDArray[Any], weight: float) -> torch.Tensor:
        accelerator, tokens = self._accelerator, self._train.tokens
        micro_batches = split_micro_batches(
            rows,
            self._config.micro_batch_size or self._batch_size,
            tokens.count_windows(rows),
            tokens.longest_windows[rows],
            self._max_tokens,
        )
        total = torch.zeros((), device=accelerator.device)
        for i, micro_batch in enumerate(micro_batches):
            batch = self._task.collate(tokens, micro_batch, self._padding, self._train.targets)
            last = i == len(micro_batches) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self._engine):
                targets = torch.from_numpy(batch.targets).to(accelerator.device)
                loss = self._objective.loss(self._task.call_engine(self._engine, batch), targets) * weight
                # DDP averages over processes, but the loss is a sum over rows.
                accelerator.backward(loss * accelerator.num_processes)
            total += loss.detach()
        return total

    def _count(self, rows: NDArray[Any]) -> int:
        return self._objective.count(self._train.targets[rows])

    def _rate_factor(self, step: int) -> float:
        """Return the share of the peak rate at a step; steps count from 1."""
        warmup = round(self._config.warmup_fraction * self.total_steps)
        if step <= warmup:
            return step / warmup
        if self._config.schedule == "constant":
            return 1.0
        done = (step - 1 - warmup) / max(self.total_steps - warmup, 1)
        return 1.0 - done if self._config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))

    def _check_gradients(self) -> None:
        """Fail at the first step if the head or the body gets no gradient (detached graph, frozen base)."""
        groups = self._bare_optimizer.param_groups
        if not any(group["params"] for group in groups):
            raise TrainingError("nothing is trainable: every parameter is frozen", hint="choose another method=")
        for part in sorted({str(g["name"]).partition(",")[0] for g in groups}):
            parameters = [p for g in groups if str(g["name"]).startswith(part) for p in g["params"]]
            if not any(p.grad is not None and bool((p.grad != 0).any()) for p in parameters):  # NaN counts as one
                raise TrainingError(
                    f"nothing trainable in the {part} gets a gradient: {len(parameters)} tensors would never change",
                    hint="the method does not reach the loss on this backbone; choose another method=",
                )

    def _fail_not_finite(self, what: str, value: float, step: int, rows: NDArray[Any]) -> None:
        numbers = sorted(int(r) for r in self._train.source_rows[rows])
        shown = ", ".join(map(str, numbers[:16])) + (", ..." if len(numbers) > 16 else "")
        checkpoints = list_checkpoints(self._checkpoints)
        last = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there was no checkpoint yet"
        raise TrainingError(
            f"the {what} became {value} at step {step} (training rows {shown}); {last}",
            hint="try a lower learning_rate= or precision=fp32, or check those rows",
        )

    def measure(self) -> tuple[dict[str, float], NDArray[Any]]:
        """Return the scores on the validation rows, and the predictions."""
        assert self._validation is not None
        logits = predict_logits(self._bare_engine, self._validation, self._padding, self._task)
        return self._objective.score(logits, self._validation.targets)

    def _evaluate(self, state: CheckpointState) -> CheckpointState:
        line: dict[str, Any] = {
            "kind": "evaluation",
            "step": state.step,
            "epoch": round(state.step / self._steps_per_epoch, 4),
        }
        line["train_loss"] = state.running_loss / max(state.running_rows, 1)
        state = replace(state, running_loss=0.0, running_rows=0)
        if self._validation is None:
            self._log.write(line)
            return replace(state, best_step=state.step)
        scores, answers = self.measure()
        self._log.write(line | scores)
        self._progress.say(
            f"step {state.step}/{self.total_steps}: training loss {line['train_loss']:.3f}, validation loss "
            f"{scores['loss']:.3f}, {self._objective.describe(scores)}"
        )
        self._warn_if_not_learning(answers)
        self._signs.warn_if_overfitting()
        value, best = self._rank(scores), state.best_value
        if best is None or value > best:
            return replace(state, best_step=state.step, best_value=value, stale_evaluations=0)
        # The rate decays to zero, so if two checkpoints are equally good on the validation rows, the later is
        # preferred: an earlier one must lead by more than one standard error.
        error = self._objective.standard_error(scores, self._validation.targets)
        is_tie = self._metric != "loss" and value > best - error
        step = state.step if is_tie else state.best_step
        return replace(state, best_step=step, stale_evaluations=state.stale_evaluations + 1)

    def _rank(self, scores: Mapping[str, float]) -> float:
        """Return the value that ranks checkpoints, larger is better. Ties, common on few rows, go to the lower loss."""
        value = -scores["loss"] if self._metric == "loss" else scores[self._metric]
        return value - 1e-6 * min(scores["loss"], 1e3)

    def _warn_if_not_learning(self, answers: NDArray[Any]) -> None:
        assert self._validation is not None
        only_head = all(str(group["name"]).startswith("head") for group in self._bare_optimizer.param_groups)
        so_far = TrainingSoFar(
            answers,
            self._validation.targets,
            self._train.targets,
            self._log.losses,
            self._config.learning_rate or 0.0,
            trainable_layers=0 if only_head else None,
        )
        self._signs.warn("not learning", len(self._log.losses), self._objective.explain(so_far))

    def _out_of_patience(self, state: CheckpointState) -> bool:
        return self._config.patience is not None and state.stale_evaluations >= self._config.patience

    def _is_checkpoint_due(self, step: int) -> bool:
        every = self._config.checkpoint_every_steps
        if every is not None:
            return step % every == 0
        return time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS

    def save(self, state: CheckpointState) -> None:
        """Write a checkpoint and remove old ones."""
        if self._accelerator.is_main_process:
            save_checkpoint(self._checkpoints, self.model, self._bare_optimizer, state)
            remove_all_but(self._checkpoints, {state.best_step}, _CHECKPOINTS_KEPT)
        self._saved_at = time.monotonic()
        self._accelerator.wait_for_everyone()

    def _stop(self, signal_number: int, step: int) -> None:
        raise RunInterrupted(
            f"at step {step} of {self.total_steps}; checkpoint saved",
            signal_number,
            hint=f"continue it with: {show_resume(self._folder)}",
        )

    def _finish(self, state: CheckpointState, *, paused: bool = False) -> TrainingResult:
        best = self._checkpoints / f"step-{state.best_step:08d}"
        if state.best_step != state.step:
            load_trainable(best, self.model)
            self.model.refresh()  # type: ignore[operator]
        self._log.close()
        stopped_early = state.step < self.total_steps and not paused
        result = (state.step, state.best_step, state.best_value, state.seconds, stopped_early)
        return TrainingResult(*result, self.total_steps, paused, state.start_seconds)
