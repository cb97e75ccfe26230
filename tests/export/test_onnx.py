"""ONNX and int8 exports: equal to the run, measured before they are given away, and free of torch."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny
from textune.bundle import read_manifest
from textune.cli import main
from textune.config import build_config
from textune.data import Examples
from textune.engine import onnx as engine
from textune.errors import BundleError, ConfigError, DataError, MissingExtraError, ModelError
from textune.evaluation import compare_pair, count_correct
from textune.export.merged import export_merged, push_folder
from textune.export.onnx import Quality, describe_doubt, export_onnx
from textune.export.onnx import _write_graph as write_graph
from textune.inference import Predictor
from textune.run import Run
from textune.run.other_rows import read_labelled

TEXTS = (*tiny.UNEQUAL, "bad", "a superb story")


@pytest.fixture(scope="module")
def exported(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "model"
    export_onnx(finished.folder, folder)
    return folder


def largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_gives_the_runs_logits(family: str, tmp_path: Path, backbones: dict[str, Path]) -> None:
    data = tiny.write_reviews(tmp_path / "reviews.csv", rows=24)
    run = tiny.train_tiny(data, backbones[family], tmp_path / "run", method="lora", epochs=1)
    export_onnx(run.folder, tmp_path / "out", backbone=str(backbones[family]))
    wanted = Predictor.load(run.folder, backbone=str(backbones[family]), precision="fp32").predict_logits(TEXTS)
    predictor = Predictor.load(tmp_path / "out")
    assert largest_difference(predictor.predict_logits(TEXTS), wanted) < 1e-4
    alone = np.concatenate([predictor.predict_logits([text]) for text in TEXTS])
    assert largest_difference(alone, wanted) < 1e-4


@pytest.mark.parametrize("long_text", ["window", "head_tail"])
def test_long_texts_are_read_as_by_the_run(long_text: str, tmp_path: Path, backbone: Path, reviews: Path) -> None:
    run = tiny.train_tiny(reviews, backbone, tmp_path / "run", long_text=long_text, max_length=12, epochs=1)
    export_onnx(run.folder, tmp_path / "out", backbone=str(backbone))
    wanted = Predictor.load(run.folder, backbone=str(backbone), precision="fp32").predict_proba(TEXTS)
    np.testing.assert_allclose(Predictor.load(tmp_path / "out").predict_proba(TEXTS), wanted, atol=1e-5)


def test_several_labels_keep_their_thresholds(tmp_path: Path, backbone: Path) -> None:
    with (tmp_path / "tags.csv").open("w", newline="") as stream:
        rows = [(text, label if i % 3 else "positive|negative") for i, (text, label) in enumerate(tiny.make_rows(60))]
        csv.writer(stream).writerows([("text", "label"), *rows])
    run = tiny.train_tiny(tmp_path / "tags.csv", backbone, tmp_path / "run", task="multi_label")
    quality = export_onnx(run.folder, tmp_path / "out", form="onnx-int8", backbone=str(backbone), force=True)
    assert quality is not None and quality.figure == "micro F1"
    assert quality.low <= quality.after - quality.before <= quality.high
    manifest = read_manifest(tmp_path / "out")
    assert manifest.thresholds == read_manifest(run.folder).thresholds
    assert isinstance(Predictor.load(tmp_path / "out").predict(TEXTS)[0], tuple)


def test_predicting_needs_no_heavy_library(exported: Path) -> None:
    code = (
        "import sys; from textune.cli import main\n"
        f"try: main(['predict', {str(exported)!r}, 'a lovely film', '--json'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"import textune; textune.load({str(exported)!r}).predict(['a lovely film'])\n"
        "heavy = {'torch', 'transformers', 'peft', 'sklearn', 'scipy', 'pandas', 'polars', 'pyarrow', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["label"] in ("positive", "negative")
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_predict_keeps_to_one_line_for_any_label(exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "out")
    manifest = json.loads((folder / "textune.json").read_text(encoding="utf-8"))
    names = [f"{name}\n\t\x1b[31m" for name in manifest["labels"]]
    (folder / "textune.json").write_text(
        json.dumps(manifest | {"labels": names, "decisions": {"quantiles": {"0.9": [1.0]}}}), encoding="utf-8"
    )

    def ask(*words: str) -> str:
        command = [sys.executable, "predict.py", *words, "great"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    shown = ask("--sets", "0.9")
    assert shown.count("\n") == 1 and shown.count("\t") == 2 and "\x1b" not in shown
    assert shown.count("tive\\n\\t\\x1b[31m") >= 2
    assert json.loads(ask("--json"))["label"] in names


def test_int8_is_measured_on_the_runs_own_validation_rows(finished: Run, tmp_path: Path) -> None:
    quality = export_onnx(finished.folder, tmp_path / "out", form="onnx-int8", force=True)
    assert quality is not None
    assert quality.source == "validation rows of the run" and quality.rows > 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest.exported["quality"]["after"] == quality.after
    assert Predictor.load(tmp_path / "out").precision == "int8"
    assert (tmp_path / "out" / "model.onnx").stat().st_size > 0
    texts = [text for text, _ in tiny.make_rows(40)]
    predictor = Predictor.load(tmp_path / "out")
    alone = np.concatenate([predictor.predict_proba([text]) for text in texts])
    assert np.array_equal(predictor.predict_proba(texts), alone), "int8 rounds by the largest number of a pass"


def test_weights_beside_a_large_graph_are_hashed_and_go_with_fp32(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.onnx._internal.exporter import _onnx_program

    monkeypatch.setattr(_onnx_program, "_LARGE_MODEL_THRESHOLD", 0)
    monkeypatch.setattr("textune.export.onnx._write_graph", write_graph)  # the tests' own keeps graphs of one file
    export_onnx(finished.folder, tmp_path / "out")
    weights = tmp_path / "out" / "model.onnx.data"
    assert weights.name in read_manifest(tmp_path / "out").files
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx\.data"):
        Predictor.load(tmp_path / "out")
    export_onnx(finished.folder, tmp_path / "int8", form="onnx-int8", force=True)
    assert not (tmp_path / "int8" / weights.name).exists()
    assert weights.name not in read_manifest(tmp_path / "int8").files
    assert len(Predictor.load(tmp_path / "int8").predict_proba(list(TEXTS))) == len(TEXTS)


def test_int8_that_answers_worse_is_refused(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = np.eye(2)[[0, 1] * 50]
    wrong = np.where(np.arange(100)[:, None] < 12, 1 - right, right)
    answers = iter((right, wrong, right, wrong))
    monkeypatch.setattr("textune.export.onnx._predict", lambda *_: next(answers))
    monkeypatch.setattr("textune.data.Labels.encode_sets", lambda *_: right)
    with pytest.raises(
        BundleError,
        match=r"100\.00% in fp32, 88\.00% in int8 \(change −12\.00 points, 95% interval −1.* to −\d.*\) on 9 .*; "
        r"the whole interval is below the limit of −0\.30 points",
    ) as refused:
        export_onnx(finished.folder, tmp_path / "out", form="onnx-int8")
    assert all(word in (refused.value.hint or "") for word in ("to='onnx'", "data='FILE'", "force=True"))
    assert not list(tmp_path.iterdir())
    quality = export_onnx(finished.folder, tmp_path / "out", form="onnx-int8", force=True)
    assert quality is not None and not quality.accepted
    stored = read_manifest(tmp_path / "out").exported["quality"]
    assert (stored["low"], stored["high"]) == (quality.low, quality.high) and quality.high < -0.003


@pytest.mark.parametrize(("lost", "gained", "accepted"), [(0, 0, True), (3, 2, True), (9, 0, False), (300, 291, True)])
def test_int8_is_refused_where_a_paired_test_shows_the_loss(lost: int, gained: int, accepted: bool) -> None:
    before = np.arange(1000) >= gained
    after = (np.arange(1000) < gained) | (np.arange(1000) >= gained + lost)
    lead = compare_pair(count_correct([after]), count_correct([before]), [0], [0]).lead
    quality = Quality("accuracy", 1000, "rows", before.mean(), after.mean(), lead.low, lead.high)
    assert quality.accepted == accepted
    assert "95% interval" in quality.describe()


def read_rows(run: Run, labels: list[str]) -> Examples:
    rows = [{"text": f"a film {i}", "label": label} for i, label in enumerate(labels)]
    return read_labelled(run.manifest, rows, build_config({}))


def test_rows_of_unknown_labels_measure_nothing(finished: Run, tmp_path: Path) -> None:
    foreign = read_rows(finished, ["Positive", "neutral"] * 9)
    with pytest.raises(DataError, match=r"'Positive', 'neutral'.*only in case") as refused:
        export_onnx(finished.folder, tmp_path / "out", form="onnx-int8", measure_on=(foreign, "rows"), force=True)
    assert "label column" in (refused.value.hint or "") and not list(tmp_path.iterdir())
    partly = read_rows(finished, ["positive", "negative", "neutral"] * 6)
    quality = export_onnx(finished.folder, tmp_path / "out", form="onnx-int8", measure_on=(partly, "rows"), force=True)
    assert quality is not None and quality.unknown == 6
    told = "on 18 rows, 6 of them with labels that the model does not know"
    assert told in quality.describe() and told in (tmp_path / "out" / "README.md").read_text()


def test_few_rows_without_a_loss_are_told() -> None:
    quality = Quality("accuracy", 9, "rows", 0.5, 0.5, -0.2831, 0.2831)
    assert quality.accepted and "a loss of 28 points would not be noticed" in (describe_doubt(quality) or "")
    assert describe_doubt(dataclasses.replace(quality, low=-0.015, high=0.015)) is None
    assert "not evaluated" in (describe_doubt(None) or "")


def test_int8_without_rows_wants_force(tmp_path: Path, backbone: Path) -> None:
    data = tiny.write_reviews(tmp_path / "gone.csv", rows=40)
    run = tiny.train_tiny(data, backbone, tmp_path / "run", epochs=1)
    other = tiny.write_reviews(tmp_path / "labelled.csv", rows=30)
    data.unlink()
    with pytest.raises(BundleError, match="cannot be evaluated"):
        export_onnx(run.folder, tmp_path / "out", form="onnx-int8", backbone=str(backbone))
    assert export_onnx(run.folder, tmp_path / "out", form="onnx-int8", backbone=str(backbone), force=True) is None
    words = ["export", str(run.folder), "--to", "onnx-int8", "--data", str(other), "--backbone", str(backbone)]
    with pytest.raises(SystemExit) as end:
        main([*words, "--force", "-o", str(tmp_path / "measured"), "--json"])
    assert not end.value.code
    assert read_manifest(tmp_path / "measured").exported["quality"]["rows"] == 30


def test_what_cannot_be_is_refused(
    exported: Path, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(exported)
    with pytest.raises(ModelError, match="without a Hugging Face model"):
        _ = predictor.model
    with pytest.raises(ModelError, match="runs on the CPU"):
        Predictor.load(exported, device="cuda")
    with pytest.raises(BundleError, match="already exists"):
        export_onnx(finished.folder, exported)
    with pytest.raises(BundleError, match="exported"):
        export_onnx(exported, tmp_path / "again")
    with pytest.raises(BundleError, match="exported"):
        export_merged(exported, tmp_path / "merged")
    with pytest.raises(BundleError, match="exported"):
        push_folder(exported, "someone/model", api=object())
    with pytest.raises(ConfigError, match="--to onnx-int8"):
        main(["--debug", "export", str(finished.folder), "--to", "onnx", "--force"])
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="changed or damaged"):
        Predictor.load(copy)
    with pytest.raises(BundleError, match="cannot be loaded"):
        engine.OnnxEngine(copy)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="onnxruntime"):
        Predictor.load(exported)


def test_a_refusal_while_the_graph_still_opens_is_a_plain_error(exported: Path) -> None:
    words = [sys.executable, "-m", "textune", "predict", str(exported), "learning_rate=bad"]
    for _ in range(4):  # a thread ended amid native code aborted the process, now and then
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "learning_rate" in done.stderr
