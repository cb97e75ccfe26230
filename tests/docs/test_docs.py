"""The documentation is true: its commands and Python blocks run, its links lead somewhere, the reference is fresh.

A block runs unless a comment right above it says otherwise:
    <!-- test: skip because it needs the network -->
    <!-- test: replace 2_000 by 60 -->   (the same words, on less data)
The blocks of one page run in their order, in one folder with small tables.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from children import Forked
from textune.backbones import resolve_backbone
from textune.backbones.embedded import EMBEDDED, MINILM, EmbeddedModel
from textune.cli import main
from workplace import write_workplace

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "recipes").rglob("README.md")),
]  # fmt: skip
RUN = [ROOT / "README.md", ROOT / "docs" / "tutorial.md", ROOT / "docs" / "howto.md"]

_BLOCK = re.compile(r"(?:<!-- test: (?P<order>[^\n]*?) -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_REPLACE = re.compile(r"replace (?P<old>\S+) by (?P<new>\S+)")


@dataclass(frozen=True)
class Block:
    """One fenced block. order: what the comment above it says, or nothing."""

    kind: str
    body: str
    order: str

    @property
    def runs(self) -> bool:
        return self.kind in ("console", "bash", "python") and not self.order.startswith("skip because ")


def list_blocks(page: Path) -> Iterator[Block]:
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        body, order = match["body"], match["order"] or ""
        if replace := _REPLACE.fullmatch(order):
            assert replace["old"] in body, f"{page.name}: '{replace['old']}' is not in the block below '{order}'"
            body = body.replace(replace["old"], replace["new"])
        else:
            assert not order or order.startswith("skip because "), f"{page.name}: '{order}' is not understood"
        yield Block(match["kind"], body, order)


def list_commands(block: Block) -> list[str]:
    """Return the commands of a console block, each with its continued lines; output lines are left out."""
    joined = block.body.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ") or block.kind == "bash"]


def run_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `textune ...` in this process, which spares loading torch each time; other commands by the shell."""
    before, _, last = command.rpartition(" | textune ")
    words = shlex.split(f"textune {last}" if before else command, comments=True)
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            patch.setenv(*words.pop(0).split("=", 1))
        if words[0] == "textune" and "|" not in words:
            with pytest.raises(SystemExit) as done, pipe_in(before, patch):
                main(words[1:])
            assert done.value.code == 0, command
            return
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        if any(word.endswith("predict.py") for word in words):
            patch.setenv("PYTHONPATH", str(hide_modules(Path("hidden").absolute(), "textune", "torch", "transformers")))
        subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, stdin=subprocess.DEVNULL)


@contextmanager
def pipe_in(command: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let standard input be what a command writes, where there is one."""
    if not command:
        yield
        return
    own = os.dup(0)
    with subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as writer:
        assert writer.stdout is not None
        os.dup2(writer.stdout.fileno(), 0)
        try:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.FileIO(0, closefd=False)))
            yield
        finally:
            os.dup2(own, 0)
            os.close(own)
    assert writer.returncode == 0, command


class StandIn(EmbeddedModel):
    """A tiny model in the place of the embedded one."""

    @property
    def folder(self) -> Path:
        return Path(self.module)


def hide_modules(folder: Path, *names: str) -> Path:
    """Return a folder on whose search path these modules cannot be imported: an export needs none of them."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} is hidden')\n", encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_workplace(tmp_path))
    monkeypatch.setattr(
        "textune.config.defaults.choose_epochs", lambda rows, classes, batch_size: 1
    )  # by rule it is ten
    monkeypatch.setattr("textune.config.defaults.choose_contrast_steps", lambda rows: 2)
    if page.name == "howto.md":  # the embedded model itself is that of the other pages
        tiny = resolve_backbone("models/my-bert")
        stand_in = StandIn(MINILM.name, MINILM.id, tiny.sha256, str(tiny.folder.absolute()), MINILM.requirement)
        monkeypatch.setitem(EMBEDDED, MINILM.name, stand_in)
    names: dict[str, object] = {"__name__": "__main__"}
    ran = 0
    for block in list_blocks(page):
        if block.kind == "yaml":
            first, _, rest = block.body.partition("\n")
            Path(first.removeprefix("# ")).write_text(rest, encoding="utf-8")
        if not block.runs:
            continue
        ran += 1
        if block.kind == "python":
            exec(compile(block.body, f"{page.name}: {block.body.splitlines()[0]}", "exec"), names)
        for command in list_commands(block) if block.kind != "python" else ():
            run_command(command, monkeypatch)
    assert ran


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for match in _LINK.finditer(page.read_text(encoding="utf-8")):
        name, _, heading = match["target"].partition("#")
        if "://" in name:
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {match['target']} leads nowhere"
        if heading and target.suffix == ".md":
            assert heading in list_anchors(target), f"{page.name}: {target.name} has no heading '{heading}'"


