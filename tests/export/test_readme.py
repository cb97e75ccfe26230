"""Every folder that leaves textune runs without it: the lines of its README, its predict.py and its requirements."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from hubs import Hub
from textune.bundle import read_manifest
from textune.cli import main
from textune.export.marker import check_output
from textune.export.merged import export_merged, push_folder
from textune.export.onnx import export_onnx
from textune.export.readme import list_requirements
from textune.inference import Predictor
from textune.report.card_forms import change_card, split_card
from textune.report.markdown import fence
from textune.report.snippets import SECOND_TEXT, TEXT, reload_without_textune
from textune.run.save import update_manifest

TASKS: dict[str, dict[str, Any]] = {
    "single": {},
    "several": {"task": "multi_label"},
    "pairs": {"text": "text", "text_pair": "other", "label": "label"},
    "window": {"long_text": "window", "max_length": 12, "window_overlap": 2, "max_windows": 3},
    "head_tail": {"long_text": "head_tail", "max_length": 12},
    "mean": {"pooling": "mean"},
}
FAMILY = {"pairs": "bert", "mean": "bert", "several": "distilbert"}
METHODS = {"adapter": "lora", "full": "full", "delta": "bitfit"}
KINDS = ("adapter", "on the hub", "full", "delta", "merged", "onnx", "onnx-int8", "pushed adapter", "pushed full",
         "pushed delta", "pushed merged")  # fmt: skip
LIBRARY = {"adapter": "peft", "full": "transformers", "delta": "transformers", "merged": "transformers", "onnx": "onnx",
           "onnx-int8": "onnx"}  # fmt: skip
CELLS = [(kind, "single") for kind in KINDS] + [
    *((kind, task) for task in ("several", "pairs") for kind in ("adapter", "merged", "onnx")),
    ("pushed merged", "pairs"),    ("full", "several"), ("delta", "pairs"), ("onnx", "window"), ("onnx", "head_tail"),
    *((kind, "mean") for kind in ("adapter", "full", "delta", "merged", "onnx")),
]  # fmt: skip
TEXTS = ("a great and funny film", "it's a dull story, and very slow!")
ABSENT = {"peft": ("textune",), "transformers": ("textune",), "onnx": ("textune", "torch", "transformers")}
RUNNER = """
import contextlib, importlib.abc, io, json, sys
work = json.load(sys.stdin)
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in work["absent"]:
            raise ImportError(name + " is blocked here")
sys.meta_path.insert(0, Block())
answers = []
for code in work["snippets"]:
    names, output = {}, io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(compile(code, "README", "exec"), names)
        found = names.get("probabilities")
        answers.append([list(found.values()) if isinstance(found, dict) else found, output.getvalue()])
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}\\n{code}")
    sys.modules.pop("predict", None)
print(json.dumps(answers))
"""


class FolderHub(Hub):
    """Keeps what it is sent in a folder."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.place = place

    def upload_folder(self, repo_id: str, folder_path: str, **_: Any) -> None:
        shutil.copytree(folder_path, self.place / repo_id)


def write_table(task: str, path: Path) -> Path:
    if task not in ("several", "pairs"):
        return tiny.write_reviews(path, rows=40)
    rows = tiny.make_rows(60)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "other", "label"))
        for i, (text, label) in enumerate(rows):
            several = label if i % 3 else "positive|negative"
            writer.writerow((text, rows[-i - 1][0], several if task == "several" else label))
    return path


