"""`textune.export`: every form from Python as from the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import textune
from textune.errors import BundleError, ConfigError, DataError
from textune.files import hash_file
from textune.run import Run


@pytest.fixture
def run(finished: Run, work: Path) -> Path:
    return Path(shutil.copytree(finished.folder, work / "runs" / "demo"))


def test_the_default_is_a_merged_model_beside_the_run(run: Path) -> None:
    import transformers

    folder = textune.export(run)
    assert folder == run.parent / "demo-merged"
    pipe = transformers.pipeline("text-classification", str(folder), truncation=True)
    assert pipe("a good film")[0]["label"] == textune.load(run).predict("a good film")
    with pytest.raises(BundleError, match=r"already exists\n  choose another output=, or add overwrite=True"):
        textune.export(run)
    assert textune.export(run, overwrite=True) == folder


def test_a_merged_export_hashes_every_file_of_the_run_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def watch(path: Path) -> str:
        hashed.append(path)
        return hash_file(path)

    monkeypatch.setattr("textune.bundle.manifest.hash_file", watch)
    textune.export(run, "merged")
    assert sorted(hashed) == sorted(run / name for name in textune.bundle.read_manifest(run, verify=False).files)


@pytest.mark.parametrize("form", ["onnx", "onnx-int8"])
def test_a_graph_gives_the_answers_of_the_run(form: str, run: Path, reviews: Path) -> None:
    pytest.importorskip("onnxruntime")
    more: dict[str, Any] = {"data": reviews, "force": True} if form == "onnx-int8" else {}
    folder = textune.export(textune.run.load_run(run), "graph", to=form, **more)
    assert folder == Path("graph")
    texts = ["a good film", "a bad film"]
    assert textune.load(folder).predict(texts) == textune.load(run).predict(texts)


def test_int8_is_measured_on_a_data_frame(run: Path) -> None:
    pytest.importorskip("onnxruntime")
    rows = [{"text": "a good film", "label": "positive"}, {"text": "a bad film", "label": "negative"}] * 3
    folder = textune.export(run, "graph", to="onnx-int8", data=rows, force=True)
    quality = textune.bundle.read_manifest(folder).exported["quality"]
    assert (quality["rows"], quality["source"]) == (6, "rows of the data frame")


def test_rows_of_other_columns_are_read_as_named(run: Path) -> None:
    pytest.importorskip("onnxruntime")
    Path("march.csv").write_text("review;mood\n" + "a good film;positive\na bad film;negative\n" * 2)
    named: dict[str, Any] = {"to": "onnx-int8", "data": "march.csv", "force": True, "delimiter": ";"}
    with pytest.raises(DataError, match="label="):
        textune.export(run, "graph", **named, text="review")
    folder = textune.export(run, "graph", **named, text="review", label="mood")
    assert textune.bundle.read_manifest(folder).exported["quality"]["rows"] == 4
    with pytest.raises(ConfigError, match="label=: an export takes no such setting"):
        textune.export(run, label="mood", to="onnx-int8")


REFUSED: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "form": (lambda run: textune.export(run, to="ONNX"), ConfigError, "to='ONNX': unknown form"),
    "setting": (lambda run: textune.export(run, epochs=3), ConfigError, "epochs=: an export takes no such setting"),
    "data": (lambda run: textune.export(run, data="d.csv"), ConfigError, "only apply with to='onnx-int8'"),
    "no run": (lambda run: textune.export("nothing"), BundleError, "nothing: no such run folder"),
    "backbone": (lambda run: textune.export(run, backbone="nowhere/at-all"), Exception, "nowhere/at-all"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_exported_leaves_nothing_behind(kind: str, run: Path) -> None:
    call, error, words = REFUSED[kind]
    before = sorted(Path().rglob("*"))
    with pytest.raises(error, match=words):
        call(run)
    assert sorted(Path().rglob("*")) == before


def test_the_package_is_the_function(run: Path) -> None:
    from textune.export.merged import export_merged

    assert callable(textune.export) and callable(export_merged) and "export" in textune.__all__
