"""A text to write: a causal language model continues a prompt, and learns the answers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from textune.config import RunConfig, TrainingConfig, WritingConfig
from textune.config.defaults import TaskDefaults
from textune.errors import ConfigError, ModelError
from textune.evaluation import Counts, Difference, GenerationEvaluation, evaluate_generation, measure_difference
from textune.evaluation.generation import exponentiate as to_perplexity
from textune.evaluation.generation import rouge_l
from textune.evaluation.text import percent
from textune.tasks.base import Answer, FileCells, Task, Unknown
from textune.tasks.catalogue import register
from textune.tasks.objective import Objective, TrainingSoFar
from textune.tasks.shown import BASE, FREQUENT, NEAREST, TUNED
from textune.tokens.batches import Batch, Padding, collate
from textune.tokens.packed_rows import IGNORED, Ints, pack_rows, plan_tightly

if TYPE_CHECKING:
    import torch

    from textune.backbones.families import Family
    from textune.data import DataFacts, Examples, Labels
    from textune.tokens import Tokenized
    from textune.tokens.dialogues import Dialogues

Array = NDArray[Any]
WRITTEN = np.dtype([("answer", object), ("written", bool), ("endless", bool), ("loss", "f8"), ("tokens", "i8")])
"""What a model makes of a row: its answer, whether one was written at all, whether it ended at the limit, and the sum
of the losses of the expected answer's tokens."""
_FLAT = 0.01
_ENOUGH_STEPS = 30
_NOT_USED = {
    "threshold": "an answer has no threshold",
    "class_weights": "answers have no classes",
    "learn_names": "answers have no classes",
    "contrast_steps": "contrastive steps need classes",
    "head_init": "the model has no new head",
}


