"""What the comparing benchmarks share: rows, sides as child processes watched from outside, lines of results."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STARTED = "BENCHMARK_STARTED"
"""Variable in which a child finds when it was started: seconds since the epoch."""
ALLOCATORS = ("tuned", "own", "plain")
TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:"
    "glibc.malloc.top_pad=268435456"
)
_SECONDS_BETWEEN_SAMPLES = 0.05


@dataclass(frozen=True)
class Finished:
    """A child that ended well. samples: (seconds since the epoch, RssAnon in bytes), every 50 ms.

    peak_bytes: the most that was ever resident, mapped files included (VmHWM). started: seconds since the epoch.
    """

    output: str
    started: float
    seconds: float
    peak_bytes: int
    samples: tuple[tuple[float, int], ...]

    def figures(self) -> dict[str, Any]:
        """Return what the child printed last, one JSON object."""
        return dict(json.loads(self.output.strip().splitlines()[-1]))

    def peak_anonymous_mb(self, begin: float = 0.0, end: float = float("inf")) -> float:
        """Return the most anonymous memory, in MB, between two times."""
        return round(max((size for when, size in self.samples if begin <= when <= end), default=0) / 1e6, 1)


def run_side(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Run one process to its end and watches its memory; raise SystemExit with its last words where it fails."""
    samples: list[tuple[float, int]] = []
    peak = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        started, begun = time.time(), time.perf_counter()
        given = dict(os.environ if environment is None else environment) | {STARTED: repr(started)}
        process = subprocess.Popen(list(words), stdout=out, stderr=err, env=given)
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(_SECONDS_BETWEEN_SAMPLES):
                sizes = _read_sizes(process.pid)
                if "RssAnon" in sizes:
                    samples.append((time.time(), sizes["RssAnon"]))
                    peak = sizes.get("VmHWM", peak)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            code = process.wait()
            seconds = time.perf_counter() - begun
        finally:
            ended.set()
            thread.join()
            process.kill()
        out.seek(0)
        err.seek(0)
        if code:
            raise SystemExit(f"{' '.join(words)}: ended with {code}\n{err.read()[-3000:]}")
        return Finished(out.read(), started, seconds, peak, tuple(samples))


def _read_sizes(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:  # it has just ended
        return {}
    pairs = (line.split(":", 1) for line in lines if line.startswith(("RssAnon", "VmHWM")))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def seconds_since_start() -> float:
    """Return, in a child, the seconds since its process was started."""
    return time.time() - float(os.environ[STARTED])


def choose_environment(allocator: str, threads: int, *, ours: bool, cache: Path | None = None) -> dict[str, str]:
    """Return a side's environment.

    allocator: "tuned": glibc's tunables for every side, set before it starts; "plain": for none; "own": as people get
    it, which is plain for others and what the command does by itself for ours.
    """
    malloc = ("GLIBC_TUNABLES", "TEXTUNE_MALLOC", "LD_PRELOAD")
    given = {k: v for k, v in os.environ.items() if k not in malloc and not k.startswith("MALLOC_")}
    given |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}
    if allocator == "tuned":
        given["GLIBC_TUNABLES"] = TUNABLES
    if allocator == "plain" and ours:
        given["TEXTUNE_MALLOC"] = "off"
    return given | ({} if cache is None else {"TEXTUNE_CACHE": str(cache)})


