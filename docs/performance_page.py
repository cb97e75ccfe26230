"""docs/performance.md: what makes training and prediction fast, as measured. `docs/generate.py` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goal_figures import describe_pooling, describe_probe, describe_time_to_accuracy
from methods_page import read_lines, table
from search_figures import describe_plan, describe_sweep

RESULTS = Path(__file__).parents[1] / "results"

_OPENING = """# Performance

This page is written by `make docs` from the files in `results/`; the command that rebuilds each file stands beside
its table. Absolute speeds are one machine's. Ratios are between sides that took turns on it, and travel better.

**Age.** "What mean pooling costs" and "Time to accuracy" are of 1 December 2026 (commit bc91d49), Forecasts and
Starting of 29 November; "Accuracy beside others" says its own. Everything else is of 25 November or before (commits
72623af to e1e1ecc), with older defaults: first token, random head. Today MiniLM is read by its mean, so its last
layer is computed whole, and the head is solved first.

The work: MiniLM (6 layers, 384 wide), LoRA of rank 8 on all linear layers, Amazon reviews of 166 tokens on average,
at most 512, batches of 16.

## Mechanisms

"""

_MECHANISMS: tuple[tuple[str, str, str], ...] = (
    ("packing and length buckets", "Engine and batches, against transformers' own padded pass in random batches",
     "All that follows together, but for bf16."),
    ("packing", "The engine alone, against transformers' own padded pass in batches of like length",
     "The texts of a batch stand end to end in one run of tokens: linear layers, norms and activations see tokens "
     "only, and texts attend in groups of like length."),
    ("length buckets", "Length buckets",
     "Batches are drawn from shuffled buckets of like length, seeded. Packed texts need them less."),
    ("bf16", "bf16 where it is fast",
     "Products and the states between layers are bf16 where a probe finds bf16 products clearly faster; parameters, "
     "gradients of parameters, norms' weights and the head stay fp32. Most laptops lack fast bf16, and get fp32."),
    ("merged LoRA weights", "LoRA as one product",
     "The update is added into the weight once per step, in fp32, rounded once. The backward pass makes the "
     "gradients of "
     "A and B and never that of the weight. In passes under 1,024 tokens the update is computed beside the weight."),
    ("first token only in the last layer", "The last layer for one token",
     "Where the head reads each text's first token (not MiniLM's default today), nothing else is computed above the "
     "last layer's keys and values."),
    ("plain attention", "Attention by plain products",
     "Below a length that a probe finds, plain products and softmax over a few megabytes at a time beat PyTorch's "
     "fused "
     "attention on a CPU. Where fused attention wins, it is taken."),
    ("choice of attention by a probe", "The probe itself, against plain products at every length",
     "It takes the form that was faster when it was asked; here that was not the faster one."),
    ("texts attend in groups", "Groups of like length",
     "Texts within a tenth of the same length share their products; the few cells too many are masked."),
    ("groups that fit the caches", "Groups that fit the caches", "A group's attention weights are at most 4 MB."),
    ("fused query, key and value", "One product for query, key and value", "Three weights of one input are one."),
)  # fmt: skip


def build_performance_page() -> str:
    """Return the whole page as Markdown."""
    parts = [*describe_mechanisms(), *describe_pooling(), *describe_prefix(), *describe_training(), *describe_tokens()]
    parts += [*describe_accuracy(), *describe_inference(), *describe_sweep(), *describe_plan(), *describe_growth()]
    parts += [*describe_probe(), *describe_time_to_accuracy(), *describe_start()]
    return _OPENING + "\n".join([*parts, _BOUNDS]).rstrip() + "\n"


def find(file: str, **wanted: Any) -> list[dict[str, Any]]:
    """Return the lines of a results file that have these values."""
    lines = read_lines(RESULTS / file)
    return [line for line in lines if all(line.get(key) == value for key, value in wanted.items())]


def describe_mechanisms() -> Iterator[str]:
    """Yield each mechanism and what switching it off costs."""
    found = {line["side"]: line for line in find("ablation.jsonl", figure="ablation, training")}
    rows = []
    for key, name, text in _MECHANISMS:
        line = found.get(f"without: {key}")
        rows.append((f"**{name}.** {text}", "not measured" if line is None else f"{line['value']:.2f}"))
    yield table(("what", "time of a training step without it, over with it"), rows)
    whole = found.get("all mechanisms on")
    if whole:
        yield (
            f"With all of them {whole['documents_per_second']:.1f} documents a second, "
            f"{whole['tokens_per_second']:,} tokens "
            f"a second, in steady state ({whole['precision']}, {whole['machine']}). One mechanism is switched off "
            f"at a time; the shares overlap and do not multiply. Three passes over {whole['rows']} texts; the "
            "same setting varied by 6%, so shares below about 1.1 are not shown to be real.\nRebuild: "
            "`python benchmarks/ablation.py --data FOLDER --output results/ablation.jsonl`\n"
        )
    lines = {line["side"]: line for line in find("ablation.jsonl", figure="ablation, allocator")}
    if lines:
        plain, tuned = (lines[name]["value"] for name in ("plain", "tuned"))
        yield (
            "**The allocator.** Every training step frees large blocks of memory that the next step allocates again. "
            "By default glibc returns them to the system in between. `textune train`, `resume`, `sweep` and `demo` "
            "call mallopt(3) so that it keeps them "
            "(`--verbose` says so, `TEXTUNE_MALLOC=off` changes that); a library call never does. A step without it "
            "takes "
            f"{plain:.2f} times as long. glibc's tunables set before the start, which also bring huge pages, take "
            f"{tuned:.2f} "
            "times the time of mallopt in this short measurement; in the whole jobs below it is the other way round, "
            "so neither is shown to be faster. The command does not start itself a second time for them: a second "
            "interpreter costs a start, and whoever wants them can set `GLIBC_TUNABLES`.\n"
        )
    for line in find("kernels.jsonl", figure="kernels kept"):
        yield (
            "**Compiled kernels.** oneDNN compiles each product for its shape and keeps 1,024 of them, PyTorch's layer "
            "above it as many again; packed texts give new shapes at every step, and memory grows with each. The "
            f"command line keeps {line['kernels']}: {line['rows']:,} reviews, one epoch, take "
            f"{line['anonymous_mb']:,.0f} MB of anonymous memory instead of {line['their_anonymous_mb']:,.0f}, and "
            f"{line['seconds']:.0f} s of training instead of {line['their_seconds']:.0f} ({line['repetitions']} "
            "repetitions, medians). The memory of training and of growth below was measured before that. Rebuild: "
            "`python benchmarks/compiled_kernels.py --data FOLDER --output results/kernels.jsonl`\n"
        )
    merged = {line["side"]: line for line in find("ablation.jsonl", figure="ablation, inference")}
    if merged:
        laid = merged.get("without: laid-out weights and fused GELU")
        told = "" if laid is None else f" Without that a pass takes {laid['value']:.2f} times as long."
        yield (
            "**In prediction** the adapter is merged, weights are laid out beforehand as the processor's bf16 "
            "kernels want "
            f"them, and GELU is computed inside the product before it.{told}\n"
        )


def describe_prefix() -> Iterator[str]:
    """Yield what keeping the output of frozen layers saves."""
    yield "## Frozen layers run once\n"
    yield (
        "Where the lowest layers are not trained, their output is the same in every epoch: with "
        "`method.top_layers=2`\nthat of all but two. The lean engine computes it once and keeps it in "
        "the cache "
        "folder,\nmemory-mapped, up to 4 GB a run. The key holds the bytes of the frozen weights and of the tokens, "
        "so another "
        "model,\nother data or other arithmetic never find it, and later runs over the same rows do. "
        "`prefix_cache=false` "
        "switches it\noff. It is another method than LoRA on all layers: measure what it costs on your data.\n"
    )
    lines = find("prefix.jsonl", figure="frozen layers kept")
    if lines:
        rows = []
        for line in lines:
            if line["side"] == "head":
                continue  # measured while `method=head` still took steps; now its head is solved
            times = [
                f"{line['seconds']:.1f} ({line['value']:.1f})",
                f"{line['again_seconds']:.1f} ({line['again']:.1f})",
            ]
            rows.append((line["side"], f"{line['without_seconds']:.1f}", *times, f"{line['megabytes']:,.0f} MB"))
        yield table(
            ("1,000 rows, 4 epochs", "seconds without", "with (so many times as fast)", "a second run", "on disk"), rows
        )
        yield "Rebuild: `python benchmarks/prefix.py --data FOLDER --output results/prefix.jsonl`\n"


_SIDES = {
    "N": "Trainer and peft, fp32, padded to 512: what tutorials do",
    "D": "Trainer and peft, fp32, padded to the longest of the batch",
    "S": "Trainer and peft, bf16 autocast, grouped by length: what an expert does",
    "P": "a plain loop, peft over a bf16 frozen base, length buckets, no dropout",
}
_SIDES_IN_FP32 = {
    "S": "Trainer and peft, fp32, grouped by length",
    "P": "a plain loop, peft, fp32, length buckets, no dropout",
}
_GOALS = {"N": 40, "D": 26, "S": 6.5, "P": 2.6}
_PRODUCTS, _OPERATIONS, _TOKENS = 0.43e12, 48e6, 165.9
"""bf16 operations a second that products reach here; operations of a LoRA step for a token; tokens of a review."""


def describe_training() -> Iterator[str]:
    """Yield how many times as fast training is as the baselines."""
    lines = find("training.jsonl", figure="training, ours against others")
    if not lines:
        return
    yield "## Training beside others\n"
    yield (
        "Whole jobs, from the start of the process to its end: 1,000 reviews, 4 epochs. textune's time holds all that "
        "`textune train`\ndoes beside training: checks of the data, the TF-IDF baseline, the untuned model, the "
        "test of the "
        "reload, the report.\nThe others only train. Each side is a process of its own, in turns. The others took the "
        "part that stands in "
        "brackets and are\nscaled (start-up + seconds per document x documents); textune ran whole. N, D and S have "
        "transformers' dropout of 0.1, P and\ntextune none.\n"
    )
    titles = {
        ("tuned", "auto"): "glibc's tunables for every side",
        ("own", "auto"): "as people get it: glibc as it is for the others, mallopt by the command for textune",
        ("tuned", "fp32"): "fp32 only, glibc's tunables for every side: most laptops have no fast bf16",
    }
    for (allocator, precision), title in titles.items():
        own = [line for line in lines if (line["allocator"], line["precision_asked"]) == (allocator, precision)]
        if not own:
            continue
        count = own[-1]["repetitions"]
        told = f"{count} repetitions, medians" if count > 1 else "one repetition"
        yield f"**{title[0].upper()}{title[1:]}** ({told}):\n"
        rows = []
        for line in own:
            median = line["median"]
            headline = (allocator, precision) == ("tuned", "auto")
            limit = _PRODUCTS / _OPERATIONS / _TOKENS * median["steady_seconds_per_document"]
            goal = f"{_GOALS[line['side']]:g} ({limit:.1f})" if headline else ""
            side = _SIDES_IN_FP32.get(line["side"]) if precision == "fp32" else None
            rows.append((
                f"{line['side']}: {side or _SIDES[line['side']]} ({_part_of(median)})",
                f"{median['wall_seconds']:,.0f}",
                f"{1 / median['steady_seconds_per_document']:.1f}", f"{median['peak_rss_anon_mb']:,.0f}",
                f"**{line['wall_ratio']:.1f}**", f"{line['steady_ratio']:.1f}", *([goal] if headline else []),
            ))  # fmt: skip
        ours = own[-1]["median_of_ours"]
        rows.append(("textune", f"{ours['wall_seconds']:,.0f}", f"{1 / ours['steady_seconds_per_document']:.1f}",
                     f"{ours['peak_rss_anon_mb']:,.0f}", *[""] * (len(rows[0]) - 4)))  # fmt: skip
        header = ["side", "seconds", "documents/s, steady", "memory MB", "textune is so many times as fast", "steady",
                  "goal (limit)"]  # fmt: skip
        yield table(tuple(header[: len(rows[0])]), rows)
    yield (
        "The limit, in brackets, is what would be reached if a step were its matrix products alone, at the speed that "
        "bf16 products have on these cores\n(0.43 TFLOP/s together), and nothing else took any time. The goals were "
        "set on cores "
        "whose bf16 products are twice as fast: here\nthe first two cannot be reached by any engine.\n\n"
    )
    yield (
        "Rebuild: `python benchmarks/training.py --data FOLDER --output results/training.jsonl`, also with\n"
        "`--allocator own` and `--precision fp32`. Memory is the peak of anonymous memory (RssAnon).\n"
    )


def _part_of(median: dict[str, Any]) -> str:
    """Return how much of the job was run: what is scaled says it first."""
    return str(median["scaled"] or "all").partition(";")[0]


def describe_tokens() -> Iterator[str]:
    """Yield what padding would have cost."""
    wanted = {"figure": "tokens computed per epoch", "allocator": "tuned", "precision_asked": "auto"}
    found = {line["side"]: line for line in find("training.jsonl", **wanted)}
    if not found:
        return
    yield "**Tokens of padding.** Tokens that one epoch of 1,000 reviews computes under each side's batches:\n"
    names = {side: side for side in _SIDES} | {"ours": "textune"}
    rows = [(names[side], f"{line['value']:,}", f"{line['ratio_to_ours']:.2f}") for side, line in found.items()]
    yield table(("side", "tokens", "over textune's"), rows)


_ROWS_IN_ALL = {"ag_news": 4_990, "amazon_reviews": 2_000}


def describe_accuracy() -> Iterator[str]:
    """Yield whether speed costs accuracy."""
    lines = find("accuracy.jsonl", figure="accuracy, lean beyond others")
    if not lines:
        return
    yield "## Accuracy beside others\n"
    yield (
        "The same rows, rate (1e-3, twice today's) and seeds, answers paired on the same test rows. The interval holds "
        "rows and seeds, as that of\n`textune compare` does, so it is wide with two or three seeds. Equal means: the "
        "lower bound above -1 point; where it is below,\nequality is not shown. A run that collapsed is listed with "
        "all seeds, and again without its seed.\n"
    )
    names = {"P": "plain loop (P)", "reference": "reference engine"}
    rows = []
    for line in lines:
        low, high = line["interval"]
        rows.append((
            f"{line['data']}, {line['train_rows'] or _ROWS_IN_ALL[line['data']]:,} rows, {plural_of(line['epochs'])}",
            f"{line['rows']:,}",
            names[line["side"]], ", ".join(map(str, line["seeds"])), _with_seeds(line, "lean"),
            _with_seeds(line, "other"), f"{line['value']:+.2f} ({low:+.2f} to {high:+.2f})",
            "equal" if low > -1 else "equality not shown",
        ))  # fmt: skip
    header = ("data", "test rows", "beside", "seeds", "lean engine", "other", "difference in points (95% interval)",
              "verdict")  # fmt: skip
    yield table(header, rows)
    yield (
        "In the lines of four epochs the lean engine has its head solved first and pools by the mean, as is today's "
        "default, and the plain\nloop has a random head on the first token, as people write it; fp32, one thread. In "
        "the others both have the latter.\nThe collapsed run is the plain loop's: at this rate of 1e-3 it stays "
        "at chance on one seed of five, as it did before in bf16.\n"
    )
    yield "Rebuild: `python benchmarks/accuracy.py --data FOLDER --output results/accuracy.jsonl`\n"


def plural_of(epochs: float) -> str:
    """Write a number of epochs."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def _with_seeds(line: dict[str, Any], key: str) -> str:
    """Write a mean, and each seed's figure where it is known."""
    each = ", ".join(f"{100 * value:.1f}" for value in line.get(f"each_{key}", ()))
    return f"{line[key]:.2%}" + (f" ({each})" if each else "")


