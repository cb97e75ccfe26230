"""Draws the slides' pictures as SVG from the recorded results: python slides/pictures.py FOLDER.

Each picture names the file under results/ that its figures are from; nothing is drawn that was not measured, but for
the parameters of a matrix, which are counted. The same results give the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[1] / "results"
INK, MUTED, LINE, BLUE, ORANGE = "#1d1f23", "#595e67", "#dbd8cf", "#1d5c9f", "#a3480a"
STYLE = {
    "figure.figsize": (9.6, 4.3), "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "font.size": 14, "axes.edgecolor": LINE, "axes.labelcolor": MUTED, "xtick.color": MUTED, "ytick.color": INK,
    "text.color": INK, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "textune",
    "legend.frameon": False, "axes.axisbelow": True, "grid.color": LINE,
}  # fmt: skip


def read_lines(name: str) -> list[dict[str, Any]]:
    """Return the JSON lines of a results file."""
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


def open_picture() -> tuple[Figure, Axes]:
    """Return an empty picture in the slides' style."""
    figure: Figure = plt.figure(layout="constrained")
    return figure, figure.subplots()


def name_source(figure: Figure, words: str) -> None:
    """Say under the picture where its figures are from."""
    figure.supxlabel(words, x=1.0, ha="right", fontsize=11, color=MUTED)


def draw_ranks() -> Figure:
    """Numbers that LoRA trains beside a 768 x 768 matrix, by rank."""
    figure, axes = open_picture()
    ranks, whole = [1, 2, 4, 8, 16, 32, 64], 768 * 768
    counts = [2 * 768 * r for r in ranks]
    bars = axes.bar([str(r) for r in ranks] + ["the matrix"], [*counts, whole], color=[BLUE] * len(ranks) + [ORANGE])
    axes.bar_label(bars, [f"{n:,}\n{n / whole:.1%}" for n in counts] + [f"{whole:,}"], fontsize=12, padding=3)
    axes.set(yscale="log", xlabel="rank r", ylabel="numbers, log scale", ylim=(800, 4e6))
    name_source(figure, "counted: 2 x 768 x r")
    return figure


def draw_methods() -> Figure:
    """Accuracy by the numbers trained, method by method."""
    figure, axes = open_picture()
    places = {"lora": (10, -14), "qlora": (10, 6), "adapter": (-34, 26), "ia3": (-8, 16), "ln_tuning": (-80, 4),
              "bitfit": (-34, -34), "prefix": (10, -14), "vera": (8, 6), "full": (-42, 8)}  # fmt: skip
    runs = defaultdict[str, list[dict[str, Any]]](list)
    for line in read_lines("methods.jsonl"):
        runs[line["method"]].append(line)
    for method, lines in runs.items():
        y, low, high = (100 * sum(values) / len(lines) for values in zip(*map(_read_accuracy, lines), strict=True))
        colour = ORANGE if method == "full" else BLUE
        axes.errorbar(lines[0]["trainable"], y, [[y - low], [high - y]], fmt="o", color=colour, ecolor=LINE,
                      elinewidth=3, markersize=8)  # fmt: skip
        place = places.get(method, (10, -4))
        axes.annotate(method, (lines[0]["trainable"], y), place, textcoords="offset points", fontsize=13)
    axes.set(xscale="log", xlabel="numbers trained, log scale", ylabel="accuracy, %", xlim=(400, 8e7), ylim=(70, 87))
    axes.grid(axis="y")
    name_source(figure, "results/methods.jsonl: MiniLM, 2,000 film sentences, 1,000 test rows, three seeds; bars: 95%")
    return figure


def _read_accuracy(line: dict[str, Any]) -> tuple[float, float, float]:
    low, high = line["interval"]
    return line["accuracy"], low, high


def draw_costs() -> Figure:
    """Megabyte on disk, and memory while training, by method."""
    chosen = ("full", "lora", "qlora", "adapter", "prefix", "bitfit", "ia3", "head")
    lines = {line["method"]: line for line in read_lines("method_costs.jsonl") if line["size"] == "distilbert"}
    figure: Figure = plt.figure(layout="constrained")
    disk, memory = figure.subplots(1, 2, sharey=True)
    for axes, key, title, form in ((disk, "disk_mb", "MB on disk, log scale", "{:,.1f}"),
                                   (memory, "peak_mb", "MB of memory to train", "{:,.0f}")):  # fmt: skip
        values = [lines[m][key] for m in chosen]
        bars = axes.barh(chosen, values, color=[ORANGE] + [BLUE] * (len(chosen) - 1))
        axes.bar_label(bars, [form.format(v) for v in values], padding=4, fontsize=12)
        axes.set_title(title, fontsize=14, color=MUTED, loc="left")
        axes.spines["bottom"].set_visible(False)
    disk.set(xscale="log", xlim=(1, 1500))
    memory.set_xlim(0, 2400)
    for axes in (disk, memory):
        axes.xaxis.set_visible(False)
    disk.invert_yaxis()
    name_source(figure, "results/method_costs.jsonl: DistilBERT, 16 rows of 128 tokens, fp32, one CPU")
    return figure


