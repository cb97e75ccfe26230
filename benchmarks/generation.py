"""SmolLM2-135M tuned on the recipes that write: figures before and after, cost, and trl's SFTTrainer beside it.

    python benchmarks/generation.py --data FOLDER_OF_DATA_SETS --runs FOLDER --output results/generation.jsonl

A line for each recipe and method: perplexity, exact match and ROUGE-L with 95% intervals of base model, tuned model and
two baselines on the same test rows; seconds, processor seconds and peak memory of the process; samples. And a line for
trl on the same rows with equal settings: tokens per second of training, and the loss of every step of both. Each is a
process of its own; a line that is in --output is kept. Sizes are options, and are in every line.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sides import choose_environment, run_side
from textune.files import append_json_line, read_json, read_json_lines, write_text_atomically
from textune.progress import Silent

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from recipes.answers import ANSWERS, write_answers  # noqa: E402

SOURCES = {"chat-smollm": "banking77", "titles-smollm": "amazon_reviews"}
SIDES = ("lora", "qlora", "trl")
FIGURES = ("rouge_l", "exact_match", "empty", "endless", "perplexity", "loss")


def main() -> None:
    """Measure what is not in the output yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, help="folder of the runs and of their tables")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--recipes", nargs="*", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--sides", nargs="*", default=list(SIDES), choices=SIDES)
    parser.add_argument("--rows", type=int, default=500, help="training rows")
    parser.add_argument("--validation-rows", type=int, default=50)
    parser.add_argument("--test-rows", type=int, default=200)
    parser.add_argument("--answer-rows", type=int, default=100, help="test rows that get a written answer")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", type=Path, metavar="SETTINGS", help="one run of textune, in this process")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(train_here(read_json(given.one, "the settings"))))
        return
    done = read_json_lines(given.output) if given.output.is_file() else []
    for recipe in given.recipes:
        for side in given.sides:
            size = describe_size(given)
            if not any(line["recipe"] == recipe and line["side"] == side and line["size"] == size for line in done):
                append_json_line(
                    given.output, {"recipe": recipe, "side": side, "size": size} | measure(recipe, side, given)
                )


def describe_size(given: argparse.Namespace) -> dict[str, Any]:
    """Return what decides how much is measured."""
    names = ("rows", "validation_rows", "test_rows", "answer_rows", "epochs", "batch_size", "rate", "max_length",
             "max_new_tokens", "precision", "threads")  # fmt: skip
    return {name: getattr(given, name) for name in names}