def describe_inference() -> Iterator[str]:
    """Yield how fast texts are classified."""
    lines = find("inference.jsonl", figure="inference, textune against others")
    if not lines:
        return
    yield "## Classifying texts\n"
    yield "500 reviews on two cores, tokenising included, loading not; one text at a time in the last column.\n"
    ours = lines[-1]["median_of_textune"]
    rows = [_row_of_inference("textune", ours, None)]
    rows += [_row_of_inference(line["side"], line["median"], line["value"]) for line in lines]
    header = (
        "side",
        "arithmetic",
        "documents/s",
        "tokens/s",
        "textune is so many times as fast",
        "accuracy",
        "ms for one text",
    )
    yield table(header, rows)
    yield (
        "The side padded to 512 was measured on fewer rows, its accuracy too. onnxruntime reads textune's exported "
        "folders, texts of\nlike length together. The int8 figures are older than int8's present form, which reads one "
        "text at a time: together, a text's\nanswer depended on the others.\nRebuild: `python benchmarks/inference.py "
        "--data FOLDER --output results/inference.jsonl`\n"
    )


def _row_of_inference(side: str, own: dict[str, Any], ratio: float | None) -> tuple[str, ...]:
    return (side, own["precision"], f"{own['documents_per_second']:,.1f}", f"{own['tokens_per_second']:,.0f}",
            "" if ratio is None else f"{ratio:.1f}", f"{own['accuracy']:.1%}", f"{own['latency_ms']:.1f}")  # fmt: skip


