"""What a run cost: as numbers for comparisons, and among its facts for people."""

from __future__ import annotations

from dataclasses import dataclass

from textune.bundle import Manifest
from textune.config import TrainingConfig
from textune.progress import format_seconds


@dataclass(frozen=True)
class Costs:
    """run_seconds: of the whole run but for starting the program; None where it was resumed: nobody timed all of it.

    peak_memory_mb: of the process, in 10^6 bytes. weight_megabytes: on disk, beside the base model.
    """

    training_seconds: float
    run_seconds: float | None
    peak_memory_mb: float
    weight_megabytes: float


def describe_run(manifest: Manifest, training: TrainingConfig, costs: Costs) -> list[tuple[str, str]]:
    """Returns name and value of what was done and what it cost. training: with everything decided."""
    options = ", ".join(f"{k} {v}" for k, v in manifest.method_options.items() if v is not None)
    share = manifest.trainable_parameters / manifest.total_parameters
    facts = [
        ("base model", f"{manifest.base_model.id} ({manifest.base_model.family})"),
        ("method", manifest.method + (f" ({options})" if options else "")),
        ("trainable parameters", f"{manifest.trainable_parameters:,} of {manifest.total_parameters:,} ({share:.2%})"),
        ("size on disk", f"{costs.weight_megabytes:.1f} MB beside the base model"),
        ("epochs", f"{training.epochs:g}, batch size {training.batch_size}, rate {training.learning_rate:g}"),
        ("max_length", f"{manifest.max_length} tokens; longer texts are {manifest.long_text.describe()}"),
        ("training time", format_seconds(costs.training_seconds)),
        ("peak memory", f"{costs.peak_memory_mb:,.0f} MB"),
        ("precision", f"{manifest.engine['precision']['name']} on {manifest.engine['device']}"),
        ("seed", str(manifest.seed)),
    ]
    if costs.run_seconds is not None:
        facts.insert(7, ("whole run", format_seconds(costs.run_seconds)))
    return facts
