"""Classification without tuning: the label that a causal model finds most likely after the text."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from textune.backbones import Backbone, load_classifier, resolve_backbone
from textune.bundle import BaseModel, Manifest, TextColumns
from textune.bundle.manifest import ZERO_SHOT
from textune.errors import ConfigError, DataError, ModelError
from textune.inference.loading import check_choices, choose_device
from textune.inference.predictor import Predictor
from textune.inference.texts import list_texts
from textune.tasks import default_task
from textune.tokens import load_tokenizer
from textune.tokens.batches import Padding
from textune.tokens.choices import DEFAULT_TEMPLATE, Choices, build_choices, check_labels, encode_prompts
from textune.version import __version__

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from textune.engine.label_likelihood import LabelScorer

MAX_LENGTH = 512
"""Tokens of a prompt with its label, unless max_length= says otherwise."""


class ZeroShot(Predictor):
    """Classifies texts by label likelihood. Make one by `ZeroShot.open`.

    The score of a label is the mean log-likelihood of its tokens after the prompt; probabilities are the softmax of the
    scores.
    """

    @classmethod
    def open(
        cls,
        backbone: str | Backbone,
        labels: Sequence[str],
        *,
        template: str = DEFAULT_TEMPLATE,
        max_length: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        trust: str | None = None,
    ) -> ZeroShot:
        """Load a causal model: `smollm2-135m`, a folder or a hub id.

        template: the prompt, with {text} and {labels}. max_length: tokens of a prompt with its label; default: 512.
        Raises ModelError for a model that is not causal, ConfigError for labels or a template that do not fit.
        """
        from textune.engine import probe_precision
        from textune.engine.label_likelihood import LabelScorer

        check_choices(device=device, precision=precision)
        labels = check_labels(labels, labels, 'give a list, as in ["spam", "ham"]')
        if max_length is not None and max_length < 1:
            raise ConfigError(f"max_length={max_length}: must be at least 1", hint="leave max_length= out")
        found = resolve_backbone(backbone, trust=trust) if isinstance(backbone, str) else backbone
        if (reason := explain_not_causal(found)) is not None:
            raise ModelError(f"backbone {found.id}: {reason}", hint="name a causal model, such as smollm2-135m")
        tokenizer = load_tokenizer(found.folder)
        choices = build_choices(tokenizer, labels, template)
        longest = min(max_length or MAX_LENGTH, found.max_positions)
        encode_prompts(tokenizer, [""], choices, longest)  # raises before the weights are read
        place = choose_device(device)
        model, _ = load_classifier(found, (), model_class="AutoModelForCausalLM")
        model.eval().requires_grad_(False)
        scorer = LabelScorer(model.to(place), choices.labels, probe_precision(precision, place), found.pad_token_id)
        manifest = _describe(found, tuple(labels), longest, model)
        return cls(manifest, scorer, tokenizer, choices)

    def __init__(self, manifest: Manifest, scorer: LabelScorer, tokenizer: Tokenizer, choices: Choices) -> None:
        super().__init__(manifest, cast(Any, scorer), tokenizer, Padding(manifest.pad_token_id))
        self._scorer, self._words, self._choices = scorer, tokenizer, choices
        self.long_texts.within = "the template"

    @property
    def device(self) -> str:
        """The type of the device that the model is on."""
        return str(next(self.model.parameters()).device.type)

    @property
    def label_tokens(self) -> int:
        """The tokens of all labels."""
        return sum(map(len, self._choices.labels))

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text's prompt."""
        prompts, cut = encode_prompts(self._words, texts, self._choices, self.manifest.max_length)
        self.long_texts.add_counts(len(texts), cut)
        return prompts

    def _predict_logits(self, texts: Iterable[str], pairs: Iterable[str] | None) -> NDArray[Any]:
        if pairs is not None:
            raise DataError("label likelihood reads single texts, but second texts are given", hint="leave them out")
        return self._scorer.score(self.encode_prompts(list_texts(texts)))


def explain_not_causal(backbone: Backbone) -> str | None:
    """Return why a model cannot say how likely a text is, or None if it can."""
    if not backbone.family.decoder:
        return f"{backbone.family.name} models are encoders, which do not predict the next word"
    names = backbone.config.get("architectures") or ()
    if not any("CausalLM" in name or "LMHead" in name for name in names):
        return "its weights have no output layer over the vocabulary"
    return None


def _describe(backbone: Backbone, labels: tuple[str, ...], max_length: int, model: Any) -> Manifest:
    """Return what a run's manifest would say."""
    return Manifest(
        task=default_task(reads_sets=False).name,
        labels=labels,
        label_values=labels,
        base_model=BaseModel(backbone.id, backbone.family.name, backbone.sha256, backbone.revision, backbone.local),
        method=ZERO_SHOT,
        method_options={},
        max_length=max_length,
        pad_token_id=backbone.pad_token_id,
        columns=TextColumns(),
        seed=0,
        data_fingerprint="",
        engine={},
        trainable_parameters=0,
        total_parameters=sum(p.numel() for p in model.parameters()),
        versions={},
        textune_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(),
    )