class Folders:
    """Every kind of folder for every task, each made when it is first asked for."""

    def __init__(self, place: Path, backbones: Mapping[str, Path]) -> None:
        self.place, self.backbones, self._made = place, backbones, {}

    def __call__(self, kind: str, task: str) -> Path:
        if (kind, task) not in self._made:
            self._made[kind, task] = self._make(kind, task)
        return self._made[kind, task]

    def backbone(self, task: str) -> Path:
        return self.backbones[FAMILY.get(task, "distilbert")]

    def run(self, kind: str, task: str) -> Path:
        """The run that a folder was made from."""
        method = kind.removeprefix("pushed ")
        return self("adapter" if method not in METHODS else method, task)

    def _make(self, kind: str, task: str) -> Path:
        folder = self.place / f"{kind}-{task}".replace(" ", "-")
        if kind in METHODS:
            data = write_table(task, self.place / f"{kind}-{task}.csv")
            text = {} if task == "pairs" else {"text": "text", "label": "label"}
            settings = {"method": METHODS[kind], "epochs": 1} | text | TASKS[task]
            tiny.train_tiny(data, self.backbone(task), folder, **settings)
            manifest = update_manifest(folder, temperature=1.7)
            card, lines = folder / "README.md", reload_without_textune(read_manifest(folder), folder.name, folder)
            assert manifest.temperature == 1.7
            card.write_text(change_card(card.read_text("utf-8"), {"license": "mit"}, fence(lines, "python")), "utf-8")
            return folder
        run, backbone = self.run(kind, task), str(self.backbone(task))
        if kind == "on the hub":
            shutil.copytree(run, folder)
            base = dataclasses.replace(read_manifest(run).base_model, local=False)
            manifest = update_manifest(folder, base_model=base)
            card, lines = folder / "README.md", reload_without_textune(manifest, folder.name, folder)
            card.write_text(change_card(card.read_text("utf-8"), {}, fence(lines, "python")), "utf-8")
        elif kind == "merged":
            export_merged(run, folder, backbone=backbone)
        elif kind in ("onnx", "onnx-int8"):
            export_onnx(run, folder, form=kind, backbone=backbone, force=kind == "onnx-int8")
        else:
            source = kind.removeprefix("pushed ")
            push_folder(self(source, task), f"owner/{source}-{task}", api=FolderHub(self.place))
            return self.place / "owner" / f"{source}-{task}"
        return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Folders:
    return Folders(tmp_path_factory.mktemp("folders"), backbones)


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    return split_card((folder / "README.md").read_text(encoding="utf-8"))


def list_blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def fill_in(code: str, folder: Path, base: Path, pushed: bool) -> str:
    """Set the paths that the comments ask for; a published folder needs none but that of a local base model."""
    assert ("# the path of this folder" in code) != pushed
    code = re.sub(r'".*"  # the path of this folder.*', lambda _: repr(str(folder)), code)
    return re.sub(r'".*"  # the path of the base model.*', lambda _: repr(str(base)), code)


def run_blocked(snippets: list[str], absent: tuple[str, ...], cwd: Path) -> list[Any]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    work = json.dumps({"snippets": snippets, "absent": absent})
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], cwd=cwd, env=environment, input=work, text=True, capture_output=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def answers(folders: Folders) -> Callable[[str, str], list[Any]]:
    """Return what the lines of a README answered, by kind and task; one process for each set of absent libraries."""
    work: dict[tuple[str, ...], list[tuple[tuple[str, str], str]]] = {}
    elsewhere = folders.place / "owner" / ".."
    for name in {folders.backbone(task).name for task in TASKS}:
        (folders.place / name).symlink_to(folders.backbones[name.removeprefix("tiny-")])
    for kind, task in CELLS:
        folder = folders(kind, task)
        front, body = read_card(folder)
        (code,) = list_blocks(body, "python")
        code = fill_in(code, folder, folders.backbone(task), kind.startswith("pushed"))
        for i, text in enumerate(TEXTS):
            lines = code.replace(TEXT, text).replace(SECOND_TEXT, TEXTS[1 - i])
            work.setdefault(ABSENT[front["library_name"]], []).append(((kind, task), lines))
    found: dict[tuple[str, str], list[Any]] = {}
    for absent, snippets in work.items():
        for (cell, _), answer in zip(snippets, run_blocked([c for _, c in snippets], absent, elsewhere), strict=True):
            found.setdefault(cell, []).append(answer)
    return lambda kind, task: found[kind, task]


def expect(folders: Folders, kind: str, task: str) -> list[Any]:
    """Return what textune answers to TEXTS: by the run, or by the folder where its arithmetic is its own."""
    if kind == "onnx-int8":
        predictor = Predictor.load(folders(kind, task))
    else:
        run, backbone = folders.run(kind, task), str(folders.backbone(task))
        predictor = Predictor.load(run, backbone=backbone, precision="fp32", device="cpu", merge=False)
    pairs = [[text] for text in TEXTS[::-1]] if task == "pairs" else [None, None]
    return [predictor.classify([text], second)[0] for text, second in zip(TEXTS, pairs, strict=True)]


@pytest.mark.parametrize(("kind", "task"), CELLS, ids=str)
def test_the_lines_of_every_readme_give_the_runs_probabilities(
    kind: str, task: str, folders: Folders, answers: Callable[[str, str], list[Any]]
) -> None:
    for answer, expected in zip(answers(kind, task), expect(folders, kind, task), strict=True):
        assert not isinstance(answer, str), answer
        probabilities, printed = answer
        shown = yaml.safe_load(printed)  # a literal of Python's that YAML reads as well
        if probabilities is None:
            probabilities = list(shown["probabilities"].values())
        assert probabilities == pytest.approx(list(expected.probabilities.values()), abs=1e-5)
        if task == "several":
            assert sorted(shown) == sorted(expected.labels)