def hold_to(threads: int) -> None:
    """Keep this process and all that it starts to so many processors: some libraries count them and ask nobody.

    They are the first that it may use, so a second benchmark beside it must be started on others, as by `taskset`.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def name_commit(checkout: Path) -> str:
    """Return the commit that a work tree is at."""
    words = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def describe_setting(threads: int) -> dict[str, Any]:
    """Return what every line of results says of where it was measured."""
    from textune.engine.budget import describe_processor

    return {"threads": threads, "machine": describe_processor(), "torch": importlib.metadata.version("torch")}


class Results:
    """Lines of a result file, one JSON object each: what stands there already is not measured again.

    fixed: what all lines of this call share and what must be the same for a line to count as this one.
    """

    def __init__(self, path: Path | None, fixed: Mapping[str, Any]) -> None:
        self.path, self.fixed = path, dict(fixed)
        self.lines: list[dict[str, Any]] = []
        if path is not None and path.is_file():
            text = path.read_text(encoding="utf-8")
            self.lines = [json.loads(line) for line in text.splitlines() if line.strip()]

    def find(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the lines that have all of these values."""
        wanted = self.fixed | wanted
        return [line for line in self.lines if all(line.get(k) == v for k, v in wanted.items())]

    def add(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Print a line and appends it to the file."""
        whole = dict(line) | self.fixed
        self.lines.append(whole)
        print(json.dumps(whole), flush=True)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(whole) + "\n")
        return whole


def median(lines: Iterable[Mapping[str, Any]], key: str) -> float | None:
    """Return the median of one value over repetitions; None where no line has it."""
    values = [line[key] for line in lines if line.get(key) is not None]
    return statistics.median(values) if values else None


def ratio(over: float | None, under: float | None) -> float | None:
    """Return how many times the second the first is; None where one is missing."""
    return round(over / under, 2) if over and under else None


def read_rows(data: Path | None, name: str, split: str, rows: slice) -> tuple[list[str], list[str]]:
    """Return texts and labels; without a folder of data sets the film sentences that come with the demo."""
    import polars as pl

    if data is None:
        from textune.data import read_table

        frame = pl.DataFrame(pl.from_arrow(read_table("embedded:rotten_tomatoes").arrow))
        frame = frame.sample(fraction=1.0, shuffle=True, seed=7)
        frame = frame.head(len(frame) // 2) if split == "train" else frame.tail(len(frame) // 2)
    else:
        path = data / name / f"{split}.csv"
        if not path.is_file():
            raise SystemExit(f"{path}: not there; --data must name the folder that holds {name}/{split}.csv")
        frame = pl.read_csv(path, infer_schema=False)
    frame = frame[rows]
    parts = next(p for p in (("title", "content"), ("title", "description"), ("text",)) if set(p) <= set(frame.columns))
    texts = [" ".join(cell or "" for cell in row).strip() for row in frame.select(parts).iter_rows()]
    return texts, [str(label) for label in frame["label"]]


def write_rows(path: Path, texts: Sequence[str], labels: Sequence[str]) -> Path:
    """Write a table of text and label for the sides to read; rows without text are left out."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        writer.writerows(row for row in zip(texts, labels, strict=True) if row[0].strip())
    return path


def load_rows(path: Path) -> tuple[list[str], list[str]]:
    """Read what `write_rows` wrote, as a side does."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def textune(*words: str | Path) -> list[str]:
    """Return the words that start the command line."""
    return [sys.executable, "-m", "textune", *map(str, words)]


def find_training(run: Path) -> tuple[float, float]:
    """Return when a finished run's training began and ended, in seconds since the epoch.

    The plan is written a last time when the engine stands, right before the first step; the log's last line is of the
    last step. What is between is training with its checkpoints and, where there are validation rows, evaluations.
    """
    return (run / "plan.json").stat().st_mtime, (run / "metrics.jsonl").stat().st_mtime


def train_small(place: Path, data: Path | None, rows: int, epochs: float, environment: Mapping[str, str]) -> Path:
    """Train a run as `textune train` does, for benchmarks of what comes after; return its folder."""
    train = write_rows(place / "train.csv", *read_rows(data, "amazon_reviews", "train", slice(0, rows)))
    test = write_rows(place / "few.csv", *read_rows(data, "amazon_reviews", "test", slice(0, 50)))
    words = (train, f"test={test}", "text=text", f"epochs={epochs}", "seed=1", f"runs_dir={place}", "name=run")
    run_side(textune("train", *words), environment)
    return place / "run"


def export_run(run: Path, form: str, place: Path, environment: Mapping[str, str], rows: Path | None = None) -> Path:
    """Export a run as `textune export` does; int8 is taken whatever it costs. Returns the folder."""
    target = place / form
    measured = () if form != "onnx-int8" else ("--force", *(() if rows is None else ("--data", rows)))
    run_side(textune("export", run, "--to", form, "--output", target, *measured), environment)
    return target