@register("generation")
@dataclass(frozen=True)
class Generation(Task):
    """A prompt and the answer to it. Targets in training: how many tokens of each row are learned.

    packing: whether short training rows share a row of a batch.
    """

    packing: bool = False

    problem_type: ClassVar[str] = "text_generation"
    model_class: ClassVar[str] = "AutoModelForCausalLM"
    peft_task_type: ClassVar[str] = "CAUSAL_LM"
    writes: ClassVar[bool] = True
    fewest_labels: ClassVar[int] = 1
    needs_validation: ClassVar[bool] = True
    defaults: ClassVar[TaskDefaults] = TaskDefaults(
        metric="loss",
        no_contrast=_NOT_USED["contrast_steps"],
        no_names=_NOT_USED["learn_names"],
        solves_head=False,
        most_epochs=3,
        most_tokens=2_048,
    )
    figure: ClassVar[tuple[str, str]] = ("ROUGE-L", "rouge_l")
    model_names: ClassVar[Mapping[str, str]] = {
        "frequent": FREQUENT,
        "nearest": NEAREST,
        "base": BASE,
        "tuned": TUNED,
    }
    pipeline: ClassVar[str] = "text-generation"
    hub_metrics: ClassVar[tuple[str, ...]] = ("rouge", "exact_match")
    intervals_note: ClassVar[str] = "bootstrap over rows for ROUGE-L, Wilson for the shares"

    # Data.

    def build_labels(self, examples: Examples, listed: tuple[tuple[str, str], ...] | None) -> Labels:
        """Return one label for all rows: there is nothing to tell apart."""
        from textune.data import Labels

        if listed is not None:
            raise ConfigError("labels=: answers are texts, not labels", hint="leave labels= out")
        return Labels(("answer",), ("answer",))

    def encode_targets(self, labels: Labels, examples: Examples) -> Array:
        """Return the expected answers: object [rows]."""
        answers = np.empty(len(examples), object)
        answers[:] = examples.labels() or []
        return answers

    def find_unknown(self, labels: Labels, examples: Examples) -> list[tuple[str, ...]]:
        """Return nothing: every answer can be written."""
        return [()] * len(examples)

    def count_labels(self, labels: Labels, examples: Examples) -> NDArray[np.int64]:
        """Return the number of rows."""
        return np.array([len(examples)], np.int64)

    def check_settings(self, config: TrainingConfig) -> None:
        """Raise ConfigError for settings of classifiers."""
        for name, reason in _NOT_USED.items():
            if getattr(config, name) not in (None, "random", 0):
                raise ConfigError(f"{name}=: {reason}", hint=f"leave {name}= out")
        if config.metric not in (None, "loss"):
            raise ConfigError(
                f"metric={config.metric}: checkpoints are chosen by the validation loss", hint="leave metric= out"
            )

    def check_run(self, config: RunConfig) -> None:
        """Raise ConfigError for settings of texts to classify."""
        if config.data.text_pair is not None:
            raise ConfigError("text_pair=: a prompt is one text", hint="join the two in one column")
        if config.writing.top_p is not None and not config.writing.temperature:
            raise ConfigError("top_p=: only applies where answers are sampled", hint="set temperature= as well")
        for name, value in vars(config.tokens).items():
            if name != "max_length" and value not in (None, "truncate"):
                raise ConfigError(
                    f"{name}=: a prompt that is longer than max_length loses its beginning",
                    hint=f"leave {name}= out, or raise max_length=",
                )

    def check_writing(self, writing: WritingConfig, hint: str = "leave it out") -> None:
        """Accept them all."""

    def fit_family(self, family: Family) -> Family:
        """Return the architecture without a new head; its padding stands behind the text and changes nothing."""
        if not family.decoder:
            raise ModelError(
                f"{family.name} models are encoders: they read texts and cannot write any",
                hint="name a causal language model, such as backbone=smollm2-135m",
            )
        return replace(family, head_modules=(), output=("lm_head",), guessed=False, padding_side="right")

    def open_dialogues(self, config: RunConfig, open_form: Callable[[str | None], Dialogues]) -> Dialogues | None:
        """Return the chat template, as set or that of the tokenizer."""
        return open_form(config.writing.chat_template)

    def describe_rows(self, facts: DataFacts) -> list[tuple[str, str]]:
        """Return how many answers differ."""
        different = len(facts.label_counts)
        return [("answers", f"{different:,} different ones in {facts.rows:,} rows")]

    # Training.

    def build_objective(self, config: TrainingConfig, weights: Array | None = None) -> Objective:
        """Return the cross entropy of the next token."""
        return NextToken(config.label_smoothing)

    def collate(
        self, tokens: Tokenized, rows: Sequence[int] | Array, padding: Padding, targets: Array | None = None
    ) -> Batch:
        """Return a padded batch whose targets are the tokens that follow: int64 [rows, columns].

        Training rows are packed where that is set and saves tokens; the rows of input_ids are then the packed ones.
        """
        plan = plan_tightly(tokens.lengths[rows]) if self.packing and targets is not None else None
        if plan is not None and len(plan) < len(rows):
            batch, following = _collate_packed(tokens, np.asarray(rows, np.int64), padding, plan)
        else:
            batch = collate(tokens, rows, padding)
            following = find_targets(tokens, batch)
        columns = np.flatnonzero((following != IGNORED).any(0))
        return replace(batch, targets=following[:, columns], columns=columns)

    def with_packing(self, packing: bool | None) -> Generation:
        """Return the task that packs short training rows, or does not."""
        return replace(self, packing=bool(packing))

    def sum_up(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the sum of the losses and the number of tokens of each row: float32 [rows, 2]."""
        import torch

        targets = torch.from_numpy(batch.targets).to(outputs.device)
        losses = torch.nn.functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED
        )
        return torch.stack([losses.view(targets.shape).sum(1), (targets != IGNORED).sum(1).float()], 1)

    # Prediction.

    def answer(self, probabilities: Array, labels: Sequence[str]) -> Sequence[Answer]:
        """Return the written answers; None where none was written."""
        return [row["answer"] if row["written"] else None for row in probabilities]

    def file_columns(self, answers: Sequence[Answer | None], scores: Array, form: FileCells) -> dict[str, Any]:
        """Return the answers."""
        import pyarrow as pa

        return {"answer": pa.array(answers, pa.large_string())}

    def prediction_columns(self, examples: Examples, probabilities: Array, answers: Sequence[Answer]) -> dict[str, Any]:
        """Return expected and written answers, and the loss of the expected ones."""
        import pyarrow as pa

        return {
            "label": examples.labels(),
            "predicted_label": pa.array(answers, pa.large_string()),
            "endless": probabilities["endless"],
            "loss": probabilities["loss"],
            "tokens": probabilities["tokens"],
        }

    def probability_columns(self, probabilities: Array, labels: Sequence[str]) -> dict[str, Array]:
        """Return nothing: an answer has no classes."""
        return {}

    # Figures.

    def name_rows(self, evaluation: Any, split: str) -> str:
        """Name both counts where answers were written for some of the rows and the loss is of all of them."""
        named = super().name_rows(evaluation, split)
        rows = evaluation.loss_rows
        return f"{named} with answers (loss and perplexity: {rows:,} rows)" if rows > evaluation.rows else named

    def has_figures(self, probabilities: Array) -> bool:
        """Return whether an answer was written for any of these rows."""
        return bool(probabilities["written"].any())

    def evaluate(
        self, probabilities: Array, targets: Array, labels: Sequence[str], *, seed: int, unknown: Unknown
    ) -> GenerationEvaluation:
        """Return all figures: of the loss over all rows, of the answers over those that have one.

        probabilities: `WRITTEN` [rows]. targets: the expected answers, object [rows].
        """
        some = probabilities["written"]
        with_loss = bool(np.isfinite(probabilities["loss"]).all())
        return evaluate_generation(
            [str(answer) for answer in probabilities["answer"][some]],
            [str(expected) for expected in targets[some]],
            probabilities["endless"][some],
            loss_sums=probabilities["loss"] if with_loss else None,
            tokens=probabilities["tokens"] if with_loss else None,
            seed=seed,
        )

    def read_evaluation(self, stored: Mapping[str, Any]) -> GenerationEvaluation:
        """Rebuild stored figures; raise BundleError."""
        return GenerationEvaluation.from_dict(stored)

    def compare(
        self, targets: Array, mine: Array, theirs: Array, other: Task, unknown: Unknown, seed: int
    ) -> Difference:
        """Return the lead in ROUGE-L over the rows for which both have answers."""
        both = mine["written"] & theirs["written"]
        first, second = (
            np.array([rouge_l(str(a), str(t)) for a, t in zip(rows["answer"][both], targets[both], strict=True)])
            for rows in (mine, theirs)
        )
        return measure_difference(second, first, seed=seed)

    def count_earned(self, true: Array, predicted: Sequence[Array], missed: Array) -> Counts:
        """Raise ConfigError: answers earn shares of a word, which no exact test counts."""
        raise self.refuse_comparison()

    def refuse_comparison(self) -> ConfigError:
        """Return why runs cannot be compared."""
        return ConfigError(
            "models that write answers cannot be compared yet",
            hint="each run's report compares its answers with those of the base model on the same rows",
        )

    def answer_figures(self, evaluation: Any) -> list[tuple[str, float | None]]:
        """Return loss and perplexity."""
        return [("perplexity", evaluation.perplexity), ("loss", evaluation.loss)]

    def describe_errors(self, evaluation: Any, split: str) -> str:
        """Return ROUGE-L and perplexity in one sentence."""
        lead = f"ROUGE-L is {percent(evaluation.rouge_l)} on {evaluation.rows:,} {split} rows"
        return f"{lead}; {percent(evaluation.exact_match)} of the answers are exactly as expected."

    def explain_figures(self, evaluation: Any) -> list[str]:
        """Return the perplexity and how to read ROUGE-L."""
        sentences = ["ROUGE-L is the share of words that an answer and the expected one have in common, in order."]
        if evaluation.perplexity is not None:
            spread = evaluation.intervals.get("perplexity")
            interval = "" if spread is None else f" (95% interval {spread.low:.3g} to {spread.high:.3g})"
            of_rows = f" of {evaluation.loss_rows:,} rows" if evaluation.loss_rows else ""
            sentences.insert(
                0,
                f"Perplexity of the expected answers: {evaluation.perplexity:.4g}{interval}, over "
                f"{evaluation.tokens:,} tokens{of_rows}. The log loss is in nats per token.",
            )
        return sentences

    def note_figures(self, evaluation: Any) -> list[str]:
        """Say where answers are empty or never end."""
        notes = []
        for share, what in ((evaluation.empty, "are empty"), (evaluation.endless, "did not end by themselves")):
            if share > 0.05:
                notes.append(f"{percent(share)} of the answers {what}.")
        return notes


@dataclass
class NextToken(Objective):
    """Cross entropy of the tokens that are learned, averaged over the tokens of an optimizer step."""

    label_smoothing: float = 0.0
    metric: str = "loss"

    def count(self, targets: Array) -> int:
        """Return the learned tokens of these rows. targets: int64 [rows]."""
        return max(int(targets.sum()), 1)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum over tokens. logits: [rows, columns, vocabulary]; targets: int64 [rows, columns]."""
        import torch

        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            reduction="sum",
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
        )

    def score(self, logits: Array, targets: Array) -> tuple[dict[str, float], Array]:
        """Return loss per token and perplexity. logits: float32 [rows, 2], losses and tokens of each row."""
        sums = logits.sum(0, dtype=np.float64)
        loss = float(sums[0] / max(sums[1], 1))
        return {"loss": loss, "perplexity": to_perplexity(loss)}, logits

    def explain(self, so_far: TrainingSoFar) -> str | None:
        """Compare the latest losses with the first ones."""
        losses, rate = so_far.losses, so_far.learning_rate
        if losses and not any(map(math.isfinite, losses)):
            return f"The loss is not a finite number: the learning rate ({rate:g}) is likely too high."
        if len(losses) < _ENOUGH_STEPS:
            return None
        part = len(losses) // 5
        first, recent = float(np.mean(losses[:part])), float(np.mean(losses[-part:]))
        if recent < (1 - _FLAT) * first:
            return None
        what = "rose" if recent > (1 + _FLAT) * first else "did not fall"
        cause = "too high" if recent > (1 + _FLAT) * first else "too low"
        return (
            f"The model is not learning: the training loss {what}, from {first:.3f} to {recent:.3f} in "
            f"{len(losses)} steps; the learning rate ({rate:g}) is likely {cause}."
        )


