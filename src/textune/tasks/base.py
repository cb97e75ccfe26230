"""The contract of a task: what a model learns from labelled texts, and everything that follows from it.

No caller asks which task it holds: it calls the hooks below. A task is one file and one registration. torch is imported
inside the hooks, so that an exported model predicts without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from textune.config import RunConfig, TrainingConfig, WritingConfig
from textune.config.class_weights import ClassWeights
from textune.config.defaults import TaskDefaults
from textune.errors import ConfigError
from textune.evaluation import ConfidentError, Counts, Difference, ProbabilityFigures, add_before, fit_temperature
from textune.evaluation.text import percent
from textune.tasks.deciding import Deciding
from textune.tasks.objective import Objective, ProbeLoss
from textune.tasks.shown import BASE, LIKELIHOOD, MAJORITY, PROBE, TFIDF, TUNED, AnyEvaluation, AnyPrediction, Column
from textune.tokens.batches import Batch, EncodedSplit, Padding, collate

if TYPE_CHECKING:
    import torch

    from textune.backbones.families import Family
    from textune.data import DataFacts, Examples, Labels
    from textune.tokens import Tokenized
    from textune.tokens.dialogues import Dialogues

Array = NDArray[Any]
Floats = NDArray[np.float64]
Unknown = Sequence[Sequence[str]]
E = TypeVar("E", bound=AnyEvaluation)
Answer = Any
"""One label (str), labels (tuple of str), or whatever else a task answers."""


class Task(Deciding):
    """What every task inherits: a classifier by transformers' sequence classification, with one logit per label.

    targets: as `encode_targets` gives them. unknown: row by row, labels that the model does not know.
    """

    name: ClassVar[str]
    problem_type: ClassVar[str]
    """As transformers calls it."""

    # How the model is built, called and saved.
    model_class: ClassVar[str] = "AutoModelForSequenceClassification"
    """The class of transformers that loads the backbone with its head."""
    peft_task_type: ClassVar[str] = "SEQ_CLS"
    writes: ClassVar[bool] = False
    """Whether answers are texts that the model writes: it has no new head, and a row is a prompt and its answer."""

    # What the data and the settings must hold.
    reads_sets: ClassVar[bool] = False
    """Whether a row has a set of labels instead of one."""
    fewest_labels: ClassVar[int] = 2
    chooses_one: ClassVar[bool] = False
    """Whether a text has exactly one label, so that a causal model can choose it by its likelihood."""
    needs_validation: ClassVar[bool] = False
    """Whether validation rows decide more than the checkpoint, so that few rows still hold some out."""
    defaults: ClassVar[TaskDefaults] = TaskDefaults()

    # What report, card and command line show.
    figure: ClassVar[tuple[str, str]] = ("accuracy", "accuracy")
    """The first figure's name, and its key among the manifest's metrics."""
    model_names: ClassVar[Mapping[str, str]] = {
        "majority": MAJORITY,
        "tfidf": TFIDF,
        "probe": PROBE,
        "base": BASE,
        "likelihood": LIKELIHOOD,
        "tuned": TUNED,
    }
    pipeline: ClassVar[str] = "text-classification"
    """What transformers and the hub call such models."""
    hub_metrics: ClassVar[tuple[str, ...]] = ()
    class_columns: ClassVar[tuple[Column, ...]] = ()
    """Columns of the report's table of labels, after precision, recall and rows."""
    card_columns: ClassVar[tuple[Column, ...]] = ()
    intervals_note: ClassVar[str] = "Wilson for accuracy, bootstrap for F1"
    errors_note: ClassVar[str] = ""
    """Follows "wrong answers of the highest probability"."""
    unknown_counts_as: ClassVar[str] = "an error"

    @classmethod
    def open(cls, thresholds: tuple[float, ...] | None = None, fixed: float | None = None) -> Task:
        """Return the task. thresholds: of a manifest. fixed: one threshold for all labels, so that none is tuned."""
        return cls()

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The probability from which each label is given; None where a text has one label."""
        return None

    @property
    def temperature(self) -> float | None:
        """By which the logits of the probabilities were divided; None where that is not known."""
        return None

    def with_temperature(self, temperature: float | None) -> Task:
        """Return the task for probabilities of logits divided by the temperature: `evaluate` then measures both."""
        return self

    @property
    def tunes(self) -> bool:
        """Whether `tune` has anything to choose on validation rows."""
        return False

    # Data: rows, labels and targets.

    def build_labels(self, examples: Examples, listed: tuple[tuple[str, str], ...] | None) -> Labels:
        """Return the labels of all training rows in order. listed: (value, name) pairs of the person."""
        from textune.data import build_labels

        return build_labels([label for labels in examples.label_sets() for label in labels], listed)

    def encode_targets(self, labels: Labels, examples: Examples) -> Array:
        """Return what a model learns: int64 [rows] or float32 [rows, labels]."""
        return labels.encode_examples(examples)

    def find_unknown(self, labels: Labels, examples: Examples) -> list[tuple[str, ...]]:
        """Return, row by row, labels that the model does not know."""
        return labels.find_unknown(examples)

    def count_labels(self, labels: Labels, examples: Examples) -> NDArray[np.int64]:
        """Return the rows of each label: int64 [labels]."""
        return np.asarray(labels.encode_sets(examples.label_sets()).sum(axis=0, dtype=np.int64))

    def check_training_rows(self, labels: Labels, train: Examples, source: str) -> list[str]:
        """Return warnings about the training rows; raise DataError where nothing can be learned from them."""
        return []

    def check_settings(self, config: TrainingConfig) -> None:
        """Raise ConfigError for a setting that makes no sense for the task."""
        if config.threshold is not None:
            raise ConfigError(
                f"threshold={config.threshold:g}: with one label per text the most probable is given",
                hint="leave threshold= out, or set task=multi_label",
            )

    def check_run(self, config: RunConfig) -> None:
        """Raise ConfigError for a setting outside training that makes no sense for the task."""
        self.check_writing(config.writing, hint="leave it out, or set task=generation")

    def check_writing(self, writing: WritingConfig, hint: str = "leave it out") -> None:
        """Raise ConfigError for a setting of written answers where the task gives labels."""
        if named := [name for name, value in vars(writing).items() if value is not None]:
            raise ConfigError(f"{named[0]}=: only applies to a task that writes answers", hint=hint)

    def fit_family(self, family: Family) -> Family:
        """Return what is known of the architecture with the output that this task trains; raise ModelError."""
        return family

    def open_dialogues(self, config: RunConfig, open_form: Callable[[str | None], Dialogues]) -> Dialogues | None:
        """Return how rows become prompts and answers; None where a row is a text to classify."""
        return None

    def total_labels(self, facts: DataFacts) -> int:
        """Return what the rows of each label are a share of."""
        return sum(facts.label_counts.values())

    def describe_rows(self, facts: DataFacts) -> list[tuple[str, str]]:
        """Return facts about the rows' labels beyond their balance."""
        return []

    # Training.

    def build_objective(self, config: TrainingConfig, weights: Array | None = None) -> Objective:
        """Return loss and validation scores; weights: as `weigh` gives them."""
        raise NotImplementedError

    def probe_loss(self, weights: Array | None, smoothing: float) -> ProbeLoss:
        """Return what a solved head minimizes; needed where `defaults.solves_head` is true."""
        raise NotImplementedError

    def weigh(
        self, setting: ClassWeights | None, counts: Array, rows: int, labels: Labels
    ) -> NDArray[np.float32] | None:
        """Return how much each label counts in the loss, or None where all count alike."""
        if setting is not None:
            raise ConfigError(f"class_weights: the task {self.name} has no classes", hint="leave class_weights= out")
        return None

    def collate(
        self, tokens: Tokenized, rows: Sequence[int] | Array, padding: Padding, targets: Array | None = None
    ) -> Batch:
        """Return one padded batch. targets: of training rows, where a batch may be packed; None: of other rows."""
        return collate(tokens, rows, padding, targets)

    def with_packing(self, packing: bool | None) -> Task:
        """Return the task that packs short training rows, or does not."""
        return self

    def call_engine(self, engine: Any, batch: Batch) -> Any:
        """Return what the loss is computed from: logits, float32 [rows, classes]."""
        return engine(batch)

    def sum_up(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return what validation rows are scored by, float32 [rows, columns]. outputs: as of `call_engine`."""
        return outputs

    # Prediction.

    def predict(self, run: Callable[[EncodedSplit], Array], split: EncodedSplit) -> Array:
        """Return the outputs for every row. run: passes a split through the engine, float32 [rows, classes]."""
        return run(split)

    def fit_temperature(self, logits: Array, targets: Array) -> float:
        """Return the number by which logits are divided."""
        return fit_temperature(logits, targets)

    def probabilities(self, logits: Array) -> Floats:
        """Return probabilities, float64 [rows, labels]."""
        raise NotImplementedError

    def log_odds(self, logits: torch.Tensor, label: int) -> torch.Tensor:
        """Return log(p / (1 - p)) of a label's probability p: [rows]. Explanations attribute it to words."""
        raise NotImplementedError

    def decide(self, probabilities: Array) -> NDArray[np.bool_]:
        """Return which labels each row is given: bool [rows, labels]. A task without it has answers of another kind."""
        raise NotImplementedError

    @property
    def gives_labels(self) -> bool:
        """Whether answers are labels, so that errors can be analysed by class and by groups of rows."""
        return type(self).decide is not Task.decide

    def answer(self, probabilities: Array, labels: Sequence[str]) -> Sequence[Answer]:
        """Return the answer for each row."""
        raise NotImplementedError

    def classify(self, probabilities: Array, labels: Sequence[str]) -> Sequence[AnyPrediction]:
        """Return the answer for each row, with all its probabilities."""
        raise NotImplementedError

    def labels_in(self, answer: Answer) -> tuple[str, ...]:
        """Return the labels that an answer gives."""
        return ()

    def file_columns(self, answers: Sequence[Answer | None], scores: Array, form: FileCells) -> dict[str, Any]:
        """Return the columns that a predicted file gets; an answer is None where there was no text."""
        raise NotImplementedError

    def prediction_columns(self, examples: Examples, probabilities: Array, answers: Sequence[Answer]) -> dict[str, Any]:
        """Return the columns of true and predicted labels in predictions.parquet."""
        raise NotImplementedError

    def probability_columns(self, probabilities: Array, labels: Sequence[str]) -> dict[str, Array]:
        """Return a column for every label: float64 [rows] each."""
        return {f"probability_{name}": probabilities[:, i] for i, name in enumerate(labels)}

    def format_value(self, value: float) -> str:
        """Return a probability as the command line prints it."""
        return f"{value:.1%}"

    def tune(self, predict: Callable[[], Array], targets: Array) -> Task:
        """Return the task with what is left to choose chosen on held-out rows, of which there may be none.

        predict: gives the probabilities of those rows, and is called only where they matter.
        """
        return self

    def untuned(self, labels: int) -> Task:
        """Return the task with plain values for what `tune` would choose."""
        return self

    # Figures.

    def name_rows(self, evaluation: Any, split: str) -> str:
        """Return how many rows the figures are measured on. split: which part of the data they are."""
        return f"{evaluation.rows:,} {split} rows"

    def has_figures(self, probabilities: Array) -> bool:
        """Return whether these rows suffice for figures."""
        return True

    def evaluate(
        self, probabilities: Array, targets: Array, labels: Sequence[str], *, seed: int, unknown: Unknown
    ) -> AnyEvaluation:
        """Return all figures."""
        raise NotImplementedError

    def add_before(self, evaluation: E, probabilities: Array, targets: Array, seed: int) -> E:
        """Return an evaluation of this task with figures before the temperature and with curves, where it is known."""
        figures = self.probability_figures(evaluation)
        if figures is None or self.temperature is None:
            return evaluation
        with_before = add_before(figures, probabilities, targets, self.temperature, seed=seed)
        changed: E = replace(cast(Any, evaluation), probability_figures=with_before)
        return changed

    def probability_figures(self, evaluation: Any) -> ProbabilityFigures | None:
        """Return calibration and ranking of the probabilities; None where the task or older figures have none."""
        figures: ProbabilityFigures | None = getattr(evaluation, "probability_figures", None)
        return figures

    def answer_figures(self, evaluation: Any) -> list[tuple[str, float | None]]:
        """Return further figures of the answers, with their names; None where one is undefined."""
        return [("Matthews correlation", evaluation.mcc)]

    def read_evaluation(self, stored: Mapping[str, Any]) -> AnyEvaluation:
        """Rebuild the figures that `to_dict` returned; raise BundleError."""
        raise NotImplementedError

    def compare(
        self, targets: Array, mine: Array, theirs: Array, other: Task, unknown: Unknown, seed: int
    ) -> Difference | None:
        """Return the lead in the first figure over another model's probabilities on the same rows.

        None: the report takes it from the two intervals.
        """
        return None

    def count_earned(self, true: Array, predicted: Sequence[Array], missed: Array) -> Counts:
        """Return what each model's answers earned of the first figure.

        true, predicted: bool [rows, labels]. missed: int64 [rows], labels that the model does not know.
        """
        raise ConfigError(f"models of the task {self.name} cannot be compared row by row")

    def refuse_comparison(self) -> ConfigError | None:
        """Return why runs of this task cannot be compared at all, before their rows are read; None if they can."""
        return None

    def predict_majority(self, train_targets: Array, rows: int, classes: int) -> tuple[Task, Floats]:
        """Return the most frequent answer's probabilities, and the task that gives it."""
        raise NotImplementedError

    def predict_tfidf(
        self, train_texts: Sequence[str], train_targets: Array, texts: Sequence[str], classes: int, seed: int
    ) -> Floats:
        """Return the probabilities of a linear model on TF-IDF."""
        raise NotImplementedError

    def find_errors(
        self, probabilities: Array, targets: Array, labels: Sequence[str], rows: EvaluatedRows, count: int = 20
    ) -> list[ConfidentError]:
        """Return the wrong answers that the model was most confident of."""
        return []

    def describe_errors(self, evaluation: Any, split: str) -> str:
        """Return how many rows are wrong, and what most of them are, in one sentence. split: test or validation."""
        first = evaluation.headline
        return (
            f"{first.name[:1].upper()}{first.name[1:]} is {percent(first.value)} on {evaluation.rows:,} {split} rows."
        )

    def count_confusions(self, evaluation: Any, count: int = 10) -> list[tuple[str, str, int]] | None:
        """Return the most frequent confusions (true, predicted, rows); None where labels are not confused."""
        return None

    def explain_figures(self, evaluation: Any) -> list[str]:
        """Return sentences below the report's comparison."""
        return []

    def note_figures(self, evaluation: Any) -> list[str]:
        """Return what a reader must know to trust the intervals."""
        return []


@dataclass(frozen=True)
class FileCells:
    """How a predicted file writes answers. separator: between the labels of a cell; None: the format keeps lists."""

    labels: Sequence[str]
    separator: str | None = None


@dataclass(frozen=True)
class EvaluatedRows:
    """The rows behind figures. numbers: int64 [rows], of the source. unknown: labels that the model does not know."""

    texts: Sequence[str]
    numbers: Array
    unknown: Unknown = ()
