"""A real search that is killed twice, and one on Ray, beside one that nothing happened to: the same trials?

    python benchmarks/sweep_faults.py --data FOLDER --output results/sweep_faults.jsonl [--rows 200] [--only killed ray]

FOLDER holds amazon_reviews/train.csv and test.csv. MiniLM with LoRA, six settings, three epochs, halving, one thread a
trial. "killed": `textune sweep`, then `textune resume`, each killed with SIGKILL at a drawn moment of its way; a second
resume ends it. "ray": executor=ray with two workers on a local cluster. All that must not depend on what happened is
compared: each trial's settings, state, figures and epochs, the winner, its figures on the test rows, and its weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from sweep_speed import cut_rows

TEXTUNE = (sys.executable, "-m", "textune")
COMMAND = "python benchmarks/sweep_faults.py --data FOLDER --output results/sweep_faults.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs="*", choices=("killed", "ray"), default=["killed", "ray"])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    given = parser.parse_args()
    source = given.data / "amazon_reviews"
    if not (source / "train.csv").is_file():
        raise SystemExit(f"{source}: train.csv is missing; --data must name the folder of the data sets")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        cut_rows(source / "train.csv", place, given.rows, given.rows // 2)
        write_search(place, source / "test.csv", given.rows // 2)
        started = time.monotonic()
        run(place, "sweep", "search.yaml", "name=whole")
        seconds = time.monotonic() - started
        whole = describe(place / "runs" / "whole")
        for side in given.only:
            kills = kill_twice(place, seconds, random.Random(given.seed)) if side == "killed" else []
            if side == "ray":
                run(place, "sweep", "search.yaml", "name=ray", "sweep.executor=ray", "sweep.workers=2")
            found = describe(place / "runs" / side)
            line = {
                "figure": "search under faults", "side": side, "same": found == whole, "trials": len(whole["trials"]),
                "states": [trial["state"] for trial in found["trials"]], "kills": kills,
                "differs": sorted(key for key in whole if found[key] != whole[key]), "seconds_of_whole": round(seconds),
                "rows": given.rows, "command": COMMAND,
            }  # fmt: skip
            print(json.dumps(line), flush=True)
            if given.output:
                given.output.parent.mkdir(parents=True, exist_ok=True)
                with given.output.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")


def write_search(place: Path, test: Path, test_rows: int) -> None:
    settings = {
        "data": str(place / "train.csv"), "validation": str(place / "validation.csv"), "test": str(test.resolve()),
        "test_sample": f"first:{test_rows}", "text": "title,content", "label": "label", "epochs": 3, "max_length": 256,
        "threads": 1, "runs_dir": str(place / "runs"),
        "sweep": {"space": {"learning_rate": [3e-4, 1e-3, 3e-3], "batch_size": [8, 16]}, "halving": {"reduction": 2}},
    }  # fmt: skip
    (place / "search.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def run(place: Path, *words: str) -> None:
    subprocess.run([*TEXTUNE, *words], cwd=place, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_twice(place: Path, seconds: float, drawn: random.Random) -> list[dict[str, Any]]:
    """Kill the search and its first resumption, then let it end; return what stood at each kill."""
    kills = []
    for words in (("sweep", "search.yaml", "name=killed"), ("resume", "runs/killed")):
        after = seconds * drawn.uniform(0.2, 0.5)
        process = subprocess.Popen([*TEXTUNE, *words], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
        begun = len(list((place / "runs" / "killed" / "trials").glob("*/metrics.jsonl")))
        kills.append({"command": words[0], "after_seconds": round(after, 1), "trials_begun": begun})
    run(place, "resume", "runs/killed")
    return kills


def describe(folder: Path) -> dict[str, Any]:
    """Return what must not depend on what happened on the way: no seconds, no attempts."""
    content = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    trials = [{k: v for k, v in trial.items() if k not in ("seconds", "attempts")} for trial in content["trials"]]
    winner = {k: v for k, v in content["winner"].items() if k != "test_reads"}
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
               for path in sorted((folder / "winner").glob("*.safetensors"))}  # fmt: skip
    return {"trials": trials, "winner": winner, "weights": weights}


if __name__ == "__main__":
    main()
