"""Uploaded files: checked, stored for this user alone, and gone when nothing needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from textune.app import uploads
from textune.app.data_choice import read_head
from textune.app.jobs import Job
from textune.app.private import FOLDER
from textune.app.uploads import clean_uploads, remove_upload, store_upload
from textune.data import list_readable
from textune.errors import BundleError, DataError, TextuneError


@pytest.mark.parametrize("ending", list_readable())
def test_every_table_that_is_read_can_be_uploaded(ending: str, work: Path) -> None:
    path = store_upload(f"../../my reviews{ending.upper()}", b"text,label\na,b\n", "runs")
    assert path.parent.parent == Path("runs") / FOLDER / ".uploads" and path.name == f"my-reviews{ending}"
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    packed = store_upload(f"x{ending}.gz", b"x", "runs")
    assert packed.name == f"x{ending}.gz"


REFUSED = {
    "empty": ("a.csv", b"", "the file is empty"),
    "no table": ("a.exe", b"MZ", "not a kind of table"),
    "no name": (".csv", b"x", "not a kind of table"),
    "too large": ("a.csv", b"x" * (uploads.UPLOAD_MEGABYTES * 2**20 + 1), "larger than 50 MB"),
}
MISREAD = {
    "binary": ("a.csv", b"\x00\x01\x02\xff" * 100),
    "not a spreadsheet": ("a.xlsx", b"PK\x03\x04 nothing"),
    "not parquet": ("a.parquet", b"text,label\n"),
    "no JSON": ("a.jsonl", b"{]\n"),
    "unclosed quote": ("a.csv", b'text,label\n"a,b\n'),
    "ragged": ("a.csv", b"text,label\na,b,c,d\n"),
    "not packed": ("a.csv.gz", b"text,label\n"),
    "header only": ("a.csv", b"text,label\n"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_table_is_not_stored(kind: str, work: Path) -> None:
    name, content, message = REFUSED[kind]
    with pytest.raises(DataError, match=message):
        store_upload(name, content, "runs")
    assert not [path for path in work.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", MISREAD)
def test_a_bad_table_gets_the_readers_own_message(kind: str, work: Path) -> None:
    name, content = MISREAD[kind]
    path = store_upload(name, content, "runs")
    try:
        head = read_head(str(path))
    except TextuneError as error:
        assert path.name in str(error)
    else:
        assert head.rows == () or kind == "header only"


def test_a_file_stays_as_long_as_a_training_needs_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed, free, old, open_page = (store_upload(f"{n}.csv", b"x", "runs") for n in ("needed", "free", "old", "open"))
    for path in (old, open_page):
        os.utime(path.parent, (1, 1))
    states = {"needed": True, "free": False}
    listed = [Job(name, "runs", (), upload=str(path)) for name, path in (("needed", needed), ("free", free))]
    monkeypatch.setattr(uploads, "list_jobs", lambda runs_dir: listed)
    monkeypatch.setattr(
        uploads, "find_state", lambda job: type("State", (), {"live": states[job.name], "resumable": False})
    )
    clean_uploads("runs", keep=[open_page])
    assert needed.exists() and open_page.exists() and not free.parent.exists() and not old.parent.exists()


def test_what_the_app_stored_goes_when_it_ends(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed, free = store_upload("needed.csv", b"x", "runs"), store_upload("free.csv", b"x", "runs")
    monkeypatch.setattr(uploads, "list_jobs", lambda runs_dir: [Job("it", "runs", (), upload=str(needed))])
    monkeypatch.setattr(uploads, "find_state", lambda job: type("State", (), {"live": True, "resumable": False}))
    uploads.remove_own_uploads()
    assert needed.exists() and not free.parent.exists()


def test_nothing_else_is_removed(work: Path) -> None:
    other = work / "kept" / "reviews.csv"
    other.parent.mkdir()
    other.write_text("x")
    remove_upload(other, "runs")
    store_upload("x.csv", b"x", "runs")
    link = Path("runs") / FOLDER / ".uploads" / "link"
    link.symlink_to(other.parent, target_is_directory=True)
    os.utime(link, (1, 1), follow_symlinks=False)
    remove_upload(link / "reviews.csv", "runs")
    clean_uploads("runs")
    assert other.exists()


@pytest.mark.parametrize("level", ["", ".uploads"])
def test_nothing_is_stored_or_removed_behind_a_link(level: str, work: Path) -> None:
    other = work / "other"
    (other / "0123456789abcdef").mkdir(parents=True)
    (other / "0123456789abcdef" / "x.csv").write_text("x")
    os.utime(other / "0123456789abcdef", (1, 1))
    other.chmod(0o755)
    link = Path("runs") / FOLDER / level
    link.parent.mkdir(parents=True)
    link.symlink_to(other)
    with pytest.raises(BundleError, match="symbolic link"):
        store_upload("mine.csv", b"text,label\na,b\n", "runs")
    clean_uploads("runs")
    remove_upload(link / "0123456789abcdef" / "x.csv", "runs")
    assert [path.name for path in other.rglob("*")] == ["0123456789abcdef", "x.csv"]
    assert other.stat().st_mode & 0o777 == 0o755


def test_what_an_earlier_version_stored_is_removed_too(work: Path) -> None:
    old = Path("runs") / FOLDER / "uploads"
    for name in ("0123456789abcdef", "other"):
        (old / name).mkdir(parents=True)
        os.utime(old / name, (1, 1))
    clean_uploads("runs")
    assert [path.name for path in old.iterdir()] == ["other"]
