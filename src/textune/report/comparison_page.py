"""A comparison as one self-contained HTML page, as Markdown, and as a table for a terminal."""

from __future__ import annotations

import json
from pathlib import Path

from textune.bundle import OF_THE_DESKTOP, check_writable
from textune.errors import ConfigError, flag
from textune.files import PARTIAL, write_text_atomically
from textune.report.comparison import COSTS, FRONTS, Candidate, Comparison, Pair, conclude, format_cost, note
from textune.report.contrast import (
    SLICE_HEADER,
    describe_contrast,
    describe_groups,
    list_contrast_sections,
    list_slice_cells,
)
from textune.report.goal import build_goal_table
from textune.report.html import finish_page, open_templates, write_page
from textune.report.leads import format_p as format_p
from textune.report.markdown import build_table, escape_markdown
from textune.report.pareto import draw_pareto
from textune.report.report_markdown import list_goal_sections
from textune.report.wording import clean_text, name_setting, percent, plural, points, span

_MOST_PAIRS_SHOWN = 15
_MOST_ROWS_SHOWN = 200
_MOST_CANDIDATES_IN_LEAGUE = 20
MARKS = {"training_seconds": "*", "trainable_parameters": "†"}
"""What stands beside a Pareto-optimal cost."""
_MEANINGS = {
    "training_seconds": "Pareto-optimal: no other candidate is as good and trains faster",
    "trainable_parameters": "Pareto-optimal: no other candidate is as good with fewer trainable parameters",
}
_BASELINE = "frozen embeddings + logistic regression: the runs' own baseline. Its time includes its predictions."
_COSTS_OF_A_RUN = ("training_seconds", "run_seconds", "peak_memory_mb")  # the others are the same for all seeds
FILES = ("report.html", "report.md", "compare.json")


def render_comparison(comparison: Comparison, version: str) -> str:
    """Return the HTML page."""
    lowest = min(c.interval.low for c in comparison.table)
    floor = max(0, int(10 * lowest - 0.5)) / 10
    charts = [(key, draw_pareto(comparison.candidates, key, comparison.figure)) for key in FRONTS]
    by_names = {(p.a, p.b): p for p in comparison.pairs} | {(p.b, p.a): p for p in comparison.pairs}
    page = (
        open_templates()
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            version=version,
            legend=list_legend(comparison),
            marks=MARKS,
            league=comparison.candidates[:_MOST_CANDIDATES_IN_LEAGUE],
            pairs=comparison.pairs[:_MOST_ROWS_SHOWN],
            runs=comparison.runs[:_MOST_ROWS_SHOWN],
            more_runs=f"; the first {_MOST_ROWS_SHOWN} of {len(comparison.runs):,}, all are in compare.json"
            if len(comparison.runs) > _MOST_ROWS_SHOWN
            else "",
            common=[(name_setting(name), value) for name, value in comparison.common],
            conclusions=conclude(comparison),
            notes=note(comparison),
            costs=COSTS,
            run_costs={key: COSTS[key] for key in _COSTS_OF_A_RUN},
            format_cost=format_cost,
            format_p=format_p,
            format_mcnemar=format_mcnemar,
            spread=format_spread,
            charts=[(COSTS[key], chart) for key, chart in charts if chart is not None],
            many=len(comparison.pairs) > _MOST_PAIRS_SHOWN,
            pair_of=lambda a, b: by_names[a, b],
            lead_of=lambda a, b: by_names[a, b].test.lead.mean * (1 if by_names[a, b].a == a else -1),
            describe_contrast=describe_contrast,
            describe_groups=describe_groups,
            list_slice_cells=list_slice_cells,
            slice_header=SLICE_HEADER,
            floor=floor,
            goal=build_goal_table(comparison.goal),
            position=lambda share: f"{100 * (share - floor) / (1 - floor):.2f}",
        )
    )
    return finish_page(page)