def list_anchors(page: Path) -> set[str]:
    """Return the anchors that a Markdown page's headings get."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_blocks_compile_and_skips_have_reasons(page: Path) -> None:
    for block in list_blocks(page):
        if block.kind == "python":
            compile(block.body, page.name, "exec")
        if block.order.startswith("skip"):
            assert len(block.order) > len("skip because "), page.name


_NAMED = (
    re.compile(r"\btextune(?:\.[a-z_]+)+\b(?!/)"),  # a module, or what it holds
    re.compile(r"\b(?:src/textune|tests|benchmarks|docs|recipes|slides|requirements)/[\w/.-]*\w\b"),
    re.compile(r"`((?:\w+/)*\w+\.py)\b"),  # a file as prose names it: below the root, or below a package
)
_NO_MODULES = {"textune.json", "textune.md"}


def list_named(text: str) -> set[str]:
    """Return the modules and files of this repository that a text names."""
    found = {match[match.re.groups] for pattern in _NAMED for match in pattern.finditer(text)}
    return {name for name in found if name not in _NO_MODULES and "NAME" not in name}


def is_here(name: str) -> bool:
    """Whether a name that prose uses is a module with that name in it, or a file."""
    if "/" in name or name.endswith(".py"):
        return (ROOT / name).exists() or any(ROOT.glob(f"*/{name}")) or any((ROOT / "src").rglob(name))
    folder, (first, *rest) = ROOT / "src", name.split(".")
    for part in (first, *rest):
        if (folder / part).is_dir():
            folder /= part
            continue
        module = folder / f"{part}.py"
        return module.is_file() or re.search(rf"\b{part}\b", (folder / "__init__.py").read_text("utf-8")) is not None
    return True


def test_names_of_modules_and_files_are_todays() -> None:
    """Prose, docstrings and comments name only modules and files that exist."""
    sources = [p for name in ("src", "benchmarks", "docs", "recipes", "slides") for p in (ROOT / name).rglob("*.py")]
    pages = [*PAGES, *(ROOT / "slides").glob("*.md"), ROOT / "benchmarks" / "README.md", ROOT / "Makefile"]
    stale = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*sources, *pages)
        for name in sorted(list_named(path.read_text("utf-8")))
        if not is_here(name)
    ]
    assert not stale, stale


def test_reference_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_contributed_examples_work(tmp_path: Path) -> None:
    """The method, the task, the family and the source of CONTRIBUTING.md do what the page says, in a new process."""
    method, task, family, source = (b.body for b in list_blocks(ROOT / "CONTRIBUTING.md") if b.kind == "python")
    (tmp_path / "norm.py").write_text(method, encoding="utf-8")
    (tmp_path / "roformer.py").write_text(family, encoding="utf-8")
    (tmp_path / "regression.py").write_text(task, encoding="utf-8")
    (tmp_path / "mail.py").write_text(source, encoding="utf-8")
    (tmp_path / "check.py").write_text(_CHECK, encoding="utf-8")
    with (tmp_path / "errors").open("w+", encoding="utf-8") as errors:
        process = Forked([sys.executable, "check.py"], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                         env=os.environ, cwd=tmp_path)  # fmt: skip
        assert process.wait(300) == 0, (tmp_path / "errors").read_text(encoding="utf-8")


_CHECK = """
from pathlib import Path

