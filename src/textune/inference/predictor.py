"""Bundle -> Predictor: the single path by which a saved run classifies texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from textune.backbones.pooling import Pooling
from textune.bundle import AnyRun, Manifest, find_run, read_manifest
from textune.errors import BundleError, ConfigError, DataError, ModelError, flag
from textune.inference.choices import Choices, Decided, decide_rows, find_abstained, list_sets, read_choices, read_share
from textune.inference.loading import LoadOptions, check_choices, choose_device, find_backbone
from textune.inference.long_texts import LongTexts
from textune.inference.texts import list_pairs, list_texts, refuse_pairs
from textune.tasks import AnyPrediction, task_of
from textune.tokens import Tokenized, encode_texts, load_tokenizer
from textune.tokens.batches import EncodedSplit, Padding

if TYPE_CHECKING:
    import torch

    from textune.backbones import Backbone
    from textune.data import Examples
    from textune.engine import Engine, OnnxEngine, ReferenceEngine
    from textune.inference.generation import Generator, Written

_TEXTS_PER_CHUNK = 10_000


class Predictor:
    """Classifies texts with a saved run. Make one by `Predictor.load`."""

    def __init__(self, manifest: Manifest, engine: Engine | OnnxEngine, tokenizer: Any, padding: Padding) -> None:
        self.manifest = manifest
        self.labels = manifest.labels
        self.task = task_of(manifest)
        self.padding = padding
        self.equal_lengths = False
        self.long_texts = LongTexts(manifest.max_length, manifest.long_text)
        self.generator: Generator | None = None
        self._engine: Any = engine
        self._tokenizer = tokenizer

    def __repr__(self) -> str:
        form = self.manifest.exported.get("form")
        base = self.manifest.base_model.id
        return f"Predictor({form or self.manifest.method} on {base}, {len(self.labels)} labels, {self.precision})"

    def __str__(self) -> str:
        """Return what it classifies into and how, in a few lines."""
        more = ", ..." if len(self.labels) > 8 else ""
        labels = "" if self.manifest.writing else f"\nlabels: {', '.join(self.labels[:8])}{more}"
        return (
            f"{self.manifest.exported.get('form') or self.manifest.method} on {self.manifest.base_model.id}, "
            f"{self.precision}\ntask: {self.manifest.task}, texts of at most {self.manifest.max_length} tokens"
            f"{labels}"
        )

    @classmethod
    def load(
        cls,
        run: AnyRun,
        *,
        backbone: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        trust: str | None = None,
        merge: bool | None = None,
        engine: str = "auto",
    ) -> Predictor:
        """Load a bundle, or a folder exported to ONNX, after checking its hashes.

        run: a folder, a `Run`, or the name of a run in the folder `runs`.
        backbone: where the base model is, if it was a local folder that this machine does not know.
        precision: "auto" (a probe decides), "fp32" or "bf16". merge: add the adapter into the weights, which is
        faster; None: unless the weights are 4-bit ones, which would no longer save memory. engine: "auto", "lean" or
        "reference".
        Raises BundleError or ModelError; ConfigError for another backbone, and for options that exports do not take.
        """
        folder = find_run(run)
        manifest = read_manifest(folder, verify=False)
        check_choices(device=device, precision=precision, engine=engine)
        options = LoadOptions(backbone, device, precision, trust, merge, engine)
        if manifest.exported:
            for name in ("backbone", "trust", "merge", "engine"):
                if (value := getattr(options, name)) != getattr(LoadOptions, name):
                    raise ConfigError(
                        f"{name}={value}: {folder} is an export, which holds its whole model",
                        hint=f"leave {name}= out",
                    )
            return cls._load_exported(folder, manifest, device, precision)
        return cls.from_manifest(folder, read_manifest(folder), options)

    @classmethod
    def from_manifest(cls, folder: Path, manifest: Manifest, options: LoadOptions) -> Predictor:
        """Like `load`, with a manifest that was read and checked already, or is not written yet."""
        import torch

        from textune.backbones import load_classifier
        from textune.engine import open_engine, probe_precision
        from textune.methods import resolve_saved

        place = choose_device(options.device)
        found = find_backbone(folder, manifest.base_model, options.backbone, options.trust)
        task = task_of(manifest)
        found = replace(found, family=task.fit_family(found.family))
        method = resolve_saved(manifest.method, manifest.method_options).for_task(task)
        with torch.random.fork_rng(devices=[]):  # the head's first weights are overwritten at once
            pooling = None if manifest.pooling is None else Pooling(manifest.pooling, method.tokens_before_text)
            model, new_modules = load_classifier(
                found,
                () if task.writes else manifest.labels,
                load_kwargs=method.load_kwargs(found.family),
                pooling=pooling,
                model_class=task.model_class,
                random_weights=manifest.new_modules,
            )
            model = method.apply(model, found.family, new_modules)
        method.load_weights(model, folder)
        model.eval().requires_grad_(False)
        if method.mergeable and (method.merged_to_predict if options.merge is None else options.merge):
            model = method.merge(model)
        opened, _ = open_engine(
            model.to(place),
            probe_precision(options.precision, place),
            found.family,
            equal_lengths=method.needs_equal_lengths(found.family),
            wanted=options.engine,
        )
        made = cls.from_engine(folder, manifest, opened.eval(), found)
        made.equal_lengths = method.needs_equal_lengths(found.family)
        return made

    @classmethod
    def from_engine(cls, folder: Path, manifest: Manifest, engine: Engine, backbone: Backbone) -> Predictor:
        """Return the predictor of a model that is loaded already. folder: of the run, which has its tokenizer."""
        made = cls(manifest, engine, load_tokenizer(folder), backbone.padding)
        if made.task.writes:
            from textune.inference.generation import Generator
            from textune.tokens.dialogues import PLAIN, open_dialogues

            stored = manifest.writing
            dialogues = open_dialogues(
                folder, made._tokenizer, stored.get("stop_token_ids") or (), stored.get("chat_template") or PLAIN
            )
            made.generator = Generator(manifest, engine, dialogues, backbone.padding, made.task, backbone.max_positions)
        return made

    @classmethod
    def _load_exported(cls, folder: Path, manifest: Manifest, device: str, precision: str) -> Predictor:
        """Open an ONNX folder; torch and transformers stay out of it.

        The hashes are checked while onnxruntime reads the graph, which is half of the time to the first label.
        """
        from concurrent.futures import ThreadPoolExecutor

        form = manifest.exported.get("form")
        if device not in ("auto", "cpu"):
            raise ModelError(
                f"{folder}: an exported model runs on the CPU, not on {device}", hint=f"leave {flag('device', '')} out"
            )
        if precision == "bf16":
            raise ModelError(
                f"{folder}: this is an {form} model, whose arithmetic is fixed", hint="leave precision= out"
            )
        try:
            padding = Padding(**manifest.exported["padding"])
        except (KeyError, TypeError) as error:
            raise BundleError(f"{folder}: the manifest says nothing that fits about padding") from error
        equal_lengths = bool(manifest.exported.get("equal_lengths"))
        with ThreadPoolExecutor(1) as beside:
            checked = beside.submit(read_manifest, folder)
            try:
                made = cls._open_exported(folder, manifest, padding, equal_lengths)
            finally:
                checked.result()  # an altered file is the cause of whatever else went wrong
        made.equal_lengths = equal_lengths
        return made

    @classmethod
    def _open_exported(cls, folder: Path, manifest: Manifest, padding: Padding, equal_lengths: bool) -> Predictor:
        from textune.engine import OnnxEngine

        one_by_one = (manifest.exported or {}).get("form") == "onnx-int8"
        engine = OnnxEngine(folder, equal_lengths=equal_lengths, one_by_one=one_by_one)
        return cls(manifest, engine, load_tokenizer(folder), padding)

    @property
    def precision(self) -> str:
        """The arithmetic of the matrix products: "fp32", "bf16" or "int8"."""
        if self.manifest.exported:
            return "int8" if self.manifest.exported["form"] == "onnx-int8" else "fp32"
        return str(self._engine.precision.name)

    @property
    def model(self) -> torch.nn.Module:
        """The Hugging Face model inside; raises ModelError where it was exported to ONNX."""
        if self.manifest.exported:
            raise ModelError("an exported model is a graph without a Hugging Face model inside", hint="load its run")
        model: torch.nn.Module = self._engine.model
        return model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the tokenizers library; `encode` sets its truncation."""
        return self._tokenizer

    def open_reference(self) -> ReferenceEngine:
        """Return an engine in fp32 over the Hugging Face model itself, through which gradients flow to the input.

        Raises ModelError where the model was exported to ONNX.
        """
        from textune.engine import Precision, ReferenceEngine

        engine = ReferenceEngine(self.model, Precision("fp32", "as set"), equal_lengths=self.equal_lengths)
        return engine.eval()

    def encode(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> Tokenized:
        """Tokenize texts as in training; raise DataError for what is no text."""
        return self._encode(*self.list_texts(texts, pairs))

    def _encode(self, first: list[str], second: list[str] | None) -> Tokenized:
        return encode_texts(self._tokenizer, first, second, self.manifest.max_length, self.manifest.long_text)

    def list_texts(self, texts: Iterable[str], pairs: Iterable[str] | None) -> tuple[list[str], list[str] | None]:
        """Return texts and second texts as lists in the order they came in, checked."""
        first = list_texts(texts)
        second = list_pairs(first, pairs)
        if self.manifest.columns.text_pair is not None and second is None:
            raise DataError("this model classifies pairs of texts; the second texts are missing")
        if self.manifest.columns.text_pair is None and second is not None:
            raise DataError(
                "this model classifies single texts, but second texts are given",
                hint="leave them out, or train with text_pair=COLUMN",
            )
        return first, second

    def predict_logits(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> NDArray[Any]:
        """Return logits before the temperature: float32 [texts, labels]; float32 [labels] for one string.

        Of a model that writes, those of the answers' first tokens: float32 [prompts, vocabulary].

        texts: a list, array, Series or other iterable of strings; answers are in its order. Or one string.
        pairs: the second texts, in the same form, for a model of pairs.
        Raises DataError for tables, missing and empty texts, and pairs of another length.
        """
        logits = self._predict_logits(texts, pairs)
        return logits[0] if isinstance(texts, str) else logits

    def _predict_logits(self, texts: Iterable[str], pairs: Iterable[str] | None) -> NDArray[Any]:
        from textune.engine import predict_logits

        first, second = self.list_texts(texts, pairs)
        if self.generator is not None:
            return self.generator.predict_next(first)

        chunks = [np.zeros((0, len(self.labels)), np.float32)]
        for begin in range(0, len(first), _TEXTS_PER_CHUNK):
            end = begin + _TEXTS_PER_CHUNK
            tokens = self._encode(first[begin:end], None if second is None else second[begin:end])
            self.long_texts.add(tokens)
            nothing = np.full(len(tokens), -1)
            split = EncodedSplit(tokens, nothing, nothing)
            chunks.append(self.task.predict(lambda part: predict_logits(self._engine, part, self.padding), split))
        return np.concatenate(chunks)

    def predict_proba(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> NDArray[Any]:
        """Return probabilities: float64 [texts, labels], or float64 [labels] for one string.

        Those of a text sum to 1 where it has one label.
        """
        if self.generator is not None:
            raise ConfigError("this model writes answers and gives no probabilities", hint="use predict or generate")
        probabilities = self._predict_proba(texts, pairs)
        return probabilities[0] if isinstance(texts, str) else probabilities

    def _predict_proba(self, texts: Iterable[str], pairs: Iterable[str] | None) -> NDArray[Any]:
        return self.task.probabilities(self._predict_logits(texts, pairs) / self.manifest.temperature)

    @overload
    def predict(
        self, texts: str, pairs: str | None = None, *, abstain: float | bool | None = None, sets: Any = None
    ) -> Any: ...
    @overload
    def predict(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        *,
        abstain: float | bool | None = None,
        sets: float | bool | None = None,
    ) -> list[Any]: ...
    def predict(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        *,
        abstain: float | bool | None = None,
        sets: float | bool | None = None,
    ) -> Any:
        """Return a list with the label of each text, or the label of one string.

        A label is the most probable one (str), or what the run's threshold or costs decide; with several labels per
        text all that reach their thresholds (tuple of str, which may be empty). A model that writes gives the text of
        its answer.
        abstain: None instead of an answer below this confidence; True: the run's own (abstain_for=).
        sets: a tuple of labels instead of each answer, as `predict_sets` returns it.
        Raises ConfigError where the run has no such confidence or coverage.
        """
        choices = read_choices(self.task, abstain, sets)
        if self.generator is not None:
            refuse_pairs(pairs)
            written = [each.text for each in self.generate(texts)]
            return written[0] if isinstance(texts, str) else written
        probabilities = self._predict_proba(texts, pairs)
        listed = list_sets(self.task, probabilities, self.labels, choices)
        answers = list(self.task.answer(probabilities, self.labels)) if listed is None else list[Any](listed)
        abstained = find_abstained(self.task, probabilities, choices)
        if abstained is not None:
            answers = [None if left_out else answer for answer, left_out in zip(answers, abstained, strict=True)]
        return answers[0] if isinstance(texts, str) else answers

    def predict_sets(
        self, texts: Iterable[str], pairs: Iterable[str] | None = None, *, coverage: float | None = None
    ) -> Any:
        """Return the prediction set of each text, or of one string: a tuple of labels, most probable first.

        The true label (each true label, with several per text) is in its set with a probability of `coverage`, on
        texts like the held-out rows of training; default: the run's set_coverage.
        Raises ConfigError where the run has no such coverage.
        """
        return self.predict(texts, pairs, sets=True if coverage is None else read_share("coverage", coverage))

    def decide(self, texts: Iterable[str], choices: Choices) -> list[Decided]:
        """Return each text's prediction with whether it is abstained from, and its set, as `read_choices` has it."""
        return decide_rows(self.task, self._predict_proba(texts, None), self.labels, choices)

    @overload
    def classify(self, texts: str, pairs: str | None = None) -> AnyPrediction: ...  # type: ignore[overload-overlap]
    @overload
    def classify(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> Sequence[AnyPrediction]: ...
    def classify(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> Any:
        """Return label, or labels, and probabilities of each text, or of one string."""
        if self.generator is not None:
            refuse_pairs(pairs)
            answers = self.generate(texts)
            return answers[0] if isinstance(texts, str) else answers
        predictions = self.task.classify(self._predict_proba(texts, pairs), self.labels)
        return predictions[0] if isinstance(texts, str) else predictions

    def generate(
        self,
        prompts: Iterable[str],
        *,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> list[Written]:
        """Return the answer to each prompt: its text, its tokens, and whether the limit ended it.

        prompts: texts, or chats as JSON lists of {role, content}. temperature: 0 takes the most likely token each time;
        default: as the run was trained. on_text: called with each new piece of the answer to a single prompt.
        Raises ConfigError for a model that classifies.
        """
        if self.generator is None:
            raise ConfigError("this model classifies texts and writes none", hint="use predict or predict_proba")
        first = list_texts(prompts, "prompt")
        if on_text is not None and len(first) != 1:
            raise ConfigError(f"on_text: follows one answer, and there are {len(first)} prompts")
        changed = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
        return self.generator.write(first, self.generator.sampling.choose(**changed), on_text)

    def answer_texts(self, texts: list[str], pairs: list[str] | None, start: int) -> tuple[Sequence[Any], NDArray[Any]]:
        """Return the answer to each text, and the probabilities: float64 [texts, labels], NaN where a model writes."""
        if self.generator is not None:
            shape = len(texts), len(self.labels)
            return [each.text for each in self.generator.write(texts, start=start)], np.full(shape, np.nan)
        scores = self.predict_proba(texts, pairs)
        return self.task.answer(scores, self.labels), scores

    def answer_examples(self, examples: Examples) -> NDArray[Any]:
        """Return what figures are computed from: probabilities, or the answers and losses of a model that writes."""
        if self.generator is not None:
            return self.generator.answer(examples)
        return self.predict_proba(examples.texts(), examples.text_pairs())


def load(run: AnyRun, **options: Any) -> Predictor:
    """Load a finished run, or an exported folder, for prediction; options as for `Predictor.load`.

    run: a folder, a `Run`, or the name of a run in the folder `runs`.
    """
    return Predictor.load(run, **options)
