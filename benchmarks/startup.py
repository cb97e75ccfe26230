"""How fast commands start: `textune --help` beyond the interpreter, and from the shell to the first label.

    python benchmarks/startup.py [--output results/startup.jsonl] [--run RUN] [--repetitions 15]

Medians of processes run in turn. The first label is that of one text under a model exported to ONNX and to int8, by
`python -m textune predict`, by the `textune` script where it is installed, and by the export's own `predict.py`, which
needs no textune; the model is that of --run, or a small one that is trained here. Python keeps its compiled files, as
an installed package has them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sides import choose_environment, describe_setting, export_run, ratio, textune, train_small

REPETITIONS, THREADS = 15, 2
TEXT = "a film that nobody should miss"


def time_command(words: list[str]) -> float:
    """Return the wall time of one process in milliseconds."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment)
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    arguments = parser.parse_args()
    lines = [measure_help(arguments.repetitions)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environment = choose_environment("own", THREADS, ours=True)
        run = arguments.run or train_small(place, None, 200, 1, environment)
        for form in ("onnx", "onnx-int8"):
            lines += measure_first_label(form, export_run(run, form, place, environment), arguments.repetitions)
    shared = describe_setting(THREADS) | {"command": "python benchmarks/startup.py", "scaled": False,
                                          "repetitions": arguments.repetitions, "allocator": "own"}  # fmt: skip
    lines = [line | shared for line in lines]
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for line in lines:
        print(json.dumps(line))


def find_script() -> list[str]:
    """Return the words of the `textune` script, or of the module where there is none."""
    script = Path(sys.executable).with_name("textune")
    return [str(script)] if script.is_file() else textune()


def measure_help(repetitions: int) -> dict[str, Any]:
    """Times `textune --help` beside an interpreter that does nothing."""
    bare, helped = [], []
    for _ in range(repetitions):
        bare.append(time_command([sys.executable, "-c", "pass"]))
        helped.append(time_command([*find_script(), "--help"]))
    difference = round(statistics.median(h - b for h, b in zip(helped, bare, strict=True)), 1)
    return {
        "figure": "textune --help beyond the interpreter's start", "side": "textune --help", "value": difference,
        "unit": "ms", "interpreter_ms": round(statistics.median(bare), 1),
        "help_ms": round(statistics.median(helped), 1), "difference_ms": difference, "aim_ms": 100,
        "ratio": round(statistics.median(h / b for h, b in zip(helped, bare, strict=True)), 2),
    }  # fmt: skip


def measure_first_label(form: str, folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """Time one prediction from the shell: by the module, the script and the export's own program."""
    sides = {
        "python -m textune predict": [*textune(), "predict", str(folder)],
        "textune predict": [*find_script(), "predict", str(folder)],
        "predict.py of the export": [sys.executable, str(folder / "predict.py")],
    }
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repetitions):
        for side, words in sides.items():
            found[side].append(time_command([*words, TEXT]))
    return [
        {"figure": "from shell to first label", "side": f"{side}, {form}", "value": round(statistics.median(own), 1),
         "unit": "ms", "slowest_ms": round(max(own), 1), "aim_ms": 400, "ratio": ratio(statistics.median(own), 400),
         "precision": "int8" if form == "onnx-int8" else "fp32"}
        for side, own in found.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main()