def describe_growth() -> Iterator[str]:
    """Yield how time and memory grow with the rows."""
    lines = find("scaling.jsonl", figure="growth with rows")
    if not lines:
        return
    yield "## From 1,000 to 100,000 rows\n"
    yield "Made sentences of some 14 tokens, one epoch, 500 validation and 500 test rows, batches of 32.\n"
    rows = [(f"{line['rows']:,}", f"{line['wall_seconds']:,.0f}", f"{line['training_seconds']:,.1f}",
             f"{line['seconds_per_1000_rows']:.2f}", f"{line['peak_rss_anon_mb']:,.0f}",
             f"{line['training_rss_anon_mb']:,.0f}") for line in lines]  # fmt: skip
    header = (
        "rows",
        "seconds",
        "of training",
        "training seconds per 1,000 rows",
        "memory MB, whole run",
        "while training",
    )
    yield table(header, rows)
    for line in find("scaling.jsonl", figure="reopening cached tokens"):
        yield (
            f"Tokens of {line['rows']:,} rows ({line['tokens']:,} tokens) are reopened from the cache in "
            f"{line['value']:.1f} ms; making them takes {line['first_ms'] / 1e3:.1f} s.\n"
        )
    yield "Rebuild: `python benchmarks/scaling.py --output results/scaling.jsonl`\n"


