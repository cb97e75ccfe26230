"""Killed, stopped, damaged, full: whatever happens to a run, nothing is lost and nothing is guessed."""

from __future__ import annotations

import errno
import gc
import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from textune.bundle import has_begun, read_manifest
from textune.errors import BundleError
from textune.files import read_json_lines
from textune.inference import load
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run import Run, resume
from textune.training import checkpoint as checkpoint
from tiny import Command, StopAt, as_words, call_textune, hash_weights, settings_for, start_textune, train_tiny

SETTINGS: dict[str, Any] = {
    "epochs": 2, "dropout": 0.1, "checkpoint_every_steps": 1, "eval_every_steps": 4, "validation_fraction": 0.0,
}  # fmt: skip
"""Twelve steps, each with a checkpoint. Without validation rows the last weights are the ones that are kept: with
them a run that went wrong after its best step could not be told from one that did not."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, backbone: Path, reviews: Path) -> Run:
    """The run that nothing happened to."""
    return train_tiny(reviews, backbone, tmp_path_factory.mktemp("whole") / "run", **SETTINGS)


def settings_of(folder: Path, backbone: Path, reviews: Path, **changes: Any) -> list[str]:
    return as_words(settings_for(reviews, backbone, folder, **(SETTINGS | changes)))


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory, backbone: Path, reviews: Path) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(RunInterrupted):
        train_tiny(reviews, backbone, folder, StopAt(7), **SETTINGS)
    return folder


@pytest.fixture
def stopped(tmp_path: Path, stopped_once: Path) -> Path:
    """A copy of a run that was asked to stop after step 7: the checkpoints of steps 6 and 7 are there."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def checkpoints_of(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("step-*"))


