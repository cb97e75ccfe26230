"""How long `textune --help` takes beyond the interpreter's own start: medians of pairs run in turn.

python benchmarks/startup.py [--output results/startup.jsonl]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPETITIONS = 15


def time_command(words: list[str]) -> float:
    """Returns the wall time of one process in milliseconds."""
    started = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    textune = str(Path(sys.executable).with_name("textune"))
    bare, helped = [], []
    for _ in range(REPETITIONS):
        bare.append(time_command([sys.executable, "-c", "pass"]))
        helped.append(time_command([textune, "--help"]))
    line = {
        "figure": "textune --help beyond the interpreter's start",
        "command": "python benchmarks/startup.py",
        "interpreter_ms": round(statistics.median(bare), 1),
        "help_ms": round(statistics.median(helped), 1),
        "difference_ms": round(statistics.median(h - b for h, b in zip(helped, bare, strict=True)), 1),
        "ratio": round(statistics.median(h / b for h, b in zip(helped, bare, strict=True)), 2),
        "repetitions": REPETITIONS,
    }
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(line) + "\n", encoding="utf-8")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