def measure(recipe: str, side: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return one line's figures."""
    tables = write_tables(recipe, given)
    settings = build_settings(recipe, side, tables, given)
    words = [sys.executable, str(HERE / "generation.py"), "--one", str(given.runs / f"{recipe}-{side}.json")]
    write_text_atomically(Path(words[-1]), json.dumps(settings))
    if side == "trl":
        from textune.backbones import resolve_backbone

        model = resolve_backbone("smollm2-135m").folder
        words = [
            sys.executable, str(HERE / "sft_side.py"), str(tables["train"]), str(model),
            "--rate", str(given.rate), "--batch-size", str(given.batch_size), "--epochs", str(given.epochs),
            "--max-length", str(given.max_length), *(["--bf16"] if given.precision == "bf16" else []),
        ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = run_side(words, choose_environment("own", given.threads, ours=side != "trl"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = finished.figures()
    for kind in ("steady_seconds", "cpu_seconds"):
        name = "tokens_per_second" if kind == "steady_seconds" else "tokens_per_cpu_second"
        figures[name] = round(figures["tokens"] / figures[kind], 1) if figures.get(kind) else None
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return figures | {
        "process_seconds": round(finished.seconds, 1), "process_cpu_seconds": round(used, 1),
        "peak_mb": round(finished.peak_bytes / 1e6), "peak_anonymous_mb": finished.peak_anonymous_mb(),
    }  # fmt: skip


def write_tables(recipe: str, given: argparse.Namespace) -> dict[str, Path]:
    """Write training, validation and test rows of the sizes that are wanted; return the files."""
    folder: Path = given.runs / "tables"
    wanted = {"train": given.rows, "validation": given.validation_rows, "test": given.test_rows}
    found: dict[str, list[str]] = {}
    for part in ("train", "test"):
        source, target = given.data / SOURCES[recipe] / f"{part}.csv", folder / f"{recipe}-all-{part}.jsonl"
        if not source.is_file():
            raise SystemExit(f"{source}: is missing; --data names the folder of the data sets")
        write_answers(str(source), ANSWERS[recipe].build, target)
        found[part] = target.read_text(encoding="utf-8").strip().split("\n")
    rest = found["train"][:: max(1, len(found["train"]) // (given.rows + given.validation_rows))]
    parts = {"train": rest[: given.rows], "validation": rest[given.rows :], "test": found["test"]}
    parts["test"] = found["test"][:: max(1, len(found["test"]) // given.test_rows)]
    files = {}
    for part, lines in parts.items():
        files[part] = folder / f"{recipe}-{part}-{wanted[part]}.jsonl"
        write_text_atomically(files[part], "\n".join(lines[: wanted[part]]) + "\n")
    return files


def build_settings(recipe: str, side: str, tables: dict[str, Path], given: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a run of textune."""
    return {
        "data": str(tables["train"]), "validation": str(tables["validation"]), "test": str(tables["test"]),
        "task": "generation", "prompt": "prompt", "completion": "completion", "backbone": "smollm2-135m",
        "method": side, "epochs": given.epochs, "batch_size": given.batch_size, "learning_rate": given.rate,
        "max_length": given.max_length, "max_new_tokens": given.max_new_tokens, "answer_rows": given.answer_rows,
        "precision": given.precision, "threads": given.threads, "runs_dir": str(given.runs),
        "name": f"{recipe}-{side}-{given.rows}",
    }  # fmt: skip


class Clocked(Silent):
    """Progress that notes how long the training took, by the clock and in processor time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = self.cpu_seconds = 0.0

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Any]:
        """Note the times of the training."""
        started = time.time(), time.process_time()
        with super().task(name, total) as task:
            yield task
        if name == "training":
            self.seconds, self.cpu_seconds = time.time() - started[0], time.process_time() - started[1]


def train_here(settings: dict[str, Any]) -> dict[str, Any]:
    """Train in this process; return the figures of base model, tuned model and baselines, and the costs."""
    from textune.cli.environment import tune_libraries
    from textune.run import train

    tune_libraries()
    clock = Clocked()
    run = train(**settings, overwrite=True, progress=clock)
    metrics = read_json(run.folder / "evaluation" / "metrics.json", "figures")
    log = read_json_lines(run.folder / "metrics.jsonl")
    models = {}
    for key, model in metrics["models"].items():
        models[key] = {name: round(model[name], 4) for name in FIGURES if model.get(name) is not None}
        for name, interval in model["intervals"].items():
            models[key][f"{name}_interval"] = [round(interval["low"], 4), round(interval["high"], 4)]
    return {
        "models": models, "tokens": count_tokens(settings), "steady_seconds": round(clock.seconds, 2),
        "cpu_seconds": round(clock.cpu_seconds, 2), "megabytes": round(metrics["costs"]["weight_megabytes"], 2),
        "losses": [round(line["loss"], 4) for line in log if line["kind"] == "step"],
        "validation_losses": [round(line["loss"], 4) for line in log if line["kind"] == "evaluation"],
        "samples": metrics["samples"][:10],
    }  # fmt: skip


def count_tokens(settings: dict[str, Any]) -> int:
    """Return the tokens of all training rows in the tokenizer's chat template, times the epochs."""
    import transformers

    from textune.backbones import resolve_backbone

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(resolve_backbone(settings["backbone"]).folder))
    total = 0
    for line in Path(settings["data"]).read_text(encoding="utf-8").strip().split("\n"):
        row = json.loads(line)
        chat = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        total += min(len(tokenizer(text, add_special_tokens=False).input_ids), settings["max_length"])
    return int(total * settings["epochs"])


if __name__ == "__main__":
    main()
