"""Only textune's own lines reach a person, and a library call changes nothing for its caller."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from textune.cli.quiet import OwnLines
from textune.run import Run
from tiny import FAST, as_words, call_in_subprocess

_NOISE = '''
import importlib.abc, os, sys

class Noisy(importlib.abc.MetaPathFinder):
    """Makes noise in every way that libraries have, when numpy is imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            sys.meta_path.remove(self)
            exec(compile(NOISE, "noisy_library.py", "exec"), {"__name__": "noisy_library"})

NOISE = """
import logging, os, sys, warnings
os.write(2, b'NOISE by C code\\\\n')
print('NOISE by print', file=sys.stderr)
warnings.simplefilter('always')
warnings.warn('NOISE by warning', FutureWarning)
logging.warning('NOISE by the root logger')
handler = logging.StreamHandler()
logging.getLogger('noisy').addHandler(handler)
logging.getLogger('noisy').error('NOISE by logger')
from tqdm import tqdm
list(tqdm(range(2), desc='NOISE by tqdm'))
"""
sys.meta_path.insert(0, Noisy())
'''
_WAYS = ("C code", "print", "warning", "the root logger", "logger", "tqdm")
_FOREIGN = (
    "NOISE",
    "Warning",
    "[W:",
    "Traceback",
    "it/s]",
    "[transformers]",
    "bitsandbytes",
    "Loading weights",
    "huggingface",
)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search path on which every process finds a noisy library."""
    folder = tmp_path_factory.mktemp("noisy")
    (folder / "sitecustomize.py").write_text(_NOISE, encoding="utf-8")
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")]), *sys.path])


@pytest.fixture
def place(work: Path, reviews: Path, backbone: Path, finished: Run) -> Path:
    return fill_place(work, reviews, backbone, finished)


def fill_place(work: Path, reviews: Path, backbone: Path, finished: Run) -> Path:
    """Make d.csv, a backbone `base`, a finished run `runs/demo` and an adapter `adapter`; return the folder."""
    shutil.copy(reviews, work / "d.csv")
    (work / "base").symlink_to(backbone, target_is_directory=True)
    shutil.copytree(finished.folder, work / "runs" / "demo")
    (work / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(finished.folder / name, work / "adapter" / name)
    return work


TRAINING = ["d.csv", "backbone=base", *as_words(FAST | {"epochs": 1})]
COMMANDS = {
    "train": ["train", *TRAINING, "name=it"],
    "train qlora": ["train", *TRAINING, "name=it", "method=qlora"],
    "predict": ["predict", "runs/demo", "great fun", "backbone=base"],
    "evaluate": ["evaluate", "runs/demo", "d.csv", "backbone=base"],
    "tokens": ["tokens", "great fun", "backbone=base"],
    "import": ["import", "adapter", "--backbone", "base", "--labels", "negative,positive", "name=adopted"],
    "export onnx": ["export", "runs/demo", "--to", "onnx", "--output", "onnx", "--backbone", "base"],
    "plan": ["plan", *TRAINING, "--seconds", "0.5"],
    "compare": ["compare", *TRAINING, "methods=head,bitfit", "seeds=1"],
    "sweep": ["sweep", *TRAINING, "epochs=1", "learning_rate=1e-3,5e-3", "folds=0", "name=search"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_only_own_lines_are_shown(name: str, place: Path, noisy: str) -> None:
    done = call_in_subprocess(*COMMANDS[name], cwd=place, PYTHONPATH=noisy)
    assert done.returncode == 0, done.stderr
    for stream in (done.stderr, done.stdout):
        assert not [line for line in stream.splitlines() if any(word in line for word in _FOREIGN)]
    if name in ("train", "compare", "sweep"):
        assert "training loss" in done.stderr or "rows: " in done.stderr or name == "sweep", "its own lines are shown"


class Wrapper:
    """A stream that passes on what is written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_WAYS_TO_PRINT = {
    "print": "print('LINE', file=stream)",
    "write": "stream.write('LINE')",
    "typer": "import typer; typer.echo('LINE', file=stream)",
    "rich": "from rich.console import Console; Console(file=stream).print('LINE')",
    "function": "def show(): stream.write('LINE')\nshow()",
}


@pytest.mark.parametrize("way", _WAYS_TO_PRINT)
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("module", ["textune", "textune.cli.train", "noisy", "textunes", "transformers.utils.logging"])
def test_a_line_is_that_of_who_prints_it(module: str, wrap: bool, way: str) -> None:
    target = io.BytesIO()
    own = OwnLines(target, encoding="utf-8", write_through=True)
    exec(_WAYS_TO_PRINT[way], {"__name__": module, "stream": Wrapper(own) if wrap else own})
    assert (b"LINE" in target.getvalue()) == (module.partition(".")[0] == "textune")


def test_bars_of_a_thread_are_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from textune.progress import Rich

    target = io.BytesIO()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", OwnLines(target, encoding="utf-8", write_through=True))
    progress = Rich()
    with progress.task("training", 3) as task:
        before = target.tell()
        time.sleep(0.5)  # drawn by the thread alone
        assert target.tell() > before
        task.advance()
        exec("print('LINE', file=stream)", {"__name__": "noisy", "stream": sys.stderr})
        progress.say("a line of ours")
    assert b"LINE" not in target.getvalue() and b"a line of ours" in target.getvalue()


@pytest.mark.parametrize("word", ["--debug", "--verbose"])
def test_libraries_are_heard_on_request(word: str, place: Path, noisy: str) -> None:
    done = call_in_subprocess("inspect", "d.csv", "backbone=base", word, cwd=place, PYTHONPATH=noisy)
    assert done.returncode == 0 and "rows" in done.stdout
    for way in _WAYS:
        assert f"NOISE by {way}" in done.stderr, way


def test_errors_notes_and_usage_are_shown(place: Path, noisy: str) -> None:
    for words, code, line in (
        (("inspect", "d.csv", "model=base", "label=nothing"), 3, "error: d.csv: no column 'nothing'"),
        (("inspect", "d.csv", "model=base"), 0, "note: model= is read as backbone=base"),
        (("inspect",), 2, "Missing argument"),
    ):
        done = call_in_subprocess(*words, cwd=place, PYTHONPATH=noisy)
        assert done.returncode == code and line in done.stderr and "NOISE" not in done.stderr, done.stderr


_CALLER = """
import logging, sys, warnings
import datasets, optuna, peft, sklearn, torch, transformers
from huggingface_hub.utils import are_progress_bars_disabled

LOGGERS = [logging.root, *(i for i in logging.root.manager.loggerDict.values() if isinstance(i, logging.Logger))]

def look():
    levels = [(logger.name, logger.level, logger.disabled, len(logger.handlers)) for logger in LOGGERS]
    hidden = transformers.logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    verbosity = transformers.logging.get_verbosity(), optuna.logging.get_verbosity()
    return (*levels, list(warnings.filters), warnings.showwarning, logging.root.manager.disable, hidden, verbosity)

CALL
"""
_CALLS = {
    "train": 'run = textune.train("d.csv", backbone="base", **FAST); run.load(backbone="base").predict(["great fun"])',
    "predict": 'textune.load("runs/demo", backbone="base").predict("great fun")',
    "sweep": 'textune.sweep("d.csv", backbone="base", name="search", '
             'sweep={"space": {"batch_size": [8, 4]}, "folds": 0}, **{k: FAST[k] for k in FAST if k != "batch_size"})',
    "import": 'textune.import_adapter("adapter", "base", "negative,positive", name="adopted")',
}  # fmt: skip


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, reviews: Path, backbone: Path, finished: Run) -> dict[str, Any]:
    """What each call changed for its caller: one after the other in one process, as the imports take longest."""
    place = fill_place(tmp_path_factory.mktemp("calls"), reviews, backbone, finished)
    calls = [f"import json, textune\nFAST, found = {FAST!r}, {{}}"]
    for name, call in _CALLS.items():
        calls.append(f"before = look()\n{call}\nafter = look()")
        calls.append(f"found[{name!r}] = [repr(pair) for pair in zip(before, after) if pair[0] != pair[1]]")
    code = _CALLER.replace("CALL", "\n".join([*calls, "print(json.dumps(found))"]))
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", _CALLS)
def test_a_call_changes_nothing_for_its_caller(name: str, changed: dict[str, Any]) -> None:
    assert changed[name] == []


_METHODS = ("full", "lora", "qlora")
"""Each needs libraries that those before it do without, and these speak when they are imported."""


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory, reviews: Path, backbone: Path, finished: Run) -> dict[str, str]:
    """What a training by each method prints on standard error, in one process."""
    place = fill_place(tmp_path_factory.mktemp("trainings"), reviews, backbone, finished)
    code = f"import os, textune\nfor method in {_METHODS!r}:\n"
    code += "    os.write(2, f'\\nBEGIN {method}\\n'.encode())\n"
    code += f"    textune.train('d.csv', backbone='base', method=method, **{FAST!r})\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, *parts = done.stderr.split("\nBEGIN ")
    found = {method: text for method, _, text in (part.partition("\n") for part in parts)}
    return found | {_METHODS[0]: before + found[_METHODS[0]]}


@pytest.mark.slow
@pytest.mark.parametrize("method", _METHODS)
def test_libraries_are_quiet_in_python_too(method: str, spoken: dict[str, str]) -> None:
    foreign = [line for line in spoken[method].splitlines() if any(word in line for word in _FOREIGN)]
    assert not foreign
