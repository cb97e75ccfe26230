"""Label likelihood: how likely a causal model finds each label after a prompt, all labels in one pass.

The labels follow the prompt side by side: each attends to the prompt and to itself alone, at the positions that it
would have by itself. So the keys and values of the prompt are computed once and serve all labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textune.engine.masks import form_masks
from textune.engine.precision import Precision
from textune.engine.reference import run_in_fp32

_PROMPT, _PADDING = 0, -1
_MOST_LABEL_TOKENS = 512
"""More tokens of labels than these take several passes."""
_MOST_TOKENS = 4_096
_MOST_LOGITS = 64_000_000
"""Of one pass: 256 MB."""


class LabelScorer:
    """Scores labels after prompts with a causal model of transformers.

    labels: token ids of each. precision: of all but the output layer, whose rounding errors are those of the scores.
    """

    def __init__(
        self, model: Any, labels: Sequence[Sequence[int]], precision: Precision, pad_token_id: int = 0
    ) -> None:
        self.model = model
        self.precision = precision
        self._labels = [list(label) for label in labels]
        self._pad = pad_token_id
        if precision.name == "bf16":
            run_in_fp32(model.get_output_embeddings())

    def score(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Return the mean log-likelihood of each label's tokens after each prompt: nats, float64 [prompts, labels]."""
        scores = np.zeros((len(prompts), len(self._labels)))
        for group in self._split_labels():
            tokens = sum(len(self._labels[label]) for label in group)
            for rows in self._split_rows(prompts, tokens):
                scores[np.ix_(rows, group)] = self._score([prompts[row] for row in rows], group)
        return scores

    def _split_labels(self) -> Iterator[list[int]]:
        group: list[int] = []
        for label, ids in enumerate(self._labels):
            if group and sum(len(self._labels[i]) for i in group) + len(ids) > _MOST_LABEL_TOKENS:
                yield group
                group = []
            group.append(label)
        yield group

    def _split_rows(self, prompts: Sequence[Sequence[int]], label_tokens: int) -> Iterator[list[int]]:
        """Yield rows of similar length, within the bounds of one pass."""
        vocabulary = int(self.model.get_output_embeddings().weight.shape[0])
        most = max(1, _MOST_LOGITS // (vocabulary * (label_tokens + 1)))
        rows: list[int] = []
        for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row])):
            if rows and (len(rows) == most or (len(rows) + 1) * (len(prompts[row]) + label_tokens) > _MOST_TOKENS):
                yield rows
                rows = []
            rows.append(row)
        if rows:
            yield rows

    @torch.no_grad()
    def _score(self, prompts: Sequence[Sequence[int]], group: Sequence[int]) -> NDArray[np.float64]:
        labels = [self._labels[label] for label in group]
        ids, positions, segments = lay_out(prompts, labels, self._pad)
        device = next(self.model.parameters()).device
        tokens = torch.from_numpy(ids).to(device)
        count = sum(map(len, labels))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision.name == "bf16"):
            logits = self.model(
                input_ids=tokens,
                position_ids=torch.from_numpy(positions).to(device),
                attention_mask=form_masks(
                    self.model.config, lambda window: build_choices_mask(positions, segments, window), device
                ),
                use_cache=False,
                logits_to_keep=count + 1,
            ).logits.float()
        # The last token of the prompt predicts the first of each label, and each of a label the next.
        starts = np.cumsum([0, *map(len, labels[:-1])])
        sources = np.arange(count)
        sources[starts] = 0  # sources: of `logits`, whose first column is the prompt's last token
        predicted = logits[:, torch.from_numpy(sources).to(device)].log_softmax(-1)
        found = predicted.gather(-1, tokens[:, -count:, None])[..., 0].double().cpu().numpy()
        sums = np.add.reduceat(found, starts, axis=1)
        return np.asarray(sums / np.array(list(map(len, labels))), np.float64)


def lay_out(
    prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return ids, positions and segments: int64 [prompts, tokens]; prompts are padded on the left, labels follow.

    segments: _PADDING, _PROMPT, or the number of the label from 1.
    """
    width, count = max(map(len, prompts)), sum(map(len, labels))
    shape = (len(prompts), width + count)
    ids, positions = np.full(shape, pad, np.int64), np.zeros(shape, np.int64)
    segments = np.full(shape, _PADDING, np.int64)
    ids[:, width:] = [token for label in labels for token in label]
    segments[:, width:] = [number for number, label in enumerate(labels, 1) for _ in label]
    steps = np.array([step for label in labels for step in range(len(label))])
    for row, prompt in enumerate(prompts):
        start = width - len(prompt)
        ids[row, start:width] = prompt
        positions[row, start:width] = np.arange(len(prompt))
        positions[row, width:] = len(prompt) + steps
        segments[row, start:width] = _PROMPT
    return ids, positions, segments


def build_choices_mask(
    positions: NDArray[np.int64], segments: NDArray[np.int64], window: int | None = None
) -> NDArray[np.bool_]:
    """Return which tokens attend to which: bool [rows, 1, queries, keys].

    A label attends to the prompt and to itself. window: of sliding attention, in positions.
    """
    queries, keys = segments[:, :, None], segments[:, None, :]
    distance = positions[:, :, None] - positions[:, None, :]
    near = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    allowed = ((keys == _PROMPT) | (keys == queries)) & (keys != _PADDING) & near
    return np.asarray(allowed | np.eye(segments.shape[1], dtype=bool))[:, None]
