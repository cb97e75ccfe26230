"""A Space's folder: whole without textune, with the answers of the run, and nothing of it rendered as HTML."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import textune
import tiny
from hubs import Hub
from textune.errors import BundleError, ModelError
from textune.export.api import Exported
from textune.export.merged import push_folder
from textune.export.space import export_space
from textune.export.space_app import GRADIO, write_page
from textune.inference import Predictor
from textune.report.card_forms import split_card
from textune.run import Run

pytest.importorskip("onnxruntime")

TEXTS = ("a good film", "bad", "the film was dull " * 30, "=1+1 <script>alert(1)</script> **x**")


@pytest.fixture(scope="module")
def space(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return textune.export(finished, tmp_path_factory.mktemp("space") / "page", to="space")


def ask(folder: Path, *calls: list[str], blocked: tuple[str, ...] = ("textune", "torch", "transformers")) -> list[Any]:
    """Return what app.py's `answer` gives, in an interpreter that has none of the blocked packages."""
    code = (
        f"import sys, json; sys.modules.update(dict.fromkeys({blocked!r})); sys.path.insert(0, '.'); import app\n"
        f"print(json.dumps([app.answer(*call) for call in {list(calls)!r}]))"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert not done.returncode, done.stderr
    return list(json.loads(done.stdout))


def test_the_folder_is_what_a_space_needs(space: Path, finished: Run) -> None:
    names = {path.name for path in space.iterdir()}
    assert {"app.py", "predict.py", "requirements.txt", "README.md", "model.onnx", "tokenizer.json"} <= names
    front, body = split_card((space / "README.md").read_text(encoding="utf-8"))
    assert (front["sdk"], front["sdk_version"], front["app_file"]) == ("gradio", GRADIO, "app.py")
    assert front["title"] == finished.folder.name and "pipeline_tag" not in front
    assert "python app.py" in body and "## Results on" in body
    requirements = (space / "requirements.txt").read_text(encoding="utf-8").split()
    assert requirements[0] == f"gradio=={GRADIO}"
    assert [line.partition("==")[0] for line in requirements[1:]] == ["numpy", "onnxruntime", "tokenizers"]
    assert all(line.partition("==")[2] for line in requirements)
    texts = "".join(path.read_text("utf-8") for path in space.iterdir() if path.suffix in (".py", ".md"))
    assert "import textune" not in texts and str(finished.folder.parent) not in texts
    assert not list(space.rglob("*.parquet")), "texts of the data stay at home"


def test_the_page_gives_the_runs_answers_without_textune(space: Path, finished: Run) -> None:
    predictor = Predictor.load(finished.folder, precision="fp32")
    answers = ask(space, *([text] for text in TEXTS))
    for text, (label, probabilities) in zip(TEXTS, answers, strict=True):
        expected = predictor.classify(text)
        assert label in expected.answer
        assert probabilities == pytest.approx(expected.probabilities, abs=1e-4)


def test_what_is_no_text_is_answered_by_a_sentence(space: Path) -> None:
    texts: list[Any] = ["", "  \n", "\u200b", None, "x" * 20_001, "half \ud83d a character"]
    for sentence, probabilities in ask(space, *([text] for text in texts)):
        assert sentence.endswith(".") and probabilities == {}


def test_the_page_answers_where_gradio_is(space: Path, finished: Run) -> None:
    """GRADIO_PYTHON names the interpreter of an environment made with the folder's requirements.txt."""
    python = os.environ.get("GRADIO_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import gradio"], capture_output=True, check=False).returncode:
        pytest.skip("gradio is not installed beside textune, as it needs an older pillow: set GRADIO_PYTHON")
    code = (
        "import sys, json; sys.path.insert(0, '.'); import app; page = app.build_page()\n"
        "_, url, _ = page.launch(prevent_thread_lock=True, quiet=True)\n"
        "from gradio_client import Client\n"
        "print('answer', json.dumps(Client(url, verbose=False).predict('a good film', api_name='/classify')))"
    )
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "PYTHONPATH": ""}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, cwd=space, env=environment)
    assert not done.returncode, done.stderr
    label, shown = json.loads(done.stdout.split("answer ")[-1])
    expected = Predictor.load(finished.folder, precision="fp32").classify("a good film")
    assert label in expected.answer
    values = {each["label"]: each["confidence"] for each in shown["confidences"]}
    assert values == pytest.approx(expected.probabilities, abs=1e-4)


