"""docs/methods.md: choosing a method, what each costs, and the matrix of what was proven. "
"`docs/generate.py` writes it."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leads import measure_lead, unpack

if TYPE_CHECKING:
    from textune.backbones.families import Family

COSTS = Path(__file__).parents[1] / "results" / "method_costs.jsonl"
TRIALS = Path(__file__).parents[1] / "results" / "methods.jsonl"

_OPENING = """# Methods

This page is written by `make docs` from the program and from measured results.

## Which one

Start with `lora`. On small encoders it comes close to full fine-tuning, its file is small, and merged into the weights
it costs nothing when the model is used. Take another for a reason:

- **The backbone does not fit into memory:** `qlora`.
- **Many classifiers on one backbone, each as small as can be:** `ia3`, `ln_tuning`, `bitfit`.
- **Very few rows, or a first look in seconds:** `head`.
- **Much data, and time:** `full`; or `lora` with a higher rank and `method.rslora=true`.
- **Weights must not be touched at all:** `prefix`; `prompt` and `p_tuning` stay some three points behind it on a small
  encoder, and four to five behind `lora`.

`textune train DATA method=NAME method.OPTION=VALUE`; the options stand in the [reference](reference.md#methods).
"""

_RANK = """## What `r` is

`r` is the rank of LoRA's update: an integer, not a share of the weights. A layer's weight of 768 x 768 has 589,824
entries. LoRA leaves them as they are and learns two matrices, 768 x r and r x 768, whose product is added. At `r=4`
these have 2 x 768 x 4 = 6,144 entries, about 1% of 589,824. `r=0.2` does not mean that a fifth of the weights is
trained: it means nothing, and textune refuses it. `alpha` scales the product by `alpha / r`, so that a rank can be
changed without looking for a new learning rate.
"""

_RATES = """## Learning rates that differ by layer

Lower layers hold what the backbone learned of the language, upper ones what is near the task. Two settings let them
learn at rates of their own, with every method that trains something inside the layers:

- `layer_decay=0.9`: each layer at nine tenths of the rate of the one above it
  ([Sun et al. 2019](https://arxiv.org/abs/1905.05583)).
- `layer_rates=lower=5e-5,upper=1e-4`: groups by name. `lower` and `upper` are the halves, `embeddings` what lies below
  the first layer (it goes with `lower` unless it is named), `3` or `0-5` are layers counted from 0 at the bottom.

The head has `head_learning_rate`. What is not named learns at `learning_rate`.
"""

_MARKS = {"works": "yes", "refused": "no", "unproven": "?"}


def build_methods_page() -> str:
    """Return the whole page as Markdown."""
    parts = [_OPENING, *describe_costs(), *describe_trials(), _RANK, _RATES, *describe_each(), *describe_matrix()]
    return "\n".join([*parts, *describe_quirks()]).rstrip() + "\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a results file, or nothing where it was not made yet."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def describe_costs() -> Iterator[str]:
    """Yield the table of parameters, disk and memory."""
    costs = {(line["method"], line["size"]): line for line in read_lines(COSTS)}
    if not costs:
        return
    yield "## What each costs\n"
    yield (
        "Two backbones: MiniLM (6 layers, 384 wide, 22.7 million weights) and DistilBERT (6 layers, 768 "
        "wide, 67 million), "
        "two classes.\nMemory is the growth of the process while it loads the model and trains 16 rows of 128 tokens "
        "in fp32 on a CPU. Most of it\nis activations: LoRA keeps those of full tuning and its own, so on backbones "
        "as small as these it saves disk, not memory;\nwhat it spares, the optimizer's two numbers for each weight, "
        "counts on large ones. Disk is what a run adds to the backbone.\nRebuild it with "
        "`python benchmarks/method_costs.py --output results/method_costs.jsonl`.\n"
    )
    rows = []
    for method in sorted({name for name, _ in costs}):
        cells = [f"`{method}`"]
        for size in ("minilm", "distilbert"):
            line = costs[method, size]
            share = line["trainable"] / line["total"]
            cells += [f"{line['trainable']:,} ({share:.2%})", f"{line['disk_mb']:.2f}", f"{line['peak_mb']:,}"]
        rows.append(cells)
    header = ("method", "MiniLM: trained", "disk MB", "memory MB", "DistilBERT: trained", "disk MB", "memory MB")
    yield table(header, rows)


def describe_trials() -> Iterator[str]:
    """Yield accuracy and seconds of every method on one data set, and its lead over LoRA."""
    lines = read_lines(TRIALS)
    if not lines:
        return
    first, runs = lines[0], defaultdict[str, list[dict[str, Any]]](list)
    for line in lines:
        runs[line["method"]].append(line)
    seeds = sorted({line["seed"] for line in lines})
    yield "## What each reached\n"
    yield (
        f"{first['train_rows']:,} sentences of Rotten Tomatoes for training, {first['test_rows']:,} for the test, "
        f"MiniLM, each method by its own defaults, {len(seeds)} seeds on the same rows, one thread.\n*against LoRA*: "
        "accuracy minus LoRA's, in points, with a 95% interval that holds the seeds and the test rows.\nThe seconds "
        "are the fastest seed's, for training and for classifying the test rows; the machine did other work.\nRebuild "
        "it with "
        "`python benchmarks/method_trials.py --output results/methods.jsonl`.\n"
    )
    rows = []
    for method, each in sorted(runs.items(), key=lambda pair: -statistics.mean(run["accuracy"] for run in pair[1])):
        scores = [run["accuracy"] for run in each]
        seconds = min(run["training_seconds"] for run in each)
        told = next((run["warning"] for run in each if run["warning"]), "")
        mean = f"{statistics.mean(scores):.1%} ({min(scores):.1%} to {max(scores):.1%})"
        rows.append((f"`{method}`", mean, compare_methods(each, runs["lora"]), f"{seconds:.0f}", told))
    yield table(("method", "accuracy: mean (lowest to highest)", "against LoRA", "seconds", "what a run said"), rows)


def compare_methods(runs: Sequence[Mapping[str, Any]], lora: Sequence[Mapping[str, Any]]) -> str:
    """Return the lead of a method over LoRA on the seeds that both have, or a dash."""
    right = {run["seed"]: unpack(run["right"], run["test_rows"]) for run in lora}
    pairs = [(unpack(run["right"], run["test_rows"]), right[run["seed"]]) for run in runs if run["seed"] in right]
    return str(measure_lead(pairs)) if pairs and runs[0]["method"] != "lora" else "–"


def describe_each() -> Iterator[str]:
    """Yield each method in a line or two."""
    from textune.methods import methods

    yield "## Each method\n"
    rows = [
        (f"`{key}`", m.summary, m.when, "yes" if m.mergeable else "no", f"[{m.paper.rpartition('/')[2]}]({m.paper})")
        for key, m in sorted(methods)
    ]
    yield table(("method", "what is trained, besides the head", "when", "merges", "paper"), rows)


def describe_matrix() -> Iterator[str]:
    """Yield the support matrix and the reasons of every refusal."""
    from textune.backbones.families import families
    from textune.methods.support import build_matrix, build_writing_matrix, read_record

    matrix, record = build_matrix(), read_record()
    cells = [cell for row in matrix.values() for cell in row.values()]
    states = {state: sum(cell.state == state for cell in cells) for state in _MARKS}
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("torch", "transformers", "peft"))
    yield "## Which method works on which family\n"
    yield (
        f"Of {len(cells)} cells {states['works']} work, {states['refused']} are refused with a reason, "
        f'{states["unproven"]} are unproven. "yes" is no opinion: the cell\'s contract tests\npassed ({versions}). '
        "One step lowers the loss; what should move moves, what is frozen does not; a fresh process\ngives the same "
        "logits on a padded "
        "batch of unequal lengths; merged equals unmerged; a batch equals single texts;\nan interrupted run "
        "ends with the "
        "very bits of an uninterrupted one; plain peft loads the same logits from the same folder.\n`make "
        "matrix` runs them "
        "and records the outcome. A row such as `lora+dora` is the method with that option.\n"
    )
    names = families.names()
    yield table(
        ("", *(f"{name}" for name in names)),
        [(f"`{row}`", *(_MARKS[cells[name].state] for name in names)) for row, cells in matrix.items()],
    )
    yield from describe_refusals(matrix)
    yield describe_means(record["mean"], names)
    if writing := build_writing_matrix():
        yield "### Models that write\n"
        yield (
            "The same for `task=generation`, on the families that can write: a fresh load gives the trained logits, "
            "merged or not,\npacked rows have the losses and gradients of padded ones, and a resumed run ends with "
            "the weights of an uninterrupted one.\n"
        )
        yield table(
            ("", *next(iter(writing.values()))),
            [(f"`{row}`", *(_MARKS[cell.state] for cell in cells.values())) for row, cells in writing.items()],
        )
        yield from describe_refusals(writing)


def describe_means(proven: Mapping[str, Sequence[str]], names: Sequence[str]) -> str:
    """Return the cells that are proven with mean pooling, too."""
    every = [name for name in names if all(name in found for found in proven.values())]
    others = {row: [name for name in found if name not in every] for row, found in proven.items()}
    listed = [f"every row on {', '.join(every)}"]
    listed += [f"`{row}` on {', '.join(found)}" for row, found in others.items() if found]
    return (
        "Reload, merge, resume and loading without textune are proven with mean pooling below a solved head, too:\n"
        f"{'; '.join(listed)}.\n"
    )


def describe_refusals(matrix: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the reasons of a matrix's refusals."""
    yield "Refused:\n"
    for method, reason, refused in collect_refusals(matrix):
        yield f"- `{method}` on {', '.join(refused)}: {reason}."
    yield ""


def collect_refusals(matrix: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield method, reason and families of the refused cells, families of one reason together."""
    for row, cells in matrix.items():
        if "+" in row:
            continue
        reasons: dict[str, list[str]] = {}
        for family, cell in cells.items():
            if cell.state == "refused":
                reasons.setdefault(cell.reason, []).append(family)
        for reason, found in reasons.items():
            yield row, reason, found


def describe_pooling(family: Family) -> str:
    """Return whether a family reads the mean over tokens, and how an export does it."""
    from textune.backbones.pooling import explain_refusal
    from textune.backbones.pooling_layer import can_add_layer

    if (reason := explain_refusal(family)) is not None:
        return f"refused: {reason}"
    if family.pooling_setting is not None:
        return f"native (`{family.pooling_setting}`)"
    return "supported; merged: one more layer" if can_add_layer(family) else "supported; merged: two lines of code"


def describe_quirks() -> Iterator[str]:
    """Yield what is odd about families, and what happens to one that is not in the table."""
    from textune.backbones.families import families

    yield "## Families\n"
    rows = [
        (name, "decoder" if f.decoder else "encoder", ", ".join(f"`{n}`" for n in f.linear),
         ", ".join(f"`{n}`" for n in f.head_modules), describe_pooling(f), f.quirk)
        for name, f in families
    ]  # fmt: skip
    yield table(("family", "kind", "LoRA adapts", "trained whole and saved", "mean pooling", "quirk"), rows)
    yield (
        "A family is a model's `model_type`. For one that is not in the table textune lays the model out "
        "without weights and "
        "guesses its\nlayers, linear modules and head; the run says so. Adapters, IA3 and prefixes are then "
        "not supported, only texts of one length share a forward\npass (whether it minds padding is not known), "
        "and the reload test at the end of every run still "
        "decides whether what was\nsaved is what was trained.\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
