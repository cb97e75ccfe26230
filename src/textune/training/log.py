"""The training log: one JSON line per step, evaluation and warning, and optional TensorBoard event files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textune.errors import MissingExtraError
from textune.files import append_json_line, read_json_lines, write_text_atomically


class TrainingLog:
    """Writes `metrics.jsonl`. active: whether this process writes.

    losses: mean loss of every step so far. evaluations: step, training loss and validation loss of every evaluation
    of trained weights so far, also of those before a resume.
    """

    def __init__(self, folder: Path, *, tensorboard: bool, active: bool) -> None:
        self._path, self._active = folder / "metrics.jsonl", active
        self._board = _open_tensorboard(folder) if tensorboard and active else None
        self.losses: list[float] = []
        self.evaluations: list[tuple[int, float, float]] = []

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        self._note(line)
        if not self._active:
            return
        append_json_line(self._path, line)
        if self._board is not None and line["kind"] != "warning":
            for key in line.keys() - {"kind", "step", "epoch"}:
                self._board.add_scalar(f"{line['kind']}/{key}", line[key], line["step"])

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that a resumed run will repeat."""
        lines = [line for line in read_json_lines(self._path) if _is_whole(line) and line["step"] <= step and step > 0]
        self.losses, self.evaluations = [], []
        for line in lines:
            self._note(line)
        if self._active and self._path.exists():
            write_text_atomically(self._path, "".join(json.dumps(line) + "\n" for line in lines))

    def _note(self, line: Mapping[str, Any]) -> None:
        if line["kind"] == "step":
            self.losses.append(line["loss"])
        elif line["kind"] == "evaluation" and {"train_loss", "loss"} <= line.keys():
            self.evaluations.append((line["step"], line["train_loss"], line["loss"]))

    def close(self) -> None:
        """Close the event files."""
        if self._board is not None:
            self._board.close()


def _is_whole(line: Mapping[str, Any]) -> bool:
    """Return whether a line of the log has what is read of it: a flipped bit may have renamed it."""
    needed = {"kind", "step"} | ({"loss"} if line.get("kind") == "step" else set())
    return needed <= line.keys() and isinstance(line["step"], int)


def _open_tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError(
            "tensorboard=true: TensorBoard is not installed", hint="pip install tensorboard"
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))


def find_logged_rate(groups: Sequence[Mapping[str, Any]]) -> float:
    """Return the rate of the first of an optimizer's groups that is not the head's, or the head's if there is none."""
    return float(next((group["lr"] for group in groups if not str(group["name"]).startswith("head")), groups[0]["lr"]))
