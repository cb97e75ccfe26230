"""What makes an exported folder usable without textune: its README and, for ONNX, predict.py and requirements.txt."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textune.backbones.pooling import describe_pooling
from textune.bundle import Manifest
from textune.export.probes import list_probes
from textune.inference import Predictor
from textune.report.card_forms import change_card, read_card, split_card
from textune.report.markdown import fence
from textune.report.snippets import reload_by_textune, reload_merged, reload_onnx
from textune.tasks import find_task

PREDICT, REQUIREMENTS, README = "predict.py", "requirements.txt", "README.md"


def write_merged_readme(folder: Path, run: Path, manifest: Manifest, name: str, notes: Sequence[str]) -> None:
    """Write the run's model card with the lines that load the merged model. name: of the finished folder."""
    with_labels = " with its label names and temperature" if not manifest.writing else ""
    loading = [
        f"This folder holds a whole model{with_labels}. It needs transformers alone.{_name_pooling(manifest)}",
        *notes,
        fence(reload_merged(manifest, name, folder), "python"),
    ]
    _write_card(folder, run, manifest, {"library_name": "transformers"}, loading)


def _name_pooling(manifest: Manifest) -> str:
    """Return a sentence on what the head reads; nothing for a model that writes."""
    return "" if manifest.writing else f" Pooling: {describe_pooling(manifest.pooling)}."


def write_onnx_companions(folder: Path, run: Path, predictor: Predictor, name: str, notes: Sequence[str]) -> None:
    """Write predict.py, requirements.txt and the README of an ONNX folder that is otherwise complete.

    name: of the finished folder. predictor: of the run. Where the run's task decides in another way than predict.py,
    the folder gets none, and the README says how to load it with textune.
    """
    from textune.bundle import read_manifest

    manifest = read_manifest(folder, verify=False)
    loading = [f"This folder holds the whole model as an ONNX graph.{_name_pooling(manifest)}", *notes]
    if _answers_alike(folder, predictor):
        shutil.copyfile(Path(__file__).with_name(PREDICT), folder / PREDICT)
        (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in list_requirements()), encoding="utf-8")
        loading += _explain_onnx(manifest, name, folder)
    else:
        loading += ["Only textune knows how this task answers.", fence(reload_by_textune(manifest, name), "python")]
    facts: dict[str, Any] = {"library_name": "onnx", "tags": ["onnx"]}
    if manifest.exported["form"] == "onnx-int8":
        facts["tags"] += ["int8"]
    _write_card(folder, run, manifest, facts, loading)


def list_requirements() -> list[str]:
    """Return the packages that an ONNX folder needs, pinned to the versions in use."""
    import onnxruntime
    import tokenizers

    packages = {"numpy": np, "onnxruntime": onnxruntime, "tokenizers": tokenizers}
    return [f"{name}=={module.__version__.partition('+')[0]}" for name, module in packages.items()]


def _explain_onnx(manifest: Manifest, name: str, folder: Path) -> list[str]:
    paired = manifest.columns.text_pair is not None
    arguments = '"a text to classify"' + (' "a second text"' if paired else "")
    line = "printf 'a text to classify\\ta second text\\n'" if paired else 'echo "a text to classify"'
    commands = f"$ pip install -r {REQUIREMENTS}\n$ python {PREDICT} {arguments}\n$ {line} | python {PREDICT} --json\n"
    return [
        "It needs onnxruntime, tokenizers and numpy alone, and gives the answers of `textune predict`. In this folder:",
        fence(commands, "console"),
        "In Python:",
        fence(reload_onnx(manifest, name, folder), "python"),
    ]


def _answers_alike(folder: Path, predictor: Predictor) -> bool:
    """Return whether predict.py gives the probabilities of the exported folder and decides as the run's task does."""
    from textune.export.predict import Classifier

    task, classifier, exported = predictor.task, Classifier(folder), Predictor.load(folder)
    for texts in list_probes(predictor.manifest):
        answer = classifier.classify(*texts)
        shares = np.array([list(answer["probabilities"].values())])
        expected = exported.predict_proba(*([text] for text in texts))
        labels = task.labels_in(task.answer(shares, predictor.labels)[0])
        if not np.allclose(shares, expected, atol=1e-4) or list(labels) != answer.get("labels", [answer.get("label")]):
            return False
        for name in predictor.task.decisions.quantiles:
            inside = task.find_sets(shares, name)[0]
            named = {label for label, mark in zip(predictor.labels, inside, strict=True) if mark}
            if named != set(classifier.classify(*texts, sets=float(name))["set"]):
                return False
    return True


def _write_card(folder: Path, run: Path, manifest: Manifest, facts: dict[str, Any], loading: Sequence[str]) -> None:
    path = run / README
    card = read_card(path) if path.is_file() else f"# {run.resolve().name}\n"
    tags = split_card(card)[0].get("tags")
    base = None if manifest.base_model.local else manifest.base_model.id
    known = {
        "base_model": base,
        "base_model_relation": base and "finetune",
        "pipeline_tag": find_task(manifest.task).pipeline,
        "tags": list(dict.fromkeys([*(tags if isinstance(tags, list) else ["textune"]), *facts.pop("tags", [])])),
    }
    (folder / README).write_text(change_card(card, facts | known, "\n\n".join(loading)), encoding="utf-8")
