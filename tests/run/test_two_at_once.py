"""Two processes that do the same at once: one wins and the other says so, or each has its own; nothing is mixed."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from textune import cache
from textune.backbones import resolve_backbone
from textune.backbones.local import remember_local
from textune.errors import BundleError
from textune.files import PARTIAL, hold_place, write_file, write_folder
from textune.run import Run, load_run
from tiny import as_words, settings_for, start_textune, train_tiny, write_reviews


def run_twice(*words: str, cwd: Path) -> list[tuple[int, str]]:
    commands = [start_textune(*words, cwd=cwd) for _ in range(2)]
    return [(command.wait(), command.stderr) for command in commands]


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_one_of_two_that_write_the_same_run_wins(command: str, work: Path, backbone: Path) -> None:
    write_reviews(work / "reviews.csv")
    settings = settings_for("reviews.csv", backbone, Path("runs/it"))
    if command == "sweep":
        (work / "s.yaml").write_text(json.dumps(settings | {"sweep": {"space": {"learning_rate": [1e-3, 5e-3]}}}))
    results = run_twice(command, *(["s.yaml"] if command == "sweep" else as_words(settings)), cwd=work)
    assert sorted(code for code, _ in results) == [0, 5], results
    loser = next(errors for code, errors in results if code)
    assert "runs/it: another process is working on this run" in loser or "runs/it: this run already exists" in loser
    assert "training:" not in loser and "Traceback" not in loser
    assert load_run(work / "runs" / "it" / ("winner" if command == "sweep" else "")).metrics


def test_two_with_a_name_made_by_rule_have_their_own(work: Path, backbone: Path) -> None:
    write_reviews(work / "reviews.csv")
    settings = {k: v for k, v in settings_for("reviews.csv", backbone, Path("runs/it")).items() if k != "name"}
    results = run_twice("train", *as_words(settings), cwd=work)
    assert [code for code, _ in results] == [0, 0], results
    names = sorted(path.name for path in (work / "runs").iterdir())
    assert names == ["reviews-tiny-distilbert-lora-42", "reviews-tiny-distilbert-lora-42-2"]
    assert all(load_run(work / "runs" / name).metrics for name in names)


@pytest.mark.parametrize("words", [("export", "RUN", "-o", "out"), ("compare", "RUN", "OTHER", "-o", "out")])
def test_one_of_two_that_write_the_same_folder_wins(
    words: tuple[str, ...], finished: Run, work: Path, reviews: Path, backbone: Path
) -> None:
    places = {"RUN": str(finished.folder), "OTHER": "other"}
    # folders of the same weights that other tests have used may stand before it, or have pushed it out
    remember_local(resolve_backbone(str(backbone)))
    if "OTHER" in words:
        train_tiny(reviews, backbone, work / "other", epochs=1)
    results = run_twice(*(places.get(word, word) for word in words), cwd=work)
    codes = [code for code, _ in results]
    assert 0 in codes and set(codes) <= {0, 5}, results
    assert all("another process is writing it" in e or "already exists" in e for code, e in results if code), results
    assert not list(work.glob(f"{PARTIAL}*")) and not list((work / "out").rglob(f"{PARTIAL}*"))


def _write(kind: str, path: Path, seconds: float, started: object) -> None:
    with write_folder(path) if kind == "folder" else write_file(path) as partial:
        (partial / "a" if kind == "folder" else partial).write_text("of the first")
        started.set()  # type: ignore[attr-defined]
        time.sleep(seconds)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_another_process_writes_is_left_alone_and_what_a_dead_one_left_is_replaced(
    kind: str, tmp_path: Path
) -> None:
    path, context = tmp_path / "it", multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_write, args=(kind, path, 60, started))
    process.start()
    assert started.wait(60)
    with pytest.raises(BundleError, match="another process is writing it"), \
            write_folder(path) if kind == "folder" else write_file(path):  # fmt: skip
        pytest.fail("it is being written")
    process.kill()
    process.join()
    assert [p.name for p in tmp_path.iterdir()] == [f"{PARTIAL}it"]
    with write_folder(path) if kind == "folder" else write_file(path) as partial:
        (partial / "a" if kind == "folder" else partial).write_text("of the second")
    assert [p.name for p in tmp_path.iterdir()] == ["it"]
    assert (path / "a" if kind == "folder" else path).read_text() == "of the second"


def test_a_place_is_held_by_one_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / f"{PARTIAL}lock-it").symlink_to("elsewhere")
    with hold_place(tmp_path / "it"), pytest.raises(BundleError, match="another process"), hold_place(tmp_path / "it"):
        pytest.fail("it is held")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["elsewhere", "kept"]


def _add(folder: str, number: int) -> None:
    os.environ["TEXTUNE_CACHE"] = folder
    for i in range(20):
        cache.update_facts("facts.json", lambda facts, key=f"{number} {i}": facts | {key: True})


def test_small_files_of_the_cache_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(str(tmp_path), number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(json.loads((tmp_path / "facts.json").read_text())) == 60