@pytest.mark.parametrize(("kind", "task"), CELLS, ids=str)
def test_the_front_matter_names_the_kind(kind: str, task: str, folders: Folders) -> None:
    front, body = read_card(folders(kind, task))
    kind = kind.removeprefix("pushed ").replace("on the hub", "adapter")
    assert front["library_name"] == LIBRARY[kind] and front["pipeline_tag"] == "text-classification"
    assert front["metrics"] == (["f1"] if task == "several" else ["accuracy", "f1"])
    assert front["license"] == "mit" and {"text-classification", "textune"} <= set(front["tags"])
    assert ("onnx" in front["tags"]) == kind.startswith("onnx") and ("int8" in front["tags"]) == kind.endswith("int8")
    assert "base_model" not in front  # a local folder has no name that others know
    assert len(list_blocks(body, "python")) == 1 and "## Results on" in body and "## Training details" in body
    assert str(folders.place) not in body


@pytest.mark.parametrize(("task", "told"), [("single", "first token"), ("mean", "mean over the tokens")])
def test_every_readme_says_what_is_pooled(
    task: str, told: str, folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("adapter", "full", "delta", "merged", "onnx"):
        body, exported = read_card(folders(kind, task))[1], kind in ("merged", "onnx")
        assert re.search(rf"^\| pooling \| {told} \|$", body, re.M), body
        assert (f"Pooling: {told}." in body.partition("```python")[0]) == exported
        if kind != "merged":  # a plain model, which inspect does not read
            code, out, _ = tiny.call_here(capsys, "inspect", str(folders(kind, task)))
            assert code == 0 and re.search(rf"^pooling +{told}$", out, re.M)


NASTY = (
    "good", "a great film " * 400, "😀🎬 naïve façade — Ünïcode", "   \t leading blanks", "\u3000wide blank",
    "Zalgo̷ te̸xt", "-x is no option", "--json", "tab\tinside", "a\u2028line", " " * 9_000 + "bad", "[CLS] [SEP] [PAD]",
    "漢字かな", "\x1b[31m",
    "!" * 3_000,
)  # fmt: skip
SHELL = """
import importlib.abc, runpy, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("textune", "torch", "transformers", "peft", "huggingface_hub", "pandas"):
            raise ImportError(name + " is blocked here")
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def call_predict(folder: Path, *words: str, stdin: bytes = b"", cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run predict.py where only its three requirements can be imported."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-B", "-c", SHELL, str(folder / "predict.py"), *words], cwd=cwd, env=environment,
        input=stdin, capture_output=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "task"), [(kind, task) for kind, task in CELLS if kind.startswith("onnx")], ids=str)
def test_predict_gives_the_runs_answers(kind: str, task: str, folders: Folders, tmp_path: Path) -> None:
    folder, run = folders(kind, task), folders.run(kind, task)
    predictor = Predictor.load(run, backbone=str(folders.backbone(task)), precision="fp32", device="cpu")
    predictor = Predictor.load(folder) if kind == "onnx-int8" else predictor
    texts = NASTY[:-1] if task == "pairs" else NASTY
    seconds = texts[::-1] if task == "pairs" else None
    words = [word for i, text in enumerate(texts) for word in ([text] if seconds is None else [text, seconds[i]])]
    done = call_predict(folder, "--json", "--", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert [line["text"] for line in lines] == list(texts)
    for i, line in enumerate(lines):
        expected = vars(predictor.classify([texts[i]], None if seconds is None else [seconds[i]])[0])
        assert line["probabilities"] == pytest.approx(expected.pop("probabilities"), abs=1e-5), texts[i]
        if "labels" in expected:
            assert tuple(line["labels"]) == expected["labels"]
        else:
            assert line["label"] == expected["label"]
            assert line["probability"] == pytest.approx(expected["probability"], abs=1e-5)


def test_predict_answers_every_line(folders: Folders, tmp_path: Path) -> None:
    folder = folders("onnx", "single")
    stdin = "\ufeffgreat\r\n\n  \nna\u00efve\n".encode() + "caf\u00e9 d\u00e9j\u00e0 \u20ac".encode("cp1252")
    done = call_predict(folder, stdin=stdin, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")
    expected = Predictor.load(folder).classify(["great", "na\u00efve", "caf\u00e9 d\u00e9j\u00e0 \u20ac"])
    shown = [f"{p.label}\t{p.probability:.4f}" for p in expected]
    assert lines == [shown[0], "\t", "\t", *shown[1:], ""]
    several = call_predict(folders("onnx", "several"), "great", cwd=tmp_path).stdout.decode()
    given = Predictor.load(folders("onnx", "several")).classify(["great"])[0].answer
    assert several == ", ".join(given) + "\t" + ", ".join(f"{value:.4f}" for value in given.values()) + "\n"


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
def test_predict_reads_the_encoding_of_a_mark(codec: str, folders: Folders, tmp_path: Path) -> None:
    mark = codecs.BOM_UTF16_BE if codec == "utf-16-be" else b""
    stdin = mark + "great\r\nna\u00efve \u4e00\n\ndull".encode(codec)
    done = call_predict(folders("onnx", "single"), "--json", stdin=stdin, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert [json.loads(line)["text"] for line in done.stdout.decode().splitlines()] == [
        "great",
        "na\u00efve \u4e00",
        "",
        "dull",
    ]
    nul = call_predict(folders("onnx", "single"), stdin="great\nb\0ad\n".encode(codec), cwd=tmp_path)
    assert nul.returncode == 1 and (mark or b"error: line 2: contains a NUL" in nul.stderr)


def test_predict_says_what_is_wrong(folders: Folders, tmp_path: Path) -> None:
    single, pairs = folders("onnx", "single"), folders("onnx", "pairs")
    for folder, words, message in (
        (single, ("fine", " "), "error: text 2: a text is empty"),
        (pairs, ("one", "two", "three"), "error: text 2: expected two texts, not 1"),
        (single, (os.fsdecode(b"\xff"),), "surrogates not allowed"),
    ):
        done = call_predict(folder, *words, cwd=tmp_path)
        assert done.returncode == 1 and message in done.stderr.decode() and "Traceback" not in done.stderr.decode()
    done = call_predict(pairs, stdin=b"one\ttwo\nalone\n", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.count(b"\n") == 1 and b"error: text 2" in done.stderr


@pytest.mark.parametrize("task", ["single", "pairs"])
def test_the_commands_of_the_readme_run(task: str, folders: Folders, tmp_path: Path) -> None:
    folder = folders("onnx", task)
    (block,) = list_blocks(read_card(folder)[1], "console")
    commands = [line.removeprefix("$ ") for line in block.splitlines()]
    assert len(commands) == 3 and all(line.startswith("$ ") for line in block.splitlines())
    assert (folder / "requirements.txt").read_text().splitlines() == list_requirements()
    copy = Path(shutil.copytree(folder, tmp_path / "copy of it"))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PIP_NO_INDEX": "1",
                                "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": ""}  # fmt: skip
    outputs = []
    for command in commands:  # what is pinned is what is installed here, so that pip needs no network
        if command.startswith("pip") and shutil.which("pip", path=environment["PATH"]) is None:
            continue
        done = subprocess.run(
            command, shell=True, cwd=copy, env=environment, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        outputs.append(done.stdout)
    pair = None if task == "single" else [SECOND_TEXT]
    (expected,) = Predictor.load(folder).classify([TEXT], pair)
    assert outputs[-2] == f"{expected.label}\t{expected.probability:.4f}\n"
    assert json.loads(outputs[-1])["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)


@pytest.mark.parametrize("task", ["single", "pairs"])
def test_the_commands_that_an_export_prints_work(
    task: str, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, backbone = tmp_path / "out of it", str(folders.backbone(task))
    words = ["export", str(folders("adapter", task)), "--to", "onnx", "--output", str(target), "--backbone", backbone]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code
    printed = capsys.readouterr().out
    commands = re.findall(r": ((?:textune|python) .*)$", printed, re.M)
    assert [command.partition(" ")[0] for command in commands] == ["textune", "python"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands:
        if command.startswith("textune "):
            command = f"{sys.executable} -m {command}"
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert done.returncode == 0 and b"tive" in done.stdout, (command, done.stderr)


def test_an_export_that_was_used_and_edited_is_replaced_whole(folders: Folders, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders("onnx", "single"), tmp_path / "out"))
    (copy / "README.md").write_text("my own words")
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "predict.cpython-311.pyc").write_bytes(b"")
    check_output(copy, overwrite=True)
    run, backbone = folders.run("onnx", "single"), str(folders.backbone("single"))
    export_merged(run, tmp_path / "merged", backbone=backbone)
    (tmp_path / "merged" / "README.md").write_text("my own words")
    export_merged(run, tmp_path / "merged", backbone=backbone, overwrite=True)
    assert read_card(tmp_path / "merged")[0]["library_name"] == "transformers"
