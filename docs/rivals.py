"""The part of docs/accuracy.md on costlier rivals, from results/accuracy_rivals.jsonl."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from leads import measure_lead, unpack
from methods_page import table

RESULTS = Path(__file__).parents[1] / "results" / "accuracy_rivals.jsonl"
NAMES = {"setfit": "SetFit", "full": "full fine-tuning", "trainer": "Trainer + peft"}

_OPENING = """
## Costlier rivals

On the same draws and test rows, from the same weights (`results/accuracy_rivals.jsonl`, `python
benchmarks/accuracy_rivals.py --data FOLDER --output FILE --rivals setfit full trainer`). A cell that is not listed has
not been run.
"""
_ABOUT = {
    "setfit": "version 1.2.0 with its defaults, in an environment of its own: one epoch of pairs, but at most 500\n"
    "  steps, then logistic regression. It does not learn from the class names, as textune does with at most 16 rows\n"
    "  per class.",
    "full": "textune's `method=full`, every setting by its own rules.",
    "trainer": "as tutorials set it, LoRA of rank 8 on query and value, 3 epochs of batches of 16 at 1e-3.",
}


def describe_rivals(
    groups: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]], names: Mapping[str, str], path: Path = RESULTS
) -> Iterator[str]:
    """Yield the section: a line for each rival, data set and size over the draws that both have."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    rows = []
    leads: dict[str, list[float]] = {rival: [] for rival in NAMES}
    for rival in NAMES:
        for (data, size), group in groups.items():
            found = {x["draw"]: x for x in lines if (x["rival"], x["data"], x["size"]) == (rival, data, size)}
            pairs = [(cell, found[cell["draw"]]) for cell in group if cell["draw"] in found and "right" in cell]
            if not pairs:
                continue
            bits = [
                (unpack(cell["right"]["textune"], cell["test_rows"]), unpack(line["right"], line["test_rows"]))
                for cell, line in pairs
            ]
            lead = measure_lead(bits)
            leads[rival].append(lead.mean)
            mine = statistics.mean(100 * cell["scores"]["textune"] for cell, _ in pairs)
            other = statistics.mean(100 * line["value"] for _, line in pairs)
            steps = statistics.mean(line["steps"] for _, line in pairs) if "steps" in pairs[0][1] else None
            rows.append(
                (
                    NAMES[rival], data, names.get(size, size), str(len(pairs)), f"**{mine:.1f}**", f"{other:.1f}",
                    str(lead), "–" if steps is None else f"{steps:.0f}",
                )
            )  # fmt: skip
    if not rows:
        return
    yield _OPENING
    yield "".join(f"- **{NAMES[rival]}**: {text}\n" for rival, text in _ABOUT.items() if leads[rival])
    yield table(("rival", "data", "rows", "draws", "textune", "rival's", "lead", "rival's steps"), rows)
    if leads["setfit"]:
        mean, cells = statistics.mean(leads["setfit"]), len(leads["setfit"])
        yield (
            f"Against SetFit the goal is to be level or ahead on the mean. {'Met' if mean >= 0 else 'Missed'}: textune "
            f"has a lead of {mean:+.1f} points, the mean of {cells} cell{'s' if cells > 1 else ''}."
        )
