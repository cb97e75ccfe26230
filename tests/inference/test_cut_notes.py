"""Texts that are longer than the model reads are counted once and told at every door."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from textune.config.long_text import LongText
from textune.inference import Predictor
from textune.inference.long_texts import LongTexts
from textune.run import Run
from tiny import build_causal, call_here

LONG = "the film was a good story with its actors " * 40
ROWS = [*[LONG] * 5, "a good film"]
TWO_WINDOWS = LongText("window", 4, 2)


@pytest.fixture(scope="module")
def predictor(finished: Run) -> Predictor:
    return finished.load(precision="fp32", device="cpu")


def write_rows(path: Path) -> Path:
    lines = [f"{text},{label}" for text, label in zip(ROWS, ["positive", "negative"] * 3, strict=True)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("long_text", "longest", "expected"),
    [
        (LongText(), 16, "5 of 6 texts are longer than max_length 16 and were cut"),
        (LongText("head_tail", head_fraction=0.5), 16,
         "5 of 6 texts are longer than max_length 16: only their first and last tokens were read"),
        (TWO_WINDOWS, 16, "5 of 6 texts are longer than 2 windows of max_length 16 and were cut"),
        (LongText("window", 4, 100), 16, None),
        (LongText(), 2_000, None),
    ],
)  # fmt: skip
def test_what_is_cut_is_counted_while_it_is_tokenized(
    predictor: Predictor, long_text: LongText, longest: int, expected: str | None
) -> None:
    manifest = dataclasses.replace(predictor.manifest, max_length=longest, long_text=long_text)
    reader = Predictor(manifest, None, predictor.tokenizer, predictor.padding)  # type: ignore[arg-type]
    reader.long_texts.add(reader.encode(ROWS))
    assert reader.long_texts.take_note() == expected
    assert reader.long_texts.take_note() is None, "it is told once"


def test_one_text_and_one_cut_text_are_told_as_one() -> None:
    counts = LongTexts(512, LongText())
    counts.add_counts(1, 1)
    assert counts.take_note() == "the text is longer than max_length 512 and was cut"
    counts.add_counts(2_000, 1)
    assert counts.take_note() == "1 of 2,000 texts is longer than max_length 512 and was cut"


def test_every_command_tells_it_once(finished: Run, tmp_path: Path, capsys: Any) -> None:
    run, data = str(finished.folder), str(write_rows(tmp_path / "rows.csv"))
    told = f"5 of 6 texts are longer than max_length {finished.manifest.max_length} and were cut"
    commands = [
        ["predict", run, *ROWS], ["predict", run, data, "-o", str(tmp_path / "out.csv")], ["evaluate", run, data],
        ["errors", run, data],
    ]  # fmt: skip
    for words in commands:
        code, _, errors = call_here(capsys, *words)
        assert code == 0 and errors.count(told) == 1, (words[0], errors)
    code, _, errors = call_here(capsys, "predict", run, "a good film")
    assert code == 0 and "were cut" not in errors and "was cut" not in errors


def test_zero_shot_tells_it(tmp_path: Path, capsys: Any) -> None:
    model = str(build_causal(tmp_path / "causal"))
    words = ["--zero-shot", "good,bad", "--template", "{text}:"]
    code, _, errors = call_here(capsys, "predict", model, *words, *ROWS)
    assert code == 0 and "within the template, 5 of 6 texts are longer than max_length 64 and were cut" in errors
