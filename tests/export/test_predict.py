"""predict.py of an export: it leaves blank and refuses what textune does, though it cannot import it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import textune
from textune.inference import Predictor
from textune.printable import holds_text
from textune.run import Run

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folder(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return textune.export(finished, tmp_path_factory.mktemp("predict") / "onnx", to="onnx")


def call_predict(folder: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-B", str(folder / "predict.py"), *words]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("codec", "damage"),
    [("utf-16-le", b"a"), ("utf-16-be", b"\xd8\0\0a\0\n"), ("utf-32-le", b"\xff\xff\xff\xff")],
    ids=["cut off", "half a character", "no character"],
)
def test_the_damaged_line_is_named_after_the_answers_to_those_above(codec: str, damage: bytes, folder: Path) -> None:
    done = call_predict(folder, stdin="\ufeffgreat\ndull\ngo".encode(codec) + damage)
    message = f"error: line 3: is not {codec[:6].upper()}, as the byte order mark says; save the text as UTF-8\n"
    assert (done.returncode, done.stderr.decode()) == (1, message) and done.stdout.count(b"\n") == 2


def test_lines_of_more_than_one_chunk_are_read(folder: Path) -> None:
    texts = [f"great {row} \U0001f600" for row in range(3_000)]
    done = call_predict(folder, "--json", stdin=("\ufeff" + "\r\n".join(texts)).encode("utf-16-be"))
    assert [json.loads(line)["text"] for line in done.stdout.decode().splitlines()] == texts


def test_what_holds_no_text_is_left_blank(folder: Path) -> None:
    done = call_predict(folder, "--json", stdin="great\n\u200b\n\u3164 \ufe0f\n".encode())
    labels = [json.loads(line)["label"] for line in done.stdout.decode().splitlines()]
    assert labels == [*Predictor.load(folder).predict(["great"]), None, None]
    done = call_predict(folder, "\u200b")
    assert done.returncode == 1 and "error: text 1: a text is empty" in done.stderr.decode()


def test_the_rule_of_what_holds_text_is_that_of_textune() -> None:
    from textune.export import predict, predict_merged

    for module in (predict, predict_merged):
        differ = [char for char in map(chr, range(sys.maxunicode + 1)) if module.holds_text(char) != holds_text(char)]
        assert not differ and not module.holds_text("") and module.holds_text("\u200ba")
