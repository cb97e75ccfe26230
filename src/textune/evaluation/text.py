"""An evaluation as plain text for terminals and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textune.evaluation.metrics import Evaluation
    from textune.evaluation.multilabel import MultiLabelEvaluation

_LONGEST_NAME = 40
_MOST_UNKNOWN_SHOWN = 20
_MOST_CLASSES_IN_MATRIX = 12
_HEADERS = ("precision", "recall", "f1-score", "support")


def format_evaluation(evaluation: Evaluation) -> str:
    """Returns scikit-learn's classification report (four digits), then a small confusion matrix."""
    parts = [_format_figures(evaluation), *_format_notes(evaluation)]
    if len(evaluation.classes) <= _MOST_CLASSES_IN_MATRIX:
        parts.append(_format_confusion(evaluation))
    return "\n".join(parts)


def format_multi_label(evaluation: MultiLabelEvaluation) -> str:
    """Returns the figures of each label with its threshold, their averages, and the figures over whole rows."""
    headers = ("precision", "recall", "f1-score", "support", "predicted", "avg prec", "threshold")
    rows = [f for f in evaluation.classes if f.support or f.predicted]
    names = ("weighted avg", *(show_name(f.label) for f in rows), *(show_name(n) for n in evaluation.unknown_labels))
    width = max(len(name) for name in names)
    lines = [f"{'':>{width}} " + "".join(f" {header:>9}" for header in headers), ""]
    for f in rows:
        area = f"{f.average_precision:9.4f}" if f.average_precision is not None else f"{'':9}"
        lines.append(
            f"{show_name(f.label):>{width}}  {f.precision:9.4f} {f.recall:9.4f} {f.f1:9.4f} {f.support:9d} "
            f"{f.predicted:9d} {area} {f.threshold:9.4f}"
        )
    for label, count in list(evaluation.unknown_labels.items())[:_MOST_UNKNOWN_SHOWN]:
        lines.append(f"{show_name(label):>{width}}  {0:9.4f} {0:9.4f} {0:9.4f} {count:9d}")
    support = sum(f.support for f in evaluation.classes) + sum(evaluation.unknown_labels.values())
    averages = {"micro avg": evaluation.micro, "macro avg": evaluation.macro, "weighted avg": evaluation.weighted}
    lines.append("")
    lines += [f"{n:>{width}}  {a.precision:9.4f} {a.recall:9.4f} {a.f1:9.4f} {support:9d}" for n, a in averages.items()]
    names_of = {"micro_f1": "micro F1", "macro_f1": "macro F1", "accuracy": "rows wholly right"}
    notes = [
        f"{names_of[key]}: 95% interval {interval.low:.4f} to {interval.high:.4f}"
        for key, interval in evaluation.intervals.items()
    ]
    notes.append(f"rows wholly right: {evaluation.accuracy:.4f} of {evaluation.rows}")
    notes.append(f"wrong decisions (Hamming loss): {evaluation.hamming_loss:.4f}")
    if evaluation.mean_average_precision is not None:
        notes.append(f"mean average precision: {evaluation.mean_average_precision:.4f}")
    notes.append(f"log loss: {evaluation.log_loss:.4f} per decision")
    return "\n".join([*lines, "", *notes, *_format_strangers(evaluation), ""])


def show_name(label: str, longest: int = _LONGEST_NAME) -> str:
    """Returns a label that keeps to one line: cut, and without characters that would steer a terminal."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in label)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def _format_figures(evaluation: Evaluation) -> str:
    rows = [
        (show_name(f.label), f.precision, f.recall, f.f1, f.support)
        for f in evaluation.classes
        if f.support or f.predicted
    ]
    unknown = list(evaluation.unknown_labels.items())[:_MOST_UNKNOWN_SHOWN]
    rows += [(show_name(label), 0.0, 0.0, 0.0, count) for label, count in unknown]
    width = max(len("weighted avg"), *(len(name) for name, *_ in rows))
    lines = [f"{'':>{width}} " + "".join(f" {header:>9}" for header in _HEADERS), ""]
    averages = [("macro avg", evaluation.macro), ("weighted avg", evaluation.weighted)]

    def line(name: str, precision: float, recall: float, f1: float, support: int) -> str:
        return f"{name:>{width}}  {precision:9.4f} {recall:9.4f} {f1:9.4f} {support:9d}"

    lines += [line(*row) for row in rows]
    lines += ["", f"{'accuracy':>{width}}  {'':9} {'':9} {evaluation.accuracy:9.4f} {evaluation.rows:9d}"]
    lines += [line(name, a.precision, a.recall, a.f1, evaluation.rows) for name, a in averages]
    return "\n".join(lines) + "\n"


def _format_notes(evaluation: Evaluation) -> list[str]:
    notes = []
    names = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    for key, interval in evaluation.intervals.items():
        notes.append(f"{names.get(key, key)}: 95% interval {interval.low:.4f} to {interval.high:.4f}")
    unknown = sum(evaluation.unknown_labels.values())
    if evaluation.log_loss is not None:
        over = f", over the {evaluation.rows - unknown} rows whose label the model knows" if unknown else ""
        notes.append(f"log loss: {evaluation.log_loss:.4f}{over}")
    return [*notes, *_format_strangers(evaluation), ""]


def _format_strangers(evaluation: Evaluation | MultiLabelEvaluation) -> list[str]:
    notes = []
    unknown = sum(evaluation.unknown_labels.values())
    if unknown:
        count = len(evaluation.unknown_labels)
        names_shown = ", ".join(show_name(label) for label in list(evaluation.unknown_labels)[:5])
        more = f" and {count - 5} more" if count > 5 else ""
        notes.append(f"labels that the model does not know, counted as errors: {names_shown}{more} ({unknown} rows)")
    absent = [show_name(f.label) for f in evaluation.classes if not f.support and not f.predicted]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        notes.append(f"neither in these rows nor predicted: {', '.join(absent[:5])}{more}")
    return notes


def _format_confusion(evaluation: Evaluation) -> str:
    names = [show_name(label, 20) for label in evaluation.labels]
    corner = "true \\ predicted"
    side = max(len(corner), *(len(name) for name in names))
    highest = max(count for row in evaluation.confusion for count in row)
    widths = [max(len(name), len(str(highest))) for name in names]
    lines = [f"{corner:>{side}}" + "".join(f"  {n:>{w}}" for n, w in zip(names, widths, strict=True))]
    for name, row in zip(names, evaluation.confusion, strict=True):
        cells = "".join(f"  {count:>{width}}" for count, width in zip(row, widths, strict=True))
        lines.append(f"{name:>{side}}{cells}")
    return "\n".join(lines) + "\n"
