"""Coverage of prediction sets, floors, abstaining and calibration on rows that no setting saw: 4 data sets, 3 seeds.

    python benchmarks/decisions.py --data FOLDER_OF_DATA_SETS --runs FOLDER --output results/decisions.jsonl

Each run solves the head on MiniLM's features of a sample (method=head), so that a run takes a minute. Runs are kept in
the folder --runs; a run that is finished there is not trained again, and a line that is in --output is not written
again. One line of JSON per run: the sets of every coverage with the coverage reached and its 95% interval, the floor
that thresholds reached, what abstaining left, and the expected calibration error before and after the temperature.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from textune.cli.environment import tune_libraries
from textune.files import read_json, read_json_lines
from textune.progress import Plain
from textune.run import train

SEEDS = (1, 2, 3)
HALF = {"method": "head", "sample": "2400", "validation_fraction": 0.4, "test_sample": "1000"}
SETS: dict[str, dict[str, Any]] = {
    "amazon_reviews": HALF | {"max_length": 128, "threshold_for": "precision:0.9", "abstain_for": "accuracy:0.95"},
    "sms_spam": HALF | {"threshold_for": "precision:0.95", "abstain_for": "accuracy:0.99"},
    "banking77": HALF | {"sample": "5000", "test_sample": "2000", "abstain_for": "accuracy:0.95"},
    "go_emotions": HALF
    | {
        "sample": "5000",
        "validation": "validation.csv",
        "validation_sample": "3000",
        "test_sample": "3000",
        "threshold_for": "precision:0.6",
        "abstain_for": "accuracy:0.7",
    },
}


def main() -> None:
    """Train what is not there yet and append the figures of each run that has no line."""
    tune_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    arguments = parser.parse_args()
    lines = read_json_lines(arguments.output) if arguments.output.is_file() else []
    done = {(line["data"], line["seed"]) for line in lines}
    for seed in arguments.seeds:
        for source in arguments.only:
            if (source, seed) in done:
                continue
            finish(source, seed, arguments.data / source, arguments.runs)
            line = json.dumps(describe(source, seed, arguments.runs / f"{source}-{seed}"))
            with arguments.output.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
            print(line, flush=True)


def finish(source: str, seed: int, folder: Path, runs: Path) -> None:
    """Train one run, or find it finished."""
    if not (folder / "train.csv").is_file():
        raise SystemExit(f"{folder}: train.csv is missing; --data must name the folder of the data sets")
    name = f"{source}-{seed}"
    if (runs / name / "evaluation" / "metrics.json").is_file():
        return
    settings = dict(SETS[source])
    if "validation" in settings:
        settings |= {"validation": str(folder / settings["validation"]), "validation_fraction": None}
    files = {"data": str(folder / "train.csv"), "test": str(folder / "test.csv")}
    train(**files, **settings, seed=seed, name=name, runs_dir=str(runs), overwrite=True, progress=Plain())


def describe(source: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return the figures of a finished run."""
    manifest = read_json(folder / "textune.json", "the manifest")
    tuned = read_json(folder / "evaluation" / "metrics.json", "figures")["models"]["tuned"]
    figures, probabilities = tuned["decision_figures"], tuned["probability_figures"]
    before, after = probabilities["before"] or probabilities["calibration"], probabilities["calibration"]
    return {
        "data": source,
        "seed": seed,
        "settings": SETS[source],
        "validation_rows": manifest["decisions"]["set_rows"],
        "test_rows": tuned["rows"],
        "figures": {key: round(value, 4) for key, value in manifest["metrics"].items() if isinstance(value, float)},
        "temperature": round(manifest["temperature"], 4),
        "calibration_error": {"before": before["calibration_error"], "after": after["calibration_error"]},
        "sets": figures["sets"],
        "floor": figures["rule"],
        "abstain": figures["abstain"],
        "risk_coverage_area": figures["risk_coverage"]["area"],
    }


if __name__ == "__main__":
    main()
