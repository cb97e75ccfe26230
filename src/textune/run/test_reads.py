"""How often a test set was opened: one line in the run folder each time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from textune.data import Examples
from textune.files import append_json_line, read_json_lines

TEST_READS = "test_reads.jsonl"


def note_test_read(folder: Path, examples: Examples, command: str) -> None:
    """Add a line to test_reads.jsonl: these rows were measured on."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "rows": len(examples),
        "fingerprint": examples.fingerprint,
    }
    append_json_line(folder / TEST_READS, line)


def count_test_reads(folder: Path) -> int:
    """Return how often a test set was measured on."""
    return len(read_json_lines(folder / TEST_READS))


def count_reads_of_own_rows(folder: Path) -> int:
    """Return how often the test rows that a run's figures are of were measured on, at least.

    Not what `evaluate` read elsewhere; and not where it read these rows among others, which is not known.
    """
    reads = read_json_lines(folder / TEST_READS)
    if not reads or reads[0].get("command") != "train":
        return 0
    return [line.get("fingerprint") for line in reads].count(reads[0].get("fingerprint"))