import transformers

import mail, norm, roformer
from textune.data import read_table
from textune.methods import resolve

Path("one.mail").write_text("Subject: hello\\n\\nsome text", encoding="utf-8")
assert read_table("one.mail").arrow.to_pylist() == [{"subject": "Subject: hello", "text": "some text"}]

config = transformers.AutoConfig.for_model("roformer", hidden_size=16, embedding_size=16, num_hidden_layers=1,
    num_attention_heads=2, intermediate_size=16, vocab_size=50)
for name, raw, moving in (("norm", {"biases": "false"}, "LayerNorm.weight"), ("lora", {}, "lora_A")):
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model = resolve(name, raw).apply(model, roformer.roformer, ())
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert any(moving in n for n in trained), trained
    assert any("classifier" in n for n in trained), trained
    assert not any("LayerNorm.bias" in n or n.endswith("query.weight") for n in trained), trained

import json

import numpy as np
import pyarrow.parquet as pq
import tiny
from textune.cli import main
from textune.errors import ConfigError, DataError
from textune.inference import Predictor
from textune.inference.files import FileForm, predict_file

import regression

words = ("awful", "dull", "slow", "fine", "good", "superb")
rows = [f"the film was {words[i % 6]} and {words[i % 6]} {i},{i % 6 / 2}" for i in range(90)]
Path("stars.csv").write_text("\\n".join(["text,label", *rows]), encoding="utf-8")
backbone = tiny.build_backbone("bert", Path("backbone").resolve())
settings = {"task": "regression", "epochs": 12, "learning_rate": 1e-2, "max_length": 16}
run = tiny.train_tiny("stars.csv", backbone, Path("runs/stars"), **settings)
assert run.manifest.task == run.metrics["task"] == "regression" and run.manifest.labels == ("score",)
models = run.metrics["models"]
assert set(models) == {"majority", "tfidf", "base", "tuned"}
assert models["majority"]["explained"] < 0.05
assert models["tuned"]["explained"] > 0.5, models["tuned"]
assert json.loads((run.folder / "adapter_config.json").read_text())["task_type"] == "SEQ_CLS"
page, card = (run.folder / "evaluation" / "report.html").read_text(), (run.folder / "README.md").read_text()
assert "explained variance" in page and "macro F1" not in page and "Class by class" not in page
assert "training mean" in page and "explained variance" in card and "macro F1" not in card
stored = pq.read_table(run.folder / "evaluation" / "predictions.parquet").to_pydict()
predictor = Predictor.load(run.folder, device="cpu", precision="fp32")
np.testing.assert_allclose(predictor.predict(stored["text"]), stored["predicted_label"], atol=1e-3)
assert [p.value for p in predictor.classify(stored["text"][:2])] == predictor.predict(stored["text"][:2])
predict_file(predictor, "stars.csv", Path("out.jsonl"), form=FileForm(probabilities=True))
assert json.loads(Path("out.jsonl").read_text().splitlines()[0]).keys() == {"text", "label", "score"}
assert 0 <= run.evaluate("stars.csv").explained <= 1
for wrong in ({"class_weights": "balanced"}, {"threshold": 0.3}, {"head_init": "probe"}, {"contrast_steps": 4}):
    try:
        tiny.train_tiny("stars.csv", backbone, Path("runs/none"), **settings, **wrong)
    except ConfigError:
        continue
    raise AssertionError(wrong)
"""


@pytest.mark.parametrize("page", ["README.md", "slides/textune.md"])
def test_the_tutorial_is_announced_by_its_title(page: str) -> None:
    title = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    (line,) = (line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if "a first classifier" in line)
    assert title.lower() in line.lower()
