"""A run that cannot be written to is read like any other: by prediction, evaluation, inspection and export."""

from __future__ import annotations

import errno
import io
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

import textune
from textune.cli import main
from textune.errors import BundleError, ConfigError
from textune.files import read_json, read_json_lines
from textune.run import Run
from textune.run.other_rows import NotNotedWarning
from textune.run.seen_rows import SeenRowsWarning
from tiny import write_reviews


@pytest.fixture(params=[errno.EROFS, errno.EACCES, errno.EPERM], ids=["EROFS", "EACCES", "EPERM"])
def read_only(request: Any, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run below a folder in which every attempt to write fails, for root as well."""
    place = tmp_path / "theirs"
    run = Path(shutil.copytree(finished.folder, place / "run"))

    def is_inside(path: Any) -> bool:
        return Path.cwd().joinpath(path).is_relative_to(place)

    def refuse(path: Any) -> None:
        if isinstance(path, str | os.PathLike) and is_inside(path):
            raise OSError(request.param, os.strerror(request.param), str(path))

    def guard(owner: Any, name: str, writes: Any = lambda *_, **__: True, which: slice = slice(0, 1)) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if writes(*args, **kwargs):
                for path in args[which]:
                    refuse(path)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    guard(io, "open", lambda file, mode="r", *_, **__: set(mode) & set("wax+"))
    guard(os, "open", lambda path, flags, *_, **__: flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    for name in ("mkdir", "rmdir", "chmod", "utime"):
        guard(os, name)
    guard(os, "unlink", lambda path, *_, **__: os.path.lexists(path))
    for name in ("rename", "replace", "link", "symlink"):
        guard(os, name, which=slice(0, 2))
    allowed = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode, **more: not (mode & os.W_OK and is_inside(path)) and allowed(path, mode, **more),
    )

    with pytest.raises(OSError):
        (run / "new").write_text("")
    return run


def call(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    told = capsys.readouterr()
    return int(caught.value.code or 0), told.out, told.err


def list_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_command_reads_it(read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, data = list_files(read_only), write_reviews(tmp_path / "other.csv", rows=20)
    for words in (
        ("predict", read_only, "a good film"),
        ("predict", read_only, data, "--output", tmp_path / "answers.csv"),
        ("inspect", read_only),
        ("report", read_only),
        ("evaluate", read_only, data),
        ("evaluate", read_only, data, "--json"),
        ("export", read_only, "--to", "merged", "--output", tmp_path / "merged"),
    ):
        code, output, errors = call(capsys, *words)
        assert code == 0 and output and "bug in textune" not in errors, (words, errors)
    assert list_files(read_only) == before


def test_evaluate_says_where_it_would_have_written(
    read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_reviews(tmp_path / "other.csv", rows=20), tmp_path / "out"
    code, output, errors = call(capsys, "evaluate", read_only, data)
    assert code == 0 and "accuracy" in output
    assert f"{read_only / 'test_reads.jsonl'}: cannot be written (" in errors and "add --output FOLDER" in errors
    code, output, errors = call(capsys, "evaluate", read_only, data, "--output", out)
    assert code == 0 and not errors and str(out) in output
    assert read_json(out / "metrics.json", "the figures")["rows"] == 20
    assert read_json_lines(out / "test_reads.jsonl")[0]["rows"] == 20
    code, _, errors = call(capsys, "evaluate", read_only, data, "--output", out)
    assert code == 5 and f"{out}: already exists and is not empty" in errors
    code, _, errors = call(capsys, "evaluate", read_only, data, "--output", read_only.parent / "out")
    assert code == 2 and "cannot be written to" in errors


def test_evaluate_in_python_does_so_too(read_only: Path, reviews: Path, tmp_path: Path) -> None:
    warnings.simplefilter("ignore", SeenRowsWarning)
    with pytest.warns(NotNotedWarning, match=r"test_reads.jsonl: cannot be written .*output=FOLDER"):
        assert textune.evaluate(read_only, reviews).rows == 60
    textune.evaluate(read_only, reviews, output=tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"metrics.json", "predictions.parquet", "test_reads.jsonl"}
    with pytest.raises(ConfigError, match="cannot be written to"):
        textune.evaluate(read_only, reviews, output=read_only.parent / "out")


def test_what_must_write_says_so(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("merged", "onnx"):  # by default beside the run
        code, _, errors = call(capsys, "export", read_only, "--to", form)
        assert code == 2 and "cannot be written to" in errors and "--output" in errors
    with pytest.raises(BundleError, match="cannot be written"):
        textune.resume(read_only)
