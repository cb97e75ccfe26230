"""Whether the words that an explanation names matter: deleting them beside deleting as many random words.

    python benchmarks/explanations.py --data FOLDER_OF_DATA_SETS --runs runs --output results/explanations.jsonl

Trains MiniLM on few rows of each data set, with LoRA or its head alone, unless the run is there. Of the first
evaluation rows that are read to their end, each text is explained for its predicted label. Then the words that speak
most for it are deleted (a tenth or a fifth of all words, at least one), and likewise as many random ones, for three
seeds. A line of JSON for each data set: how far the label's probability falls on average, with 95% intervals by
bootstrap over texts, and the seconds per explanation. `--texts 40` takes fewer texts than 60.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

import textune
from textune.errors import TextuneError
from textune.explain import Explanation, explain_texts
from textune.inference import Predictor
from textune.version import __version__

SETTINGS: dict[str, dict[str, Any]] = {
    "amazon_reviews": {
        "text": "title,content",
        "label": "label",
        "max_length": 128,
        "method": "lora",
        "sample": 1500,
        "epochs": 1,
    },
    "rotten_tomatoes": {"max_length": 48, "method": "head", "sample": 800},
}
COMMON: dict[str, Any] = {"seed": 42}
SHARES = (0.1, 0.2)
SEEDS = (0, 1, 2)
FEWEST_WORDS = 5
RESAMPLES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--texts", type=int, default=60)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        line = check(name, open_run(name, arguments.data, arguments.runs), arguments.texts)
        with arguments.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def open_run(name: str, data: Path, runs: Path) -> Path:
    """Return the folder of a data set's run, trained now if it is not there."""
    folder = runs / name
    if (folder / "evaluation" / "predictions.parquet").is_file():
        return folder
    source: dict[str, Any] = {"data": f"embedded:{name}"}
    if name != "rotten_tomatoes":
        source = {"data": str(data / name / "train.csv"), "test": str(data / name / "test.csv")}
        if not Path(source["data"]).is_file():
            raise SystemExit(f"{source['data']} is missing; --data must name the folder of the data sets")
    try:
        textune.train(**source, **SETTINGS[name], **COMMON, name=name, runs_dir=str(runs))
    except TextuneError as error:
        raise SystemExit(str(error)) from error
    return folder


def check(name: str, folder: Path, texts: int) -> dict[str, Any]:
    """Return the figures of one data set."""
    predictor = Predictor.load(folder)
    explanations, seconds, cpu_seconds = explain_rows(predictor, folder, texts)
    label_numbers = [predictor.labels.index(each.label) for each in explanations]
    before = np.asarray([each.probability for each in explanations])

    def fall(changed: list[str]) -> NDArray[np.float64]:
        after = predictor.predict_proba(changed)[np.arange(len(changed)), label_numbers]
        return np.asarray(before - after, np.float64)

    line: dict[str, Any] = {
        "data": name,
        "texts": len(explanations),
        "words": float(np.mean([len(each.words) for each in explanations])),
        "seconds_per_text": round(seconds / len(explanations), 3),
        "cpu_seconds_per_text": round(cpu_seconds / len(explanations), 3),
        "largest_gap": max(each.completeness_gap for each in explanations),
        "complete": sum(each.complete for each in explanations),
        "steps": {
            str(n): sum(each.steps == n for each in explanations) for n in sorted({e.steps for e in explanations})
        },
        "precision": predictor.precision,
        "settings": SETTINGS[name] | COMMON,
        "textune": __version__,
        "python": platform.python_version(),
    }
    for share in SHARES:
        top = fall([delete(each, choose_top(each, share)) for each in explanations])
        random = [
            fall([delete(each, choose_random(each, share, [seed, i])) for i, each in enumerate(explanations)])
            for seed in SEEDS
        ]
        line[f"delete_{share:.0%}"] = {
            "top": summarize(top),
            "random": summarize(np.mean(random, axis=0)),
            "random_by_seed": [float(each.mean()) for each in random],
            "difference": summarize(top - np.mean(random, axis=0)),
        }
    return line


def explain_rows(predictor: Predictor, folder: Path, texts: int) -> tuple[list[Explanation], float, float]:
    """Return explanations of the first rows that are read to their end, and the seconds and the processor seconds."""
    rows = pq.read_table(folder / "evaluation" / "predictions.parquet")["text"].to_pylist()
    found: list[Explanation] = []
    explain_texts(predictor, rows[:1])  # imports
    seconds = cpu_seconds = 0.0
    for text in rows:
        if predictor.encode([text]).cut_share:
            continue
        started_at, cpu_started_at = time.perf_counter(), time.process_time()
        (explanation,) = explain_texts(predictor, [text])
        if len(explanation.words) < FEWEST_WORDS:
            continue
        seconds += time.perf_counter() - started_at
        cpu_seconds += time.process_time() - cpu_started_at
        found.append(explanation)
        if len(found) == texts:
            break
    return found, seconds, cpu_seconds


def count_deleted(explanation: Explanation, share: float) -> int:
    return max(1, round(share * len(explanation.words)))


def choose_top(explanation: Explanation, share: float) -> list[int]:
    ranked = np.argsort([-word.score for word in explanation.words], kind="stable")
    return [int(i) for i in ranked[: count_deleted(explanation, share)]]


def choose_random(explanation: Explanation, share: float, seed: list[int]) -> list[int]:
    chosen = np.random.default_rng(seed).permutation(len(explanation.words))
    return [int(i) for i in chosen[: count_deleted(explanation, share)]]


def delete(explanation: Explanation, words: list[int]) -> str:
    """Return the text without some of its words."""
    text = explanation.text
    for word in sorted((explanation.words[i] for i in words), key=lambda word: -word.start):
        text = text[: word.start] + text[word.end :]
    return text


def summarize(values: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean with its 95% interval by bootstrap over texts."""
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
