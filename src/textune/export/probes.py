"""The probes as a run takes them: single texts, or pairs."""

from __future__ import annotations

from textune.bundle import Manifest
from textune.engine.same_logits import PROBES, pair_probes


def list_second_probes(manifest: Manifest) -> tuple[str, ...] | None:
    """Return the second texts of PROBES for a run of text pairs, else None."""
    return pair_probes(manifest.columns.text_pair is not None)


def list_probes(manifest: Manifest) -> list[tuple[str, ...]]:
    """Return the text or the two texts of each probe."""
    second = list_second_probes(manifest)
    return [(text,) for text in PROBES] if second is None else list(zip(PROBES, second, strict=True))
