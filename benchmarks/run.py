"""The short form of the benchmarks, for `make bench`: how fast the command starts, and the demo whole."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, str(HERE / "startup.py")], check=True)
        runs = [sys.executable, str(HERE / "measure_runs.py"), "--data", place, "--only", "rotten_tomatoes"]
        subprocess.run([*runs, "--output", str(Path(place) / "runs.jsonl")], check=True)


if __name__ == "__main__":
    main()