def flip_bit(path: Path, position: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 1
    path.write_bytes(content)


DEATHS = [
    ("textune.run.fit:write_text_atomically", 1),
    ("textune.run.fit:write_settings", 1),
    ("textune.training.trainer:Trainer.take_step", 6),
    ("textune.training.checkpoint:save_file", 1),
    ("textune.training.checkpoint:save_file", 14),
    ("textune.training.checkpoint:flush", 25),
    ("textune.run.save:check_reload", 1),
    ("textune.run.evaluate:render_card", 1),
    ("textune.run.api:load_run", 1),
]
MORE_DEATHS = [
    ("textune.run.fit:build_model", 1),
    ("textune.training.trainer:Trainer.take_step", 1),
    ("textune.training.checkpoint:_random_tensors", 4),
    ("textune.training.checkpoint:_hash_content", 5),
    ("textune.training.checkpoint:flush", 19),
    ("textune.training.trainer:remove_all_but", 6),
    ("textune.training.trainer:Trainer._finish", 1),
    ("textune.run.save:write_bundle", 1),
    ("textune.run.save:write_manifest", 1),
    ("textune.run.evaluate:measure_ladder", 1),
    ("textune.run.evaluate:update_manifest", 1),
]
"""Functions at whose n-th call the process is killed."""


@pytest.mark.parametrize(
    ("place", "number"),
    [*DEATHS, *(pytest.param(*death, marks=pytest.mark.slow) for death in MORE_DEATHS)],
    ids=[f"{place.rpartition(':')[2]}-{number}" for place, number in (*DEATHS, *MORE_DEATHS)],
)
def test_killed_at_any_point_ends_in_the_same_weights(
    place: str, number: int, whole: Run, backbone: Path, reviews: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = settings_of(folder, backbone, reviews)
    call_textune("train", *words, cwd=tmp_path, code=-signal.SIGKILL, die_in=(place, number))
    left = checkpoints_of(folder)
    assert all(checkpoint.find_damage(path) is None for path in left), "a checkpoint is whole or absent"
    too_early = place in ("textune.run.fit:write_settings", "textune.run.fit:write_text_atomically")
    if too_early or place.endswith("load_run"):  # nothing to go on with yet, or nothing left to do
        command = call_textune("resume", str(folder), cwd=tmp_path, code=None)
        assert "no interrupted run" in command.stderr or "already finished" in command.stderr
        if too_early:
            call_textune("train", *words, cwd=tmp_path)
    else:
        command = call_textune("resume", str(folder), cwd=tmp_path)
        assert bool(left) == ("resuming at step" in command.stderr)
    assert hash_weights(folder) == hash_weights(whole.folder)
    assert read_manifest(folder).metrics["accuracy"] == whole.manifest.metrics["accuracy"]
    for name in ("README.md", "evaluation/report.html", "evaluation/metrics.json", "evaluation/predictions.parquet"):
        assert (folder / name).is_file()
    assert not list(folder.rglob("*partial*"))


@pytest.mark.slow
def test_killed_again_and_again_at_random_moments(whole: Run, backbone: Path, reviews: Path, tmp_path: Path) -> None:
    folder, chance = tmp_path / "run", random.Random()
    words = ["train", *settings_of(folder, backbone, reviews)]
    kills = 0
    for attempt in range(12):
        command = start_textune(*words, cwd=tmp_path)
        time.sleep(0.1 + chance.random() * 0.1 * attempt)  # early at first: a run may take half a second
        if command.process.is_alive():
            command.signal(signal.SIGKILL)
        kills += command.wait() == -signal.SIGKILL
        assert all(checkpoint.find_damage(path) is None for path in checkpoints_of(folder))
        words = ["resume", str(folder)] if has_begun(folder) else [*words[:1], *words[1:], "--overwrite"]
        if (folder / "textune.json").is_file() and read_manifest(folder).metrics:
            break
    assert kills
    call_textune(*words, cwd=tmp_path)
    assert hash_weights(folder) == hash_weights(whole.folder)


def wait_for_steps(command: Command, folder: Path, steps: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        lines = read_json_lines(folder / "metrics.jsonl")
        if sum(line["kind"] == "step" for line in lines) >= steps:
            return
        assert command.process.is_alive(), command.stderr
        time.sleep(0.01)
    raise AssertionError("the run does not get on")


LONG = SETTINGS | {"epochs": 60, "checkpoint_every_steps": 1000, "eval_every_steps": 300}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, backbone: Path, reviews: Path) -> Run:
    return train_tiny(reviews, backbone, tmp_path_factory.mktemp("long") / "run", **LONG)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_the_step_and_tells_how_to_go_on(
    number: int, code: int, backbone: Path, reviews: Path, tmp_path: Path, long: Run
) -> None:
    words = settings_of(tmp_path / "run", backbone, reviews, **LONG)
    command = start_textune("train", *words, cwd=tmp_path)
    wait_for_steps(command, tmp_path / "run", 3)
    command.signal(number)
    assert command.wait() == code
    assert f"textune resume {tmp_path / 'run'}" in command.stderr and "Traceback" not in command.stderr
    (kept,) = checkpoints_of(tmp_path / "run")
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert int(kept.name.removeprefix("step-")) == lines[-1]["step"] < 300
    call_textune("resume", str(tmp_path / "run"), cwd=tmp_path)
    assert hash_weights(tmp_path / "run") == hash_weights(long.folder)


def test_second_interrupt_stops_at_once() -> None:
    from textune.process.interrupt import StopRequest

    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal_number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("name", [*checkpoint._FILES, "state.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_taken(
    name: str, harm: str, stopped: Path, whole: Run
) -> None:
    *_, older, newest = checkpoints_of(stopped)
    assert (older.name, newest.name) == ("step-00000006", "step-00000007")
    path = newest / name
    if harm == "flip":
        flip_bit(path, path.read_bytes().index(b'"step": 7') + 8 if name == "state.json" else None)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if harm == "cut" else 0])
    progress = StopAt()
    run = resume(stopped, progress=progress)
    (warning,) = [w for w in progress.warnings if "using the checkpoint before" in w]
    assert str(newest) in warning and (name in warning or harm != "flip")
    assert any("resuming at step 6" in line for line in progress.said)
    assert hash_weights(run.folder) == hash_weights(whole.folder)


def test_damaged_checkpoint_is_written_anew(stopped: Path) -> None:
    flip_bit(checkpoints_of(stopped)[-1] / "trainable.safetensors")
    with pytest.raises(RunInterrupted):
        resume(stopped, progress=StopAt(8))
    assert [p.name for p in checkpoints_of(stopped)][-2:] == ["step-00000007", "step-00000008"]
    assert all(checkpoint.find_damage(path) is None for path in checkpoints_of(stopped))


def test_all_checkpoints_damaged_is_an_error(stopped: Path) -> None:
    for path in checkpoints_of(stopped):
        flip_bit(path / "optimizer.safetensors")
    with pytest.raises(BundleError, match="every checkpoint is damaged"):
        resume(stopped, progress=Silent())


@pytest.mark.parametrize("name", ["optimizer.safetensors", "random.safetensors"])
def test_missing_file_refuses_to_go_on(name: str, stopped: Path) -> None:
    (checkpoints_of(stopped)[-1] / name).unlink()
    with pytest.raises(BundleError, match=rf"step-00000007: {name} is missing.*exactly") as caught:
        resume(stopped, progress=Silent())
    assert "older" in (caught.value.hint or "")


def test_changed_setting_is_refused_and_shown(stopped: Path) -> None:
    path = stopped / "config.yaml"
    settings = yaml.safe_load(path.read_text()) | {"learning_rate": 0.5, "seed": 43}
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(BundleError) as caught:
        resume(stopped, progress=Silent())
    assert "learning_rate: 0.005 when the run began, 0.5 now" in caught.value.message
    assert "seed: 42 when the run began, 43 now" in caught.value.message
    assert checkpoints_of(stopped)


def test_changed_data_is_refused_and_shown(tmp_path: Path, backbone: Path, reviews: Path) -> None:
    data = tmp_path / "own.csv"
    shutil.copyfile(reviews, data)
    with pytest.raises(RunInterrupted):
        train_tiny(data, backbone, tmp_path / "run", StopAt(3), **SETTINGS)
    data.write_text(data.read_text().replace("superb", "grand"))
    with pytest.raises(BundleError, match=r"(?s)cannot go on: the data changed.*training: \d+ rows \(SHA-256"):
        resume(tmp_path / "run", progress=Silent())
    shutil.copyfile(reviews, data)
    assert resume(tmp_path / "run", progress=Silent()).manifest.metrics


def test_changed_backbone_is_refused(tmp_path: Path, backbone: Path, reviews: Path) -> None:
    from safetensors.torch import load_file, save_file

    own = tmp_path / "tiny-own"
    shutil.copytree(backbone, own)
    with pytest.raises(RunInterrupted):
        train_tiny(reviews, own, tmp_path / "run", StopAt(3), **SETTINGS)
    tensors = load_file(own / "model.safetensors")
    save_file({n: t + 0.01 for n, t in tensors.items()}, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BundleError, match="backbone"):
        resume(tmp_path / "run", progress=Silent())


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"),
                                   RuntimeError("Error while serializing: I/O error: No space left on device "
                                                "(os error 28)")])  # fmt: skip