def render_comparison_markdown(comparison: Comparison, version: str) -> str:
    """Return the comparison as Markdown."""
    rows = plural(comparison.rows, f"{comparison.split} row")
    pairs = [
        (
            f"{p.a} − {p.b}",
            f"{points(p.test.lead.mean)} ({points(p.test.lead.low)} to {points(p.test.lead.high)})",
            format_mcnemar(p),
            format_p(p.test.p),
            format_p(p.adjusted),
            p.verdict,
        )
        for p in comparison.pairs
    ]
    runs = [
        (r.folder, r.candidate, str(r.seed), percent(r.value), percent(r.macro_f1), str(r.test_reads))
        for r in comparison.runs
    ]
    sections = [
        f"# Comparison on {rows}",
        escape_markdown(" ".join(conclude(comparison))),
        build_table(list_header(comparison), [list_cells(c) for c in comparison.table]),
        "Means over the seeds ± standard deviation. 95% intervals, in percent, over rows (Wilson for accuracy with "
        "one seed, else bootstrap) and, with two or more seeds, over seeds (Student's t).",
        *(f"- {escape_markdown(line)}" for line in list_legend(comparison)),
        *(f"- {escape_markdown(n)}" for n in note(comparison)),
        *list_goal_sections(comparison.goal, 2),
        "## Pairwise differences on the same rows" if pairs else "",
        build_table(("pair", f"lead in {comparison.figure}, points", "McNemar", "p", "p (Holm)", "verdict"), pairs)
        if pairs
        else "",
        *([] if comparison.contrast is None else list_contrast_sections(comparison.contrast)),
        "## Runs",
        build_table(("run", "candidate", "seed", comparison.figure, "macro F1", "test reads"), runs),
        f"Created with textune {escape_markdown(version)}.",
    ]
    return clean_text("\n\n".join(section for section in sections if section)) + "\n"


def write_comparison(comparison: Comparison, folder: Path, version: str) -> Path:
    """Write report.html, report.md and compare.json into a folder; return the path of the HTML page."""
    check_output(folder)
    html_path, markdown_path, json_path = (folder / name for name in FILES)
    content = {"textune_version": version} | comparison.to_dict()
    text = clean_text(json.dumps(content, indent=2, ensure_ascii=False)) + "\n"
    markdown, html = render_comparison_markdown(comparison, version), render_comparison(comparison, version)
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(markdown_path, markdown)
    write_page(html, html_path)
    write_text_atomically(json_path, text)  # last: after a kill no new figures stand beside an old page
    return html_path


def check_output(folder: Path) -> None:
    """Raise ConfigError where the folder cannot be written, or holds anything but an earlier comparison."""
    check_writable(folder, flag("output", ""))
    if not folder.is_dir():
        return
    found = {path.name for path in folder.iterdir() if not path.name.startswith(PARTIAL)}  # those a kill left
    if other_files := sorted(found - set(FILES) - OF_THE_DESKTOP):
        names = ", ".join(other_files[:3])
        raise ConfigError(f"{folder}: contains other files ({names})", hint=f"give {flag('output', '')} a new folder")


def list_header(comparison: Comparison) -> tuple[str, ...]:
    """Return the header of the table of candidates."""
    return ("", "seeds", comparison.figure, "95% interval", "macro F1", "95% interval", *COSTS.values())


def list_cells(candidate: Candidate) -> tuple[str, ...]:
    """Return one row of that table; `MARKS` are beside Pareto-optimal costs."""
    return (
        candidate.name,
        str(len(candidate.seeds)),
        f"{percent(candidate.value)}{format_spread(candidate)}",
        span(candidate.interval),
        percent(candidate.macro_f1),
        span(candidate.macro_f1_interval),
        *(
            format_cost(key, candidate.costs[key]) + (f" {MARKS[key]}" if key in candidate.fronts else "")
            for key in COSTS
        ),
    )


def list_legend(comparison: Comparison) -> list[str]:
    """Return what each mark and the baselines in the table mean, as far as they are there."""
    marked = {key for candidate in comparison.candidates for key in candidate.fronts}
    legend = [f"{MARKS[key]} {meaning}" for key, meaning in _MEANINGS.items() if key in marked]
    return [*legend, *([_BASELINE] if comparison.baselines else [])]


def format_spread(candidate: Candidate) -> str:
    """Write the standard deviation over the seeds as `` ± 0.4``."""
    return "" if candidate.spread is None else f" ± {100 * candidate.spread:.1f}"


def format_mcnemar(pair: Pair) -> str:
    """Write McNemar's counts (rows that only the first, only the second gets right) and p-values for each seed."""
    each = [f"{t.only_a}:{t.only_b}, p {format_p(t.p)}" for t in pair.test.mcnemar.values()]
    return "; ".join(each[:3]) + (f"; {len(each) - 3} more seeds" if len(each) > 3 else "") if each else "–"
