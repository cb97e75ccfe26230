"""How fast the app is there: from the start of `textune app` to the first page drawn in Chromium.

    python benchmarks/app_speed.py [--output results/app.jsonl] [--repetitions 5] [--page try train runs]

The browser runs already, with an empty cache each time; every repetition starts a process of its own, in an empty
folder. Medians. A page counts as drawn when its heading is visible. The browser is the system's Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sides import describe_setting, ratio

AIM_MS = 4_000
PAGES = ("try", "train", "runs")


def find_chromium() -> str:
    """Return the browser of the system."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    sys.exit("no Chromium is installed; on Debian: apt-get install chromium")


def time_page(browser: Any, page: str, folder: Path) -> tuple[float, float]:
    """Return the milliseconds from the start to the first answer of the server, and to the page drawn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    view = context.new_page()
    started = time.perf_counter()
    words = [sys.executable, "-m", "textune", "app", "--port", str(port)]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        answered = time.perf_counter()
        view.goto(f"http://127.0.0.1:{port}/{page}")
        view.get_by_role("heading", level=1).first.wait_for(timeout=120_000)
        return (answered - started) * 1e3, (time.perf_counter() - started) * 1e3
    finally:
        process.terminate()
        process.wait()
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--page", nargs="+", choices=PAGES, default=PAGES)
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    lines = []
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = started.chromium.launch(executable_path=find_chromium(), args=options)
        for page in arguments.page:
            times = [time_page(browser, page, Path(folder)) for _ in range(arguments.repetitions)]
            drawn = [one[1] for one in times]
            lines.append(
                {
                    "figure": "from start to first page drawn", "side": f"textune app, page {page}",
                    "value": round(statistics.median(drawn), 1), "unit": "ms", "slowest_ms": round(max(drawn), 1),
                    "answered_ms": round(statistics.median(one[0] for one in times), 1), "aim_ms": AIM_MS,
                    "ratio": ratio(statistics.median(drawn), AIM_MS),
                }
            )  # fmt: skip
        browser.close()
    shared = describe_setting(os.cpu_count() or 1) | {
        "command": "python benchmarks/app_speed.py", "repetitions": arguments.repetitions,
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    lines = [line | shared for line in lines]
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