def find_targets(tokens: Tokenized, batch: Batch) -> Array:
    """Return the token that follows each token of a batch, IGNORED where that is not learned: int64 [rows, tokens]."""
    assert tokens.learned is not None
    marks = np.zeros(batch.input_ids.shape, bool)
    for i, row in enumerate(batch.rows):
        start, end = tokens.offsets[row], tokens.offsets[row + 1]
        marks[i, : end - start] = tokens.learned[start:end]
    following = np.full(marks.shape, IGNORED, np.int64)
    following[:, :-1] = np.where(marks[:, 1:], batch.input_ids[:, 1:], IGNORED)
    return following


def _collate_packed(tokens: Tokenized, rows: Array, padding: Padding, plan: Sequence[Ints]) -> tuple[Batch, Array]:
    """Return the rows as a packed batch, and the token that follows each: int64 [packed rows, tokens]."""
    assert tokens.learned is not None
    spans = [slice(tokens.offsets[row], tokens.offsets[row + 1]) for row in rows]
    ids = [tokens.ids[span].astype(np.int64) for span in spans]
    labels = [np.where(tokens.learned[span], row_ids, IGNORED) for span, row_ids in zip(spans, ids, strict=True)]
    packed = pack_rows(ids, labels, plan, padding.pad_token_id)
    following = np.full(packed.labels.shape, IGNORED, np.int64)
    following[:, :-1] = packed.labels[:, 1:]
    mask = (packed.segments > 0).astype(np.int64)
    segments, positions = packed.segments, packed.position_ids
    return Batch(packed.input_ids, mask, None, rows, position_ids=positions, segments=segments), following
