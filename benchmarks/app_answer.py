"""How fast the app draws its first page, and answers a typed text, as seen by a browser.

    python benchmarks/app_answer.py [--output results/app_answer.jsonl] [--run RUN] [--texts 20] [--browser PATH]

It starts `textune app` with a run (--run, or a small one that is trained here) and Chromium. The first page is drawn
when its title is visible, counted from the start of the process. An answer is counted inside the page, from the keys
that send a typed text to the change of the bars, after the model is loaded. Beside it stands the processor time that
the server took, which a busy machine changes less; load is the machine's own when it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sides import choose_environment, describe_setting, train_small

TEXTS, THREADS, PORT = 20, 2, 8939
BROWSER = "/usr/bin/chromium"
WORDS = ("a", "warm", "dull", "funny", "slow", "film", "superb", "weak", "story", "moving", "boring", "cast")
WATCH = """() => {
  const bars = () => [...document.querySelectorAll('[data-testid=stHtml]')].map(e => e.textContent).join();
  window.seconds = null;
  window.addEventListener('keydown', event => {
    if (event.key !== 'Enter' || !event.ctrlKey) return;
    const before = bars();
    window.started = performance.now();
    window.seconds = null;
    const observer = new MutationObserver(() => {
      if (bars() === before) return;
      window.seconds = (performance.now() - window.started) / 1000;
      observer.disconnect();
    });
    observer.observe(document.body, {childList: true, subtree: true, characterData: true});
  }, true);
}"""


@contextlib.contextmanager
def serve_app(run: Path, environment: dict[str, str], place: Path) -> Iterator[tuple[float, int]]:
    """Start the app on one run; yield when the process started, and its number."""
    words = [sys.executable, "-m", "textune", "app", str(run.resolve()), "--port", str(PORT)]
    started = time.perf_counter()
    process = subprocess.Popen(words, env=environment, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started, process.pid
    finally:
        process.terminate()
        process.wait(30)


def measure(run: Path, environment: dict[str, str], place: Path, browser_path: str, texts: int) -> dict[str, Any]:
    """Return the seconds to the first page, those of each answer, and the server's processor time for it."""
    import psutil
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        with serve_app(run, environment, place) as (started, number):
            while True:
                try:
                    page.goto(f"http://127.0.0.1:{PORT}")
                    break
                except Error:
                    if not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                        raise SystemExit("the app ended before it answered") from None
                    time.sleep(0.05)
            page.get_by_role("heading", name="Try").wait_for(timeout=60_000)
            first_page = time.perf_counter() - started
            box = page.locator("textarea").first
            box.wait_for(timeout=120_000)
            box.fill("a first text, while the model is loaded")
            box.press("Control+Enter")
            page.locator("[data-testid=stHtml]").first.wait_for(timeout=120_000)
            page.wait_for_timeout(2_000)
            page.evaluate(WATCH)
            answers, used = [], []
            for at in range(texts):
                box.fill(" ".join(WORDS[(at * k + k) % len(WORDS)] for k in range(1, 5 + at % 7)))
                page.wait_for_timeout(300)
                before = psutil.Process(number).cpu_times()
                box.press("Control+Enter")
                page.wait_for_function("window.seconds !== null", timeout=30_000)
                answers.append(float(page.evaluate("window.seconds")))
                page.wait_for_timeout(300)
                after = psutil.Process(number).cpu_times()
                used.append(after.user + after.system - before.user - before.system)
        browser.close()
    return {"first_page_seconds": first_page, "answer_seconds": answers, "processor_seconds": used}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--browser", default=BROWSER)
    arguments = parser.parse_args()
    environment = choose_environment("own", THREADS, ours=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = arguments.run or train_small(place, None, 200, 1, environment)
        found = measure(run, environment, place, arguments.browser, arguments.texts)
    answers = [1e3 * seconds for seconds in found["answer_seconds"]]
    line = {
        "first_page_seconds": round(found["first_page_seconds"], 2),
        "answer_ms_median": round(statistics.median(answers)),
        "answer_ms_largest": round(max(answers)),
        "server_processor_ms_median": round(1e3 * statistics.median(found["processor_seconds"])),
        "texts": len(answers),
        "load": round(os.getloadavg()[0], 1),
    }
    line |= describe_setting(THREADS) | {"command": "python benchmarks/app_answer.py", "scaled": False}
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(line) + "\n", encoding="utf-8")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