@pytest.mark.parametrize("title", ['</h1><script>"', "a 'quoted' name", "**bold** \\n", "TITLE_HERE", "films 🎬\n"])
def test_a_title_is_text(title: str) -> None:
    values: dict[str, Any] = {}
    lines = [line for line in write_page(title).splitlines() if line.startswith("TITLE = ")]
    exec("\n".join(lines), values)
    assert values["TITLE"] == title
    values["TITLE"].encode()
    compile(write_page(title), "app.py", "exec")


def test_a_model_that_has_no_graph_is_merged(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.export.space.export_onnx", refuse_graph)
    notes = export_space(finished.folder, tmp_path / "page")
    assert "merged model" in notes[0]
    assert (tmp_path / "page" / "requirements.txt").read_text("utf-8").split()[1].startswith("torch==")
    answers = ask(tmp_path / "page", *([text] for text in TEXTS[:2]), blocked=("textune", "peft", "onnxruntime"))
    expected = textune.load(finished, precision="fp32").classify(TEXTS[:2])
    for (_, probabilities), wanted in zip(answers, expected, strict=True):
        assert probabilities == pytest.approx(wanted.probabilities, abs=1e-4)


def refuse_graph(*_: Any, **__: Any) -> None:
    raise ModelError("the exporter cannot write this model: no reason")


def test_several_labels_and_pairs(tmp_path: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(text, label if i % 3 else "positive|negative") for i, (text, label) in enumerate(tiny.make_rows(40))]
    lines = [f"{text},{text[::-1]},{label}\n" for text, label in rows]
    (tmp_path / "tags.csv").write_text("text,second,label\n" + "".join(lines), encoding="utf-8")
    settings = {"task": "multi_label", "text_pair": "second", "epochs": 1}
    run = tiny.train_tiny(tmp_path / "tags.csv", backbone, tmp_path / "run", **settings)
    predictor = Predictor.load(run.folder, backbone=str(backbone), precision="fp32")
    expected = predictor.classify("good", "bad")
    for form, blocked in (("graph", ("torch", "transformers")), ("merged", ("peft", "onnxruntime"))):
        textune.export(run, tmp_path / form, to="space", backbone=str(backbone))
        answers = ask(tmp_path / form, ["good", "bad"], ["good", ""], blocked=("textune", *blocked))
        assert answers[0][0] == (", ".join(expected.answer) or "no label")
        assert answers[0][1] == pytest.approx(expected.probabilities, abs=1e-4)
        assert answers[1] == ["Type two texts.", {}]
        monkeypatch.setattr("textune.export.space.export_onnx", refuse_graph)


def test_what_cannot_be_a_space_leaves_nothing_behind(tmp_path: Path, backbone: Path, reviews: Path) -> None:
    run = tiny.train_tiny(reviews, backbone, tmp_path / "run", method="prompt", epochs=1)
    with pytest.raises(BundleError, match="cannot be merged"):
        textune.export(run, tmp_path / "page", to="space", backbone=str(backbone))
    assert not (tmp_path / "page").exists()


def test_a_space_is_published_as_one(space: Path, tmp_path: Path) -> None:
    class SpaceHub(Hub):
        def repo_info(self, hub_id: str, **kind: Any) -> Any:
            assert kind == {"repo_type": "space"}
            return super().repo_info(hub_id)

        def upload_folder(self, *, repo_type: str, **more: Any) -> None:
            assert repo_type == "space"
            super().upload_folder(**more)

    hub = SpaceHub(private=True)
    hub.files |= {"model.safetensors": b"of a Space with a merged model", "mine.txt": b"mine"}
    hub.files |= {"app.py": b"older", "predict.py": b"older"}
    assert push_folder(space, "owner/name", api=hub) == "https://hub/owner/name"
    assert hub.private and hub.kind == {"repo_type": "space", "space_sdk": "gradio"}
    assert {"app.py", "predict.py", "model.onnx", "README.md", "mine.txt"} <= hub.files.keys()
    assert "model.safetensors" not in hub.files


def test_the_command_says_how_to_open_and_publish(
    space: Path, finished: Run, work: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(space, "my page")
    monkeypatch.setattr("textune.export.api.export_run", lambda *_, **__: Exported(Path("my page"), "space"))
    code, out, _ = tiny.call_here(capsys, "export", str(finished.folder), "--to", "space", "-o", "my page")
    assert not code and "'my page'/app.py" in out and 'textune push "my page" OWNER/NAME' in out
