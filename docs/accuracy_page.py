"""docs/accuracy.md: the defaults beside simple rivals, from results/accuracy_frontier.json.

`docs/generate.py` writes it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from goals import CHEAP_RIVALS, SIZE_NAMES, average, describe_goals, find_lead
from leaderboard_page import OLDER, read_cells, summarise
from leaderboard_page import RESULTS as TODAY
from methods_page import table
from rivals import describe_rivals
from rule_figures import describe_trials

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "accuracy_frontier.json"
RELEASED = RESULTS.with_name("released_default.jsonl")

_OPENING = """# Accuracy beside simple rivals

This page is written by `make docs` from `results/accuracy_frontier.json`, which `python
benchmarks/accuracy_frontier.py --data FOLDER --output results/accuracy_frontier.json` fills, cell by cell, cheapest
first. A cell that is not listed has not been run.

MiniLM, every setting of textune by its own rules, two CPU cores. The rules were found on splits of training rows
(`results/rules.jsonl`); test rows are read once per cell, and again where a rule has changed since. Calibration
errors are older than the prior of the temperature for amazon_reviews and rotten_tomatoes with 1,000 rows, for
banking77 but with 1,000, and for one draw of sms_spam with all rows; it matters where few rows fit the temperature.
Most cells are older than the rule that equal texts share a fold; sms_spam was run anew with 64 per class and 1,000
rows. Cells of imdb and go_emotions, of ag_news and amazon_reviews with all rows, three draws of amazon_reviews with
64 per class, and one draw each of ag_news with 1,000 and of banking77 with all rows ran on a processor that
multiplies in bf16, the others in fp32. Rotten Tomatoes has no test file: its 1,000 test rows are mostly others than
the demo's; runs that the rules were found on may have learned from them, and were judged by none of them. A draw is a
set of training rows and a seed. The score is accuracy, for GoEmotions micro F1; figures are means over the draws. One
exception: while the probe's solver was written, its accuracy on Banking77's test rows was looked at, though its
settings were chosen on training rows of other data sets.

- **embeddings + LR**: scikit-learn's logistic regression on L2-normalised mean embeddings of the same backbone, C =
  10 with 8 rows per class and for GoEmotions, else chosen by 3-fold cross-validation. For GoEmotions its thresholds
  are tuned on the run's validation rows, as textune's are.
- **TF-IDF + LR**: logistic regression on words and pairs of words.
- **probe**: what `method=head` gives, textune's own logistic regression on the same embeddings. With at most 16 rows
  per class it learns from the class names, too, as textune does; the two rivals above do not.
- **lead**: textune minus the rival on the same test rows, in points, with a 95% interval that holds both the draws and
  the test rows: Student's t over the draws and the standard error over test rows, added in quadrature.
- **ECE**: expected calibration error of textune's probabilities in 15 bins, in points. **seconds**: the whole run,
  with baselines, reload test and report, as the median over the draws; most cells were run while the machine did
  other work, and some were halted for it, so they say how long at most. **recorded**: the
  day. Each cell of the file also names a commit: the one that recorded it, or, in cells run from now on, the one it
  was run at.
"""


def build_accuracy_page(path: Path = RESULTS) -> str:
    """Return the whole page as Markdown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.is_file() else []
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["data"], cell["size"]), []).append(cell)
    parts = [
        _OPENING,
        *describe_cells(groups),
        *describe_goals(groups),
        *describe_rivals(groups, SIZE_NAMES),
        *describe_released(groups),
        *describe_trials(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def describe_cells(groups: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the table: a line for each data set and size, its draws together."""
    rows = []
    for (data, size), group in groups.items():
        leads = [find_lead(group, rival) for rival in CHEAP_RIVALS]
        calibration = [cell["ece"] for cell in group if "ece" in cell]
        rows.append(
            (
                data, SIZE_NAMES[size], str(len(group)), f"**{average(group, 'textune')}**",
                average(group, "embeddings"), average(group, "tfidf"), average(group, "probe"),
                *("–" if lead is None else str(lead) for lead in leads),
                f"{100 * statistics.mean(calibration):.1f}" if calibration else "–",
                f"{statistics.median(cell['seconds'] for cell in group):.0f}", _write_dates(group),
            )
        )  # fmt: skip
    yield table(
        (
            "data", "rows", "draws", "textune", *CHEAP_RIVALS.values(), "probe",
            *(f"lead over {name}" for name in CHEAP_RIVALS.values()), "ECE", "seconds", "recorded",
        ),
        rows,
    )  # fmt: skip


def _write_dates(group: Sequence[Mapping[str, Any]]) -> str:
    """Return from when to when the cells were recorded."""
    days = sorted({cell["date"] for cell in group})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def describe_released(groups: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield what the defaults before these rules reach on the same draws and test rows."""
    runs = [json.loads(line) for line in RELEASED.read_text(encoding="utf-8").splitlines()]
    rows = []
    for (data, size), group in groups.items():
        older = {run["draw"]: 100 * run["accuracy"] for run in runs if (run["data"], run["size"]) == (data, size)}
        now = [cell for cell in group if cell["draw"] in older]
        if older and len(now) == len(older):
            before = statistics.mean(older.values())
            rows.append((data, SIZE_NAMES[size], str(len(older)), f"{before:.1f}", average(now, "textune")))
    if rows:
        yield "\n## The defaults before these rules\n"
        yield (
            "Commit f213f65 (first token, random head, twice the rate), in fp32 (not recorded for amazon_reviews), on\n"
            "the same draws and test rows (`results/released_default.jsonl`, `python benchmarks/released_default.py\n"
            "--checkout FOLDER --data FOLDER --output FILE`; the last row with `--only amazon_reviews --sizes 1000`).\n"
            "The floor of amazon_reviews with 1,000 rows goes back to a measurement of that commit on the first 1,000\n"
            "rows of both files. There it "
            f"reached {_read_amazon(OLDER)}, and today's defaults reach "
            f"{_read_amazon(TODAY)} ([the results table](leaderboard.md)).\n"
        )
        yield table(("data", "rows", "draws", "f213f65", "textune now"), rows)


def _read_amazon(path: Path) -> str:
    """Return LoRA's accuracy on the first 1,000 reviews, and over how many seeds."""
    score = summarise(read_cells(path)["amazon_reviews", "lora"])
    return f"{100 * score.mean:.1f} ({score.seeds} seeds)"
