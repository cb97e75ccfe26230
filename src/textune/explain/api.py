"""Explanations of texts: which words speak for a label, and which against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from textune.bundle import AnyRun, find_run, read_manifest, refuse_exported
from textune.errors import ConfigError, suggest
from textune.explain.attribution import MOST_STEPS, Attribution, Attributor, Window
from textune.explain.explanation import Explanation, WordScore
from textune.explain.words import TokenSpans, join_words, locate_tokens
from textune.inference import Predictor
from textune.tokens.batches import collate

if TYPE_CHECKING:
    from textune.tokens import Tokenized


@overload
def explain(
    run: AnyRun | Predictor, texts: str, label: str | None = None, *, pairs: str | None = None, **options: Any
) -> Explanation: ...
@overload
def explain(
    run: AnyRun | Predictor,
    texts: Iterable[str],
    label: str | None = None,
    *,
    pairs: Iterable[str] | None = None,
    **options: Any,
) -> list[Explanation]: ...
def explain(
    run: AnyRun | Predictor,
    texts: Iterable[str],
    label: str | None = None,
    *,
    pairs: Iterable[str] | None = None,
    **options: Any,
) -> Any:
    """Return how much each word of a text speaks for its label: one `Explanation` per text, or that of one string.

    run: a folder, a `Run`, the name of a run in the folder `runs`, or a loaded `Predictor`. options: as for
    `Predictor.load`. label: which label is explained; None: each text's answer, of several labels the most probable.
    Raises BundleError for an ONNX export, ConfigError for an unknown label, DataError for empty texts.
    """
    if isinstance(run, Predictor) and options:
        raise ConfigError(f"{', '.join(options)}: the model is loaded already", hint="give the run instead")
    predictor = run if isinstance(run, Predictor) else open_predictor(run, **options)
    found = explain_texts(predictor, texts, label, pairs=pairs)
    return found[0] if isinstance(texts, str) else found


def open_predictor(run: AnyRun, **options: Any) -> Predictor:
    """Load a run to explain its answers; raise BundleError for an ONNX export. options: as for `Predictor.load`."""
    folder = find_run(run)
    refuse_exported(folder, read_manifest(folder, verify=False))
    return Predictor.load(folder, **({"engine": "reference", "precision": "fp32"} | options))


def explain_texts(
    predictor: Predictor,
    texts: Iterable[str],
    label: str | None = None,
    *,
    pairs: Iterable[str] | None = None,
    most_steps: int = MOST_STEPS,
) -> list[Explanation]:
    """Return one explanation per text, in their order. Texts are explained one by one, so memory stays bounded.

    label: which label is explained; None: as for `explain`. most_steps: fewer are quicker and less exact. Raises as
    `explain`.
    """
    refuse_exported("this model", predictor.manifest)
    if not predictor.task.gives_labels:
        raise ConfigError(f"the task {predictor.task.name} gives no labels that could be explained")
    labels = list(predictor.labels)
    label = check_label(predictor, label)
    first, second = predictor.list_texts(texts, pairs)
    log_odds, temperature = predictor.task.log_odds, predictor.manifest.temperature
    attributor = Attributor(
        predictor.open_reference(),
        lambda logits, number: log_odds(logits / temperature, number),
        _find_mask(predictor),
        most_steps,
    )
    found = []
    for i, text in enumerate(first):
        pair = None if second is None else second[i]
        shares = predictor.predict_proba([text], None if pair is None else [pair])[0]
        number = labels.index(label) if label is not None else int(predictor.task.find_shown(shares[None])[0])
        read = predictor.encode([text], None if pair is None else [pair])
        spans = locate_tokens(predictor.tokenizer, text, pair, read, predictor.manifest.long_text)
        attribution = attributor.attribute(_list_windows(predictor, read, spans), number)
        probability = float(shares[number])
        found.append(_build((text, pair), labels[number], probability, attribution, spans, _describe(read)))
    return found


def check_label(predictor: Predictor, label: object) -> str | None:
    """Return a label, such as the number 1, as the model names it; raise ConfigError for an unknown one.

    None is no label.
    """
    name, labels = None if label is None else str(label), predictor.labels
    if name is not None and name not in labels:
        raise ConfigError(
            f"label '{name}': the model does not know it{suggest(name, labels)}",
            hint=f"its labels are {', '.join(labels[:20])}{', ...' if len(labels) > 20 else ''}",
        )
    return name


def _list_windows(predictor: Predictor, read: Tokenized, spans: Sequence[TokenSpans]) -> list[Window]:
    """Return the tokens of each window, without padding: texts and windows are run one length at a time."""
    batch = collate(read, [0], predictor.padding)
    windows = []
    for row, place in enumerate(spans):
        tokens = batch.attention_mask[row].astype(bool)
        types = None if batch.token_type_ids is None else batch.token_type_ids[row][tokens]
        windows.append(Window(batch.input_ids[row][tokens], types, place.side >= 0))
    return windows


def _find_mask(predictor: Predictor) -> int:
    """Return the token that stands for a missing word: the mask if the model has one, else padding."""
    special = {token.content for token in predictor.tokenizer.get_added_tokens_decoder().values() if token.special}
    found = [predictor.tokenizer.token_to_id(name) for name in ("[MASK]", "<mask>") if name in special]
    return int(found[0]) if found else predictor.padding.pad_token_id


def _describe(read: Tokenized) -> tuple[str, ...]:
    """Return what the model does not read of a text."""
    capacity, tokens = read.capacity or read.max_length, int(read.full_lengths[0])
    if tokens <= capacity:
        return ()
    return (f"the model reads {capacity:,} of at least {tokens:,} tokens; unread words have no score",)


def _build(
    texts: tuple[str, str | None],
    label: str,
    probability: float,
    attribution: Attribution,
    spans: Sequence[TokenSpans],
    notes: tuple[str, ...],
) -> Explanation:
    scores = np.concatenate(attribution.scores)
    words = []
    for number, text in enumerate(texts):
        chosen = np.concatenate([place.side == number for place in spans])
        starts, ends = (np.concatenate([getattr(place, end) for place in spans])[chosen] for end in ("starts", "ends"))
        words.append(_score_words(text or "", starts.tolist(), ends.tolist(), scores[chosen]))
    if not attribution.complete:
        missed = f"the scores miss the log-odds by {attribution.gap:.2f} after {attribution.steps} steps"
        notes = (*notes, f"{missed}: take them as rough")
    return Explanation(
        text=texts[0],
        label=label,
        probability=probability,
        words=words[0],
        completeness_gap=attribution.gap,
        log_odds=attribution.log_odds,
        empty_log_odds=attribution.empty_log_odds,
        steps=attribution.steps,
        complete=attribution.complete,
        pair=texts[1],
        pair_words=words[1],
        notes=notes,
    )


def _score_words(text: str, starts: list[int], ends: list[int], scores: NDArray[np.float64]) -> tuple[WordScore, ...]:
    words = join_words(text, starts, ends)
    totals = np.zeros(len(words.spans), np.float64)
    if len(words.spans):
        np.add.at(totals, words.of_token, scores)
    pairs = zip(words.spans, totals.tolist(), strict=True)
    return tuple(WordScore(start, end, text[start:end], total) for (start, end), total in pairs)