def describe_start() -> Iterator[str]:
    """Yield how long the start takes."""
    lines = find("startup.jsonl")
    if not lines:
        return
    yield "## Starting\n"
    rows = [(line.get("side", line["figure"]), f"{line.get('value', line.get('difference_ms')):,.0f}",
             f"{line.get('aim_ms', 150)}") for line in lines]  # fmt: skip
    yield table(("from the shell", "ms", "goal"), rows)
    yield (
        "The first line is beyond the interpreter's own start; the others are from the command to the first label "
        "with an "
        "exported\nmodel, which loads neither torch nor transformers. Medians. Rebuild: `python benchmarks/startup.py "
        "--output results/startup.jsonl`\n"
    )


_BOUNDS = """## What bounds it

On this machine's two cores bf16 products reach 0.38 to 0.44 TFLOP/s together, whatever their layout. A LoRA step
needs 48 MFLOP a token at 128 tokens, so no engine here could train on more than some nine thousand tokens a second.
More than half of a step is such products; attention's small ones take a sixth, softmax a sixteenth, the narrow
products of A and B an eighth. (25 November 2026, commit e4a4f79; not recorded in a file.)

Tried, measured and left out, because they brought nothing: weights laid out beforehand in training, too (they change
at every step); two threads with half a batch each (better on long texts, worse on short ones); groups of exactly
equal length; attention weights made again in the backward pass; fewer tokens at once. `torch.compile` needs 18 to 66
seconds before it starts, and gains nothing on a CPU.

On CUDA the same packs attend in one launch a layer, by PyTorch's flash attention over texts of any length. Where
nothing is trained, packs are filled up to one of a few sizes, and a size that comes again is played from a CUDA graph
instead of launching each kernel (`TEXTUNE_CUDA_GRAPHS=off` leaves that out); a graph that does not give what the pass
gave is not used. Training steps are not recorded: their sizes hardly repeat. No GPU was at hand: all but the kernels
and the recording itself is tested on a CPU, and no figure is claimed.
"""