def draw_qlora() -> Figure:
    """Memory that a base takes in fp32 and in 4 bits."""
    lines = {line["size"]: line for line in read_lines("qlora_memory.jsonl")}
    figure, axes = open_picture()
    names = [f"{size}: {part}" for size in lines for part in ("weights", "resident memory")]
    keys = [(size, key) for size in lines for key in ("weights_mb", "resident_mb")]
    for offset, method, colour in ((-0.2, "lora", ORANGE), (0.2, "qlora", BLUE)):
        values = [lines[size][method][key] for size, key in keys]
        bars = axes.barh([i + offset for i in range(len(keys))], values, 0.38, color=colour,
                         label={"lora": "fp32 (LoRA)", "qlora": "4 bits (QLoRA)"}[method])  # fmt: skip
        axes.bar_label(bars, [f"{v:,.0f}" for v in values], padding=4, fontsize=12)
    axes.set_yticks(range(len(keys)), names)
    axes.set(xlim=(0, 850), xlabel="MB")
    axes.invert_yaxis()
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.93))
    name_source(figure, "results/qlora_memory.jsonl")
    return figure


def draw_runs() -> Figure:
    """Untuned, TF-IDF and tuned accuracy on six data sets."""
    names = {"sms_spam": "SMS spam", "ag_news": "AG News", "amazon_reviews, title and content": "Amazon reviews",
             "banking77": "Banking77", "rotten_tomatoes": "Rotten Tomatoes"}  # fmt: skip
    lines = {line["run"]: line for line in read_lines("first_runs.jsonl") if line["run"] in names}
    figure, axes = open_picture()
    for i, run in enumerate(names):
        base = lines[run]["baselines"]
        interval = lines[run]["intervals"]["accuracy"]
        x = {key: 100 * base[key]["accuracy"] for key in ("base", "tfidf", "tuned")}
        axes.plot([100 * interval["low"], 100 * interval["high"]], [i, i], color=BLUE, linewidth=5, alpha=0.35)
        for key, colour, marker in (("base", MUTED, "o"), ("tfidf", ORANGE, "s"), ("tuned", BLUE, "D")):
            axes.plot(x[key], i, marker, color=colour, markersize=10)
        axes.annotate(f"{x['tuned']:.1f}", (x["tuned"], i), (0, 12), textcoords="offset points", ha="center")
    for label, colour, marker in (("before tuning", MUTED, "o"), ("TF-IDF", ORANGE, "s"), ("tuned", BLUE, "D")):
        axes.plot([], [], marker, color=colour, label=label, markersize=9)
    axes.set_yticks(range(len(names)), names.values())
    axes.set(xlim=(-2, 103), ylim=(len(names) - 0.5, -0.7), xlabel="test accuracy, %")
    axes.grid(axis="x")
    axes.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.4, 1.0))
    name_source(figure, "results/first_runs.jsonl: MiniLM, LoRA, one seed; bars: 95%")
    return figure


def draw_engines() -> Figure:
    """Tokens a second while training, by engine and precision."""
    names = {"P": "a plain loop, peft", "reference": "textune, reference", "lean": "textune, lean"}
    lines = {(line.get("side"), line.get("precision")): line for line in read_lines("engines.jsonl")}
    sides = {side: name for side, name in names.items() if {(side, "fp32"), (side, "bf16")} <= lines.keys()}
    figure, axes = open_picture()
    for offset, precision, colour in ((-0.2, "fp32", ORANGE), (0.2, "bf16", BLUE)):
        values = [lines[side, precision]["tokens_per_second"] for side in sides]
        bars = axes.barh([i + offset for i in range(len(sides))], values, 0.38, color=colour, label=precision)
        axes.bar_label(bars, [f"{v:,}" for v in values], padding=4, fontsize=12)
    axes.set_yticks(range(len(sides)), sides.values())
    axes.set(xlabel="tokens a second in training", xlim=(0, 6200))
    axes.invert_yaxis()
    axes.legend(loc="upper right")
    name_source(figure, "results/engines.jsonl: MiniLM, LoRA, first token, Amazon reviews, two CPU cores, torch 2.13")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "ranks": draw_ranks, "methods": draw_methods, "costs": draw_costs, "qlora": draw_qlora, "runs": draw_runs,
    "engines": draw_engines,
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Write every picture into the folder."""
    if len(arguments) != 1:
        sys.exit("usage: python slides/pictures.py FOLDER")
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for name, draw in PICTURES.items():
            figure = draw()
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
