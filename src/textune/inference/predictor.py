"""Bundle -> Predictor: the single path by which a saved run classifies texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from textune.backbones.pooling import Pooling
from textune.bundle import AnyRun, BaseModel, Manifest, find_run, read_manifest
from textune.errors import BundleError, ConfigError, DataError, ModelError, flag, suggest
from textune.files import read_json
from textune.inference.generation import Generator, Written
from textune.inference.texts import list_pairs, list_texts
from textune.tasks import AnyPrediction, task_of
from textune.tokens import Tokenized, encode_texts, load_tokenizer
from textune.tokens.batches import EncodedSplit, Padding
from textune.tokens.dialogues import PLAIN, open_dialogues

if TYPE_CHECKING:
    import torch

    from textune.backbones import Backbone
    from textune.data import Examples
    from textune.engine import Engine, OnnxEngine

_TEXTS_PER_CHUNK = 10_000
_CHOICES = {
    "device": ("auto", "cpu", "cuda", "mps"),
    "precision": ("auto", "fp32", "bf16"),
    "engine": ("auto", "lean", "reference"),
}


@dataclass(frozen=True)
class LoadOptions:
    """How a bundle is loaded; the fields are the arguments of `Predictor.load`."""

    backbone: str | None = None
    device: str = "auto"
    precision: str = "auto"
    trust: str | None = None
    merge: bool | None = None
    engine: str = "auto"


class Predictor:
    """Classifies texts with a saved run. Make one by `Predictor.load`."""

    def __init__(self, manifest: Manifest, engine: Engine | OnnxEngine, tokenizer: Any, padding: Padding) -> None:
        self.manifest = manifest
        self.labels = manifest.labels
        self.task = task_of(manifest)
        self.padding = padding
        self.equal_lengths = False
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
        Raises BundleError or ModelError; ConfigError where the backbone is not that of the run.
        """
        folder = find_run(run)
        manifest = read_manifest(folder, verify=False)
        for name, value in (("device", device), ("precision", precision), ("engine", engine)):
            if value not in _CHOICES[name]:
                raise ConfigError(
                    f"{name}={value}: must be one of {', '.join(_CHOICES[name])}{suggest(str(value), _CHOICES[name])}"
                )
        if manifest.exported:
            if backbone is not None:
                raise ConfigError(
                    f"backbone={backbone}: {folder} is an export, which holds its whole model",
                    hint="leave backbone= out",
                )
            return cls._load_exported(folder, manifest, device, precision)
        options = LoadOptions(backbone, device, precision, trust, merge, engine)
        return cls.from_manifest(folder, read_manifest(folder), options)

    @classmethod
    def from_manifest(cls, folder: Path, manifest: Manifest, options: LoadOptions) -> Predictor:
        """Like `load`, with a manifest that was read and checked already, or is not written yet."""
        import torch

        from textune.backbones import load_classifier
        from textune.engine import open_engine, probe_precision
        from textune.methods import resolve_saved

        place = choose_device(options.device)
        found = find_backbone(manifest.base_model, options.backbone, options.trust)
        _refuse_other_config(folder, found)
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

        return cls(manifest, OnnxEngine(folder, equal_lengths=equal_lengths), load_tokenizer(folder), padding)

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

    def encode(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> Tokenized:
        """Tokenize texts as in training; raise DataError for what is no text."""
        return self._encode(*self._list(texts, pairs))

    def _encode(self, first: list[str], second: list[str] | None) -> Tokenized:
        return encode_texts(self._tokenizer, first, second, self.manifest.max_length, self.manifest.long_text)

    def _list(self, texts: Iterable[str], pairs: Iterable[str] | None) -> tuple[list[str], list[str] | None]:
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

        first, second = self._list(texts, pairs)
        if self.generator is not None:
            return self.generator.predict_next(first)

        def run(split: EncodedSplit) -> NDArray[Any]:
            return predict_logits(self._engine, split, self.padding)

        chunks = [np.zeros((0, len(self.labels)), np.float32)]
        for begin in range(0, len(first), _TEXTS_PER_CHUNK):
            end = begin + _TEXTS_PER_CHUNK
            tokens = self._encode(first[begin:end], None if second is None else second[begin:end])
            nothing = np.full(len(tokens), -1)
            chunks.append(self.task.predict(run, EncodedSplit(tokens, nothing, nothing)))
        return np.concatenate(chunks)

    def predict_proba(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> NDArray[Any]:
        """Return probabilities: float64 [texts, labels], or float64 [labels] for one string.

        Those of a text sum to 1 where it has one label.
        """
        if self.generator is not None:
            raise ConfigError(
                "this model writes answers and gives no probabilities of labels", hint="use predict or generate"
            )
        probabilities = self._predict_proba(texts, pairs)
        return probabilities[0] if isinstance(texts, str) else probabilities

    def _predict_proba(self, texts: Iterable[str], pairs: Iterable[str] | None) -> NDArray[Any]:
        return self.task.probabilities(self._predict_logits(texts, pairs) / self.manifest.temperature)

    @overload
    def predict(self, texts: str, pairs: str | None = None) -> Any: ...
    @overload
    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> list[Any]: ...
    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> Any:
        """Return a list with the label of each text, or the label of one string.

        A label is the most probable one (str); with several labels per text all that reach their thresholds (tuple of
        str, which may be empty). A model that writes gives the text of its answer.
        """
        if self.generator is not None:
            written = [each.text for each in self.generate(texts)]
            return written[0] if isinstance(texts, str) else written
        answers = list(self.task.answer(self._predict_proba(texts, pairs), self.labels))
        return answers[0] if isinstance(texts, str) else answers

    @overload
    def classify(self, texts: str, pairs: str | None = None) -> AnyPrediction: ...  # type: ignore[overload-overlap]
    @overload
    def classify(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> Sequence[AnyPrediction]: ...
    def classify(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> Any:
        """Return label, or labels, and probabilities of each text, or of one string."""
        if self.generator is not None:
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
        first, _ = self._list(prompts, None)
        if on_text is not None and len(first) != 1:
            raise ConfigError(f"on_text: follows one answer, and there are {len(first)} prompts")
        changed = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
        return self.generator.write(first, self.generator.sampling.with_settings(**changed), on_text)

    def answer_texts(self, texts: list[str], pairs: list[str] | None) -> tuple[Sequence[Any], NDArray[Any]]:
        """Return the answer to each text, and the probabilities: float64 [texts, labels], NaN where a model writes."""
        if self.generator is not None:
            return [each.text for each in self.generate(texts)], np.full((len(texts), len(self.labels)), np.nan)
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


def find_backbone(base: BaseModel, backbone: str | None, trust: str | None) -> Backbone:
    """Find the base model of a bundle and check its hash; raise ModelError that says how to name it.

    backbone: where the caller says it is; ConfigError for another model.
    """
    from textune.backbones import recall_local, resolve_backbone, resolve_same

    if backbone is not None:
        return resolve_same(backbone, base.id, base.sha256, trust=trust)
    if not base.local:
        return resolve_backbone(base.id, trust=trust, sha256=base.sha256)
    folder = recall_local(base.sha256)
    if folder is None:
        raise ModelError(
            f"the run's base model '{base.id}' was a local folder that this machine does not know",
            hint="say where it is: backbone=FOLDER",
        )
    return resolve_backbone(folder, trust=folder if trust == base.id else trust, sha256=base.sha256)


def _refuse_other_config(folder: Path, backbone: Backbone) -> None:
    """Raise ModelError where the backbone's config.json is not the one that is stored in the bundle."""
    from textune.backbones.checks import refuse_other_config

    stored = folder / "backbone" / "config.json"
    if stored.is_file():
        refuse_other_config(backbone.id, read_json(stored, "the base model's config"), backbone.config)


def choose_device(device: str) -> torch.device:
    """Return the device for inference; raise ModelError if it is not available."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, is_available in available.items() if is_available))
    if not available.get(device, False):
        raise ModelError(f"device={device}: not available here", hint="leave device out, or choose cpu")
    return torch.device(device)
