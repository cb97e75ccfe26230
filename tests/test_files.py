"""Files and folders that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from textune import files
from textune.bundle import PLAN, SETTINGS, prepare_run_folder
from textune.errors import BundleError
from textune.files import (
    PARTIAL,
    append_json_line,
    confined_path,
    hash_file,
    hash_large_file,
    hold_place,
    read_json,
    read_json_lines,
    write_file,
    write_folder,
    write_text_atomically,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_the_old_one_or_the_new_one(shared: bool, tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), write_file(path, shared=shared) as partial:
        assert partial.suffix == path.suffix and partial.parent == path.parent and partial.name.startswith(PARTIAL)
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and names_in(tmp_path) == ["table.tsv"]
    with write_file(path, shared=shared) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names_in(tmp_path) == ["table.tsv"]


def test_text_keeps_its_line_ends_and_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_text_atomically(path, '{"a": "ä"}\r\n')
    assert path.read_bytes() == '{"a": "ä"}\r\n'.encode()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_text_atomically(path, "{}")
    assert read_json(path, "it") == {"a": "ä"} and names_in(tmp_path) == ["a.json"]


def test_a_folder_takes_the_place_of_another_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with write_folder(target) as partial:
        (partial / "first").touch()
        assert not target.exists()
    with pytest.raises(RuntimeError), write_folder(target) as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert names_in(target) == ["first"] and names_in(target.parent) == ["out"]
    (target.parent / f"{PARTIAL}out").mkdir()  # of a writer that was killed
    (target.parent / f"{PARTIAL}out" / "half").touch()
    with write_folder(target) as partial:
        (partial / "second").touch()
    assert names_in(target) == ["second"] and names_in(target.parent) == ["out"]
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(target.parent.stat().st_mode)


def test_a_place_may_be_named_by_dots_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "inner").mkdir(parents=True)
    (tmp_path / "work" / "mine").touch()
    monkeypatch.chdir(tmp_path / "work")
    for place in (Path(), Path("inner", "..")):
        with hold_place(place), pytest.raises(BundleError, match="another process is writing it"), hold_place(place):
            pass
    for write in (write_folder, write_file, hold_place):
        with pytest.raises(FileNotFoundError), write(Path("new", "..")):
            pass
    assert names_in(tmp_path) == ["work"] and names_in(tmp_path / "work") == ["inner", "mine"]


def test_of_several_writers_of_a_shared_folder_the_first_wins(tmp_path: Path) -> None:
    target = tmp_path / "tokens"
    with write_folder(target, shared=True) as slow:
        with write_folder(target, shared=True) as fast:
            assert slow != fast
            (fast / "fast").touch()
        (slow / "slow").touch()
    assert names_in(target) == ["fast"] and names_in(tmp_path) == ["tokens"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


KILLED = """
import os, signal, sys
from pathlib import Path
from textune import files

if sys.argv[2] == "plain":
    files._exchange = lambda one, other: False
place, counted = Path(sys.argv[1]), 0
for last in range(1, 200):
    with files.write_folder(place) as partial:
        for name in ("a", "b"):
            (partial / name).write_text("old")
    child = os.fork()
    if not child:
        def count(event, arguments):
            global counted
            counted += 1
            if counted == last:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        with files.write_folder(place) as partial:
            for name in ("a", "b"):
                (partial / name).write_text("new")
        os._exit(0)
    killed = os.waitpid(child, 0)[1]
    texts = {(place / name).read_text() for name in ("a", "b")} if place.is_dir() else {"absent"}
    print(last, killed, *texts)
    if not killed:
        break
"""


@pytest.mark.parametrize("way", ["exchange", "plain"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_folder(way: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(tmp_path / "out"), way]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(found) > 10 and found[-1].endswith(" 0 new")
    states = [line.split()[2:] for line in found]
    absent = [state for state in states if state not in (["old"], ["new"])]
    assert len(absent) <= (way == "plain")  # without an exchange the folder has another name for one moment


@pytest.mark.parametrize("name", [f"{PARTIAL}{PLAN}", f"{PLAN}.partial", f"{PARTIAL}{SETTINGS}"])
def test_a_run_killed_while_it_wrote_its_first_files_is_begun_anew(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).touch()
    prepare_run_folder(folder, overwrite=False)
    assert names_in(folder) == []
    (folder / name).touch()
    (folder / "diary.txt").touch()
    with pytest.raises(BundleError, match="already exists"):
        prepare_run_folder(folder, overwrite=False)


def test_no_module_makes_a_file_or_a_folder_whole_by_itself() -> None:
    source = Path(__file__).parents[2] / "src" / "textune"
    own = {"files.py"}
    for path in source.rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        if path.relative_to(source).as_posix() in own:
            continue
        for call in ("mkstemp", "mkdtemp", ".rename(", "partial.replace(", "os.replace("):
            assert call not in code, f"{path.relative_to(source)}: {call} belongs to textune/files.py"


@pytest.mark.parametrize("change", ["in place", "appended", "replaced", "times put back"])
@pytest.mark.parametrize("settled", [0.0, 2.0])
def test_a_large_file_is_read_again_only_where_it_changed(
    settled: float, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "weights", []
    path.write_bytes(b"old weights")
    before = path.stat()
    monkeypatch.setattr(files, "_SETTLED_SECONDS", settled)
    monkeypatch.setattr(files, "hash_file", lambda path: read.append(path) or hash_file(path))
    assert hash_large_file(path) == hash_large_file(path) == hash_file(path)
    assert len(read) == (2 if settled else 1), "a file that was written just now is read each time"
    time.sleep(0.02)  # longer than the system's clock takes from one time to the next
    if change == "appended":
        path.write_bytes(b"old weights, and more")
    elif change == "replaced":
        path.unlink()
        path.write_bytes(b"new weights")
    else:
        path.write_bytes(b"NEW weights")
    if change == "times put back":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_large_file(path) == hash_file(path)


def test_a_line_that_was_cut_short_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_json_line(path, {"n": 1})
    with path.open("a") as stream:
        stream.write('{"n": 2')
    for n in (3, 4):
        append_json_line(path, {"n": n})
    with path.open("a") as stream:
        stream.write("5\nnull\n[1]\n" + "[" * 100_000 + "\n")
    append_json_line(path, {"n": 6})
    assert [line["n"] for line in read_json_lines(path)] == [1, 3, 4, 6]


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "folder/" + "ü" * 200])
def test_an_invalid_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="invalid file name"):
        confined_path(tmp_path, name)
