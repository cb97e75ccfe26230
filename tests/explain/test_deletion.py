"""On real texts, deleting the words that an explanation names moves the probability more than deleting random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import textune
from textune.explain import Explanation, explain_texts

TEXTS, SHARE = 24, 0.2


def delete(explanation: Explanation, chosen: np.ndarray) -> str:
    text = explanation.text
    for i in sorted(chosen, reverse=True):
        text = text[: explanation.words[i].start] + text[explanation.words[i].end :]
    return text


@pytest.mark.slow
def test_deleting_the_named_words_moves_the_probability_most(tmp_path: Path) -> None:
    source = "embedded:rotten_tomatoes"
    settings = {"sample": 500, "max_length": 48, "method": "head", "seed": 1}
    run = textune.train(source, **settings, name="run", runs_dir=str(tmp_path))
    predictor = run.load(precision="fp32", engine="reference")
    rows = pq.read_table(run.folder / "evaluation" / "predictions.parquet")
    texts = rows["text"].to_pylist()[:TEXTS]
    found = explain_texts(predictor, texts)
    assert len(found) == TEXTS and all(each.complete and len(each.words) > 1 for each in found)
    numbers = [predictor.labels.index(each.label) for each in found]
    random = np.random.default_rng(0)

    def measure_fall(texts: list[str]) -> np.ndarray:
        after = predictor.predict_proba(texts)[np.arange(len(texts)), numbers]
        return np.asarray([each.probability for each in found]) - after

    top, drawn, opposing = [], [], []
    for each in found:
        count = max(1, round(SHARE * len(each.words)))
        ranked = np.argsort([-word.score for word in each.words])
        top.append(delete(each, ranked[:count]))
        opposing.append(delete(each, ranked[-count:]))
        drawn.append(delete(each, random.permutation(len(each.words))[:count]))
    falls = {name: measure_fall(texts).mean() for name, texts in (("top", top), ("drawn", drawn), ("other", opposing))}
    assert falls["top"] > falls["drawn"] + 0.05, falls
    assert falls["other"] < min(falls["drawn"], 0), falls
