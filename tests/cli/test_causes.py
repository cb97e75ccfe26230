"""What a person can cause is told with its place and a code of its own: 70 is for faults of textune alone."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError

from textune import cache
from textune.cli import main
from textune.run import Run

Command = Callable[..., tuple[int, str]]

PLACES: dict[str, Callable[[Path], object]] = {
    "nowhere.csv": lambda path: None,
    "empty.csv": lambda path: path.touch(),
    "noise.csv": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "folder.csv": lambda path: path.mkdir(),
    "noise.yaml": lambda path: path.write_bytes(bytes(range(256))),
    "noise.xlsx": lambda path: path.write_bytes(b"PK\3\4" + bytes(99)),
    "nested.jsonl": lambda path: path.write_text('[1]\n2\n{"a": {}}\n'),
    "loop": lambda path: path.symlink_to(path),
    "dangling.csv": lambda path: path.symlink_to("gone"),
    "file/below.csv": lambda path: path.parent.touch(),
    "a\0b": lambda path: None,
    "x" * 5000: lambda path: None,
    "..": lambda path: None,
    "/dev/null": lambda path: None,
    "name\udcff.csv": lambda path: path.write_text("text,label\n"),
}
COMMANDS = (
    "inspect PLACE", "train PLACE", "sweep PLACE", "compare PLACE PLACE", "compare RUN PLACE",
    "evaluate PLACE PLACE", "report PLACE", "resume PLACE", "export PLACE", "import PLACE", "push PLACE a/b",
    "predict PLACE text", "tokens text backbone=PLACE", "train DATA backbone=PLACE runs_dir=PLACE",
    "train DATA init=PLACE", "inspect DATA test=PLACE",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _warnings_as_before() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        yield


@pytest.fixture
def textune(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process: its exit code and standard error."""

    def call(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(words)
        return int(caught.value.code or 0), capfd.readouterr().err

    return call


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ascii(place)[:20])
def test_no_place_is_a_fault_of_textune(place: str, textune: Command, work: Path, finished: Run, reviews: Path) -> None:
    if place not in ("..", "/dev/null", "a\0b", "x" * 5000):
        PLACES[place](work / place)
    names = {"PLACE": place, "RUN": str(finished.folder), "DATA": str(reviews)}
    for command in COMMANDS:
        words = command.split()
        words = [f"{k}={names[v]}" if "=" in w else names.get(w, w) for w in words for k, _, v in [w.partition("=")]]
        code, errors = textune(*words)
        assert code in (2, 3, 4, 5, 6), f"{command}: exit {code}: {errors}"
        assert "Traceback" not in errors and errors


DAMAGE: dict[str, Callable[[Path, bytes], object]] = {
    "gone": lambda path, content: None,
    "cut": lambda path, content: path.write_bytes(content[: len(content) // 2]),
    "empty": lambda path, content: path.touch(),
    "a folder": lambda path, content: path.mkdir(),
    "a list": lambda path, content: path.write_bytes(b"[]"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_no_damaged_file_of_a_run_is_a_fault_of_textune(
    how: str, textune: Command, work: Path, finished: Run, backbone: Path
) -> None:
    for name in sorted(p.relative_to(finished.folder).as_posix() for p in finished.folder.rglob("*") if p.is_file()):
        shutil.copytree(finished.folder, work / "run")
        path = work / "run" / name
        content = path.read_bytes()
        path.unlink()
        DAMAGE[how](path, content)
        predict = ("predict", "run", "a text", f"backbone={backbone}")
        compare = ("compare", "run", str(finished.folder))
        for words in (("inspect", "run"), ("report", "run"), ("resume", "run"), compare, predict):
            code, errors = textune(*words)
            assert code in (0, 2, 3, 4, 5), f"{name}, {words[0]}: exit {code}: {errors}"
        shutil.rmtree(work / "run")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), "/a/b: read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device"), "writing: the disk is full"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", b"/a/\xff"), "is a directory"),
        (MemoryError(), "out of memory"),
        (
            SafetensorError("Error while serializing: I/O error (os error 28)"),
            "writing: the disk is full",
        ),
        (RuntimeError("write failed: No space left on device"), "writing: the disk is full"),
        (RuntimeError("Symlink loop from '/a'"), "symlink loop from '/a'"),
    ],
    ids=lambda value: getattr(value, "strerror", None) or str(value),
)
def test_errors_of_the_system_are_told_by_place_and_reason(
    error: Exception, told: str, textune: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cache, "list_entries", fail)
    code, errors = textune("cache")
    assert code == 5 and told in errors and "bug" not in errors
    with pytest.raises(type(error)):
        main(["cache", "--debug"])


@pytest.mark.parametrize(
    "line",
    ["seed: !!int abc", "seed: !!bool maybe", "seed: !!timestamp x", "layer_rates: [[]]", "layer_rates: 3",
     "labels: [[a]]", "labels: 5", "labels: [[a, b, c]]", f"learning_rate: 1{'0' * 400}", f"seed: 0x1{'0' * 9000}",
     "class_weights: [[]]", f"class_weights: [1{'0' * 400}, 1]", "epochs: .nan", "epochs: .inf", "batch_size: -1",
     "method: [lora]", "method: {name: [lora]}", "method: {name: lora, r: {a: b}}", "name: [a]", "runs_dir: {a: b}",
     'runs_dir: "a\\0b"', 'test: "a\\0b"', "text: {a: b}", "? [a]\n: b", "seed: *nothing",
     "x: !!python/name:os.system"],
)  # fmt: skip
def test_values_of_a_wrong_type_are_wrong_settings(line: str, textune: Command, work: Path, reviews: Path) -> None:
    (work / "settings.yaml").write_text(f"data: {reviews}\nbackbone: nowhere/at/all\n{line}\n")
    for command in ("train", "inspect"):
        code, errors = textune(command, "settings.yaml")
        assert code == 2, f"{command}: {code}: {errors}"
        assert len(errors) < 2000


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is denied to root")
def test_a_folder_that_may_not_be_written_is_told_before_the_work(
    textune: Command, finished: Run, work: Path, backbone: Path
) -> None:
    (work / "shut").mkdir(mode=0o500)
    code, errors = textune("export", str(finished.folder), "--backbone", str(backbone), "-o", "shut/it")
    assert code == 5 and "shut/it: permission denied" in errors
