"""The costs of a run, as numbers for comparisons and as text for the report."""

from __future__ import annotations

from dataclasses import dataclass

from textune.backbones.pooling import describe_pooling
from textune.bundle import Manifest
from textune.config import TrainingConfig
from textune.data.fixes import FixedRows
from textune.progress import format_seconds
from textune.report.wording import show_setting


@dataclass(frozen=True)
class Costs:
    """Time, memory and disk of a run.

    run_seconds: the total, without the start of the program. peak_memory_mb: of the process, in 10^6 bytes. Both are
    None if no single process did the whole run: it was resumed, or its weights come from a trial. A winner retrained
    after cross-validation may share its process, and so its peak, with the trials.
    weight_megabytes: disk space in addition to the base model.
    """

    training_seconds: float
    run_seconds: float | None
    peak_memory_mb: float | None
    weight_megabytes: float


def describe_run(manifest: Manifest, training: TrainingConfig, costs: Costs) -> list[tuple[str, str]]:
    """Return the run's settings and costs as (name, value) pairs. training: with every setting resolved."""
    options = show_setting(manifest.method_options) if manifest.method_options else ""
    rate = show_setting(training.learning_rate)
    share = manifest.trainable_parameters / manifest.total_parameters
    whole = [
        ("whole run", costs.run_seconds, format_seconds),
        ("peak memory", costs.peak_memory_mb, "{:,.0f} MB".format),
    ]
    return [
        ("base model", f"{manifest.base_model.id} ({manifest.base_model.family})"),
        ("method", manifest.method + (f" ({options})" if options else "")),
        ("trainable parameters", f"{manifest.trainable_parameters:,} of {manifest.total_parameters:,} ({share:.2%})"),
        ("size on disk", f"{costs.weight_megabytes:.1f} MB in addition to the base model"),
        (
            "epochs",
            f"{training.epochs:g}, batch size {training.batch_size}, learning rate {rate}",
        ),
        ("max_length", f"{manifest.max_length} tokens; longer texts are {manifest.long_text.describe()}"),
        *([] if manifest.writing else [("pooling", describe_pooling(manifest.pooling))]),
        ("training time", format_seconds(costs.training_seconds)),
        *[(name, write(value)) for name, value, write in whole if value is not None],
        ("precision", f"{manifest.engine['precision']['name']} on {manifest.engine['device']}"),
        ("seed", str(manifest.seed)),
        *([("labels fixed", FixedRows(**manifest.fixes).describe())] if manifest.fixes else []),
    ]


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process, in MB (10^6 bytes)."""
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