@pytest.mark.parametrize("function", ["save_file", "flush"])
def test_full_disk_leaves_the_older_checkpoint_whole(
    error: Exception, function: str, whole: Run, backbone: Path, reviews: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    original, calls = getattr(checkpoint, function), iter(range(1_000))

    def fail_late(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 11:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(checkpoint, function, fail_late)
    folder = tmp_path / "run"
    with pytest.raises(BundleError, match="the disk is full") as caught:
        train_tiny(reviews, backbone, folder, **SETTINGS)
    assert f"textune resume {folder}" in (caught.value.hint or "")
    assert not list((folder / "checkpoints").glob(".partial*"))
    left = checkpoints_of(folder)
    assert left and all(checkpoint.find_damage(path) is None for path in left)
    monkeypatch.undo()
    resume(folder, progress=Silent())
    assert hash_weights(folder) == hash_weights(whole.folder)


def test_space_is_checked_before_training(
    tmp_path: Path, backbone: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(BundleError, match="0 MiB free, this run needs about") as caught:
        train_tiny(reviews, backbone, tmp_path / "run")
    assert "runs_dir" in (caught.value.hint or "")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_disk_that_is_really_full(backbone: Path, reviews: Path, tmp_path: Path, whole: Run) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        folder = place / "run"
        progress = _Fill(4, place / "filler")
        with pytest.raises(BundleError, match="disk is full"):
            train_tiny(reviews, backbone, folder, progress, **SETTINGS)
        left = checkpoints_of(folder)
        assert left and all(checkpoint.find_damage(path) is None for path in left)
        assert not list((folder / "checkpoints").glob(".partial*"))
        (place / "filler").unlink()
        resume(folder, progress=Silent())
        assert hash_weights(folder) == hash_weights(whole.folder)
    finally:
        gc.collect()  # tensors may still be views of files there
        subprocess.run(["umount", "-l", str(place)], check=True)


class _Fill(StopAt):
    """Fills the disk, but for a little, when so many steps are taken."""

    def __init__(self, step: int, filler: Path) -> None:
        super().__init__()
        self._fill_at, self._filler = step, filler

    def advance(self, steps: int = 1, note: str = "") -> None:
        super().advance(steps, note)
        if self._taken == self._fill_at:
            free = shutil.disk_usage(self._filler.parent).free
            self._filler.write_bytes(b"x" * max(free - 20 * 1024, 0))


def test_second_process_on_the_folder_refuses(backbone: Path, reviews: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = settings_of(folder, backbone, reviews, epochs=500)
    first = start_textune("train", *words, cwd=tmp_path)
    try:
        wait_for_steps(first, folder, 2)
        again = call_textune("resume", str(folder), cwd=tmp_path, code=5)
        assert "another process is working on this run" in again.stderr
        over = call_textune("train", *words, "--overwrite", cwd=tmp_path, code=5)
        assert "another process is working on this run" in over.stderr
        call_textune("train", *words, cwd=tmp_path, code=5)
        assert first.process.is_alive() and checkpoints_of(folder)
    finally:
        first.signal(signal.SIGKILL)
        first.wait()


def test_finished_run_says_so(whole: Run) -> None:
    before = hash_weights(whole.folder), sorted(whole.folder.rglob("*"))
    progress = StopAt()
    again = resume(whole.folder, progress=progress)
    assert any("already finished" in line for line in progress.said)
    assert again.metrics == whole.metrics
    assert (hash_weights(whole.folder), sorted(whole.folder.rglob("*"))) == before


def test_unfinished_run_is_no_bundle_and_says_how_to_go_on(stopped: Path) -> None:
    with pytest.raises(BundleError, match="not a finished run") as caught:
        load(stopped)
    assert f"textune resume {stopped}" in (caught.value.hint or "")
    with pytest.raises(BundleError, match="no interrupted run"):
        resume(stopped.parent / "nowhere")


def test_moved_run_goes_on(stopped: Path, whole: Run, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    stopped.rename(moved)
    run = resume(moved, progress=Silent())
    assert run.folder == moved
    assert hash_weights(moved) == hash_weights(whole.folder)


@pytest.mark.parametrize("name", ["checkpoints", "backbone", "data", "tokenizer.json", ".lock", "metrics.jsonl"])
def test_nothing_is_written_through_a_link_of_a_run_from_elsewhere(name: str, stopped: Path, tmp_path: Path) -> None:
    """Not a byte outside the folder is written, emptied or deleted."""
    outside = tmp_path / "outside"
    is_folder = name in ("checkpoints", "backbone", "data")
    files = [outside / "step-00000002" / "state.json", outside / "config.json"] if is_folder else [outside]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a person's")
    before = sorted(tmp_path.rglob("*"))
    if (stopped / name).is_dir():
        shutil.rmtree(stopped / name)
    (stopped / name).unlink(missing_ok=True)
    (stopped / name).symlink_to(outside)
    with pytest.raises(BundleError, match=f"{name}: is a symbolic link"):
        resume(stopped, progress=Silent())
    assert all(file.read_text() == "a person's" for file in files)
    assert sorted(path for path in outside.rglob("*")) == [path for path in before if outside in path.parents]


WRONG: dict[str, list[Any]] = {
    "settings": [3.5, [1]],
    "data": [[1], {}, {"training": {"rows": 1}}, {"training": {"rows": "1", "sha256": "a"}}],
    "labels": [3.5, "ab", [1], {"a": 1}],
    "backbone": [3.5, None],
    "precision": ["auto", {}, {"name": "fp64", "reason": "x"}, {"name": "fp32", "reason": "x", "more": 1}],
    "engine": [3.5, "lean", {}, {"max_tokens": "9"}, {"max_tokens": 9, "prefix_layers": -1}],
    "threads": [0, "2", 1.5, True, None],
    "device": [3.5, None],
    "versions": [3.5, [1]],
}


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, values in WRONG.items() for wrong in values])
def test_a_plan_of_another_shape_is_damaged(name: str, wrong: Any, stopped: Path) -> None:
    path = stopped / "plan.json"
    plan = json.loads(path.read_text())
    for changed in (plan | {name: wrong}, {k: v for k, v in plan.items() if k != name}):
        path.write_text(json.dumps(changed))
        with pytest.raises(BundleError, match=f"the run's plan is damaged: {name} (must be|is missing)"):
            resume(stopped, progress=Silent())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("step", "where"), [("save", "saved"), ("evaluate", "measured")])
def test_a_signal_after_the_training_tells_how_to_go_on(
    step: str, where: str, number: int, whole: Run, backbone: Path, reviews: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "run"

    def stop(*arguments: Any) -> None:
        try:
            signal.raise_signal(number)
        except Exception:  # what a library takes for a fault of its own
            pytest.fail("a stop is no error that a library may swallow")

    with monkeypatch.context() as patch:
        patch.setattr(f"textune.run.api.{step}", stop)
        with pytest.raises(RunInterrupted, match=f"after its training, while it was {where}") as stopped:
            train_tiny(reviews, backbone, folder, **SETTINGS)
    assert stopped.value.exit_code == 128 + number and f"textune resume {folder}" in str(stopped.value.hint)
    with pytest.raises(BundleError, match="already exists") as refused:
        train_tiny(reviews, backbone, folder, **SETTINGS)
    assert f"textune resume {folder}" in str(refused.value.hint)
    assert hash_weights(resume(folder, progress=Silent()).folder) == hash_weights(whole.folder)


def test_a_run_that_is_resumed_as_the_current_folder_keeps_its_name(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stopped)
    assert resume(".", progress=Silent()).folder == stopped
    assert f"# {stopped.name}\n" in (stopped / "README.md").read_text(encoding="utf-8")
