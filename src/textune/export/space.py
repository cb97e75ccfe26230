"""Export a bundle as a folder that Hugging Face Spaces runs: a Gradio page beside a model that needs no textune."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from textune.bundle import GRAPH, Manifest, read_manifest, refuse_exported
from textune.config import TRUNCATE
from textune.errors import BundleError, ModelError, flag
from textune.export.marker import MARKER, check_output, write_marker
from textune.export.merged import describe_losses, export_merged, refuse_unmergeable
from textune.export.onnx import export_onnx
from textune.export.probes import list_probes
from textune.export.readme import PREDICT, README, REQUIREMENTS
from textune.export.space_app import GRADIO, write_page
from textune.files import write_folder
from textune.inference import LoadOptions, Predictor
from textune.report.card_forms import change_card, split_card
from textune.report.markdown import fence

SPACE, APP, PAIRS = "space", "app.py", "space.json"
_KEPT = ("license", "language", "tags")
"""What a Space's front matter takes from the model card."""


def export_space(
    run: Path, output: Path, *, backbone: str | None = None, trust: str | None = None, overwrite: bool = False
) -> list[str]:
    """Write app.py, predict.py, requirements.txt, README.md and the model; return what the reader should know.

    The model is an ONNX graph. Where the exporter cannot write one, it is a merged model, which needs torch. Texts of
    the data are not in the folder.
    Raises BundleError, ModelError or MissingExtraError, and leaves no partial folder behind.
    """
    check_output(output, overwrite)
    manifest = read_manifest(run)
    refuse_exported(run, manifest)
    refuse_unmergeable(run, manifest)
    with write_folder(output) as partial:
        notes = _write_model(run, manifest, partial, LoadOptions(backbone, trust=trust))
        packages = (partial / REQUIREMENTS).read_text(encoding="utf-8")
        (partial / REQUIREMENTS).write_text(f"gradio=={GRADIO}\n{packages}", encoding="utf-8")
        title = run.resolve().name
        (partial / APP).write_text(write_page(title), encoding="utf-8")
        card = (partial / README).read_text(encoding="utf-8")
        (partial / README).write_text(_write_card(card, title, manifest, notes, output.name), encoding="utf-8")
        (partial / MARKER).unlink()
        write_marker(partial, SPACE)
    return notes


def _write_model(run: Path, manifest: Manifest, partial: Path, options: LoadOptions) -> list[str]:
    """Write the model with its predict.py and requirements.txt; return how it differs from the run."""
    inside = partial / "model"
    try:
        export_onnx(run, inside, backbone=options)
    except ModelError as error:
        reason = str(error).splitlines()[0]
        export_merged(run, inside, backbone=options.backbone, trust=options.trust)
        _complete_merged(run, inside, manifest, options)
        losses = describe_losses(manifest)
        notes = [
            f"no ONNX ({reason}): the Space holds a merged model, which needs torch",
            *([losses] if losses else []),
        ]
    else:
        notes = []
    if not (inside / PREDICT).is_file():
        raise BundleError(
            f"{run}: only textune knows how the task {manifest.task} answers, and a Space runs without it",
            hint=f"export the model alone: {flag('to', 'onnx')}",
        )
    for path in inside.iterdir():
        shutil.move(path, partial / path.name)
    inside.rmdir()
    return notes


def _complete_merged(run: Path, folder: Path, manifest: Manifest, options: LoadOptions) -> None:
    """Write what a merged folder lacks, and check that its answers are those of the run."""
    import torch
    import transformers

    from textune.export.predict_merged import Classifier

    shutil.copyfile(Path(__file__).with_name("predict_merged.py"), folder / PREDICT)
    pinned = {"torch": torch.__version__, "transformers": transformers.__version__}
    lines = [f"{name}=={version.partition('+')[0]}" for name, version in pinned.items()]
    (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / PAIRS).write_text(json.dumps({"pairs": manifest.columns.text_pair is not None}) + "\n", encoding="utf-8")
    predictor = Predictor.from_manifest(run, manifest, replace(options, device="cpu", precision="fp32"))
    predictor.manifest = replace(manifest, long_text=TRUNCATE)
    classifier = Classifier(folder)
    for texts in list_probes(manifest):
        answer = classifier.classify(*texts)
        expected = predictor.predict_proba(*([text] for text in texts))[0]
        if not np.allclose(list(answer["probabilities"].values()), expected, atol=1e-4):
            raise BundleError(
                f"{run}: transformers alone does not give this model's answers, and a Space runs without textune",
                hint=f"use the run itself, or try {flag('to', 'onnx')}",
            )


def _write_card(card: str, title: str, manifest: Manifest, notes: list[str], name: str) -> str:
    """Return the model card as a Space's README: what the Space is, how to run it, and the run's figures."""
    front = split_card(card)[0]
    base = manifest.base_model
    facts: dict[str, Any] = {
        "title": title,
        "emoji": "🏷️",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": GRADIO,
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": APP,
        "pinned": False,
        "models": None if base.local else [base.id],
    }
    gone = {key: None for key in front if key not in _KEPT}
    commands = f"$ pip install -r {REQUIREMENTS}\n$ python {APP}\n"
    loading = [
        "This folder is a Hugging Face Space: a page that classifies texts, with its model. To run it here:",
        fence(commands, "console"),
        *(note[0].upper() + note[1:] + "." for note in notes),
    ]
    return change_card(card, gone | facts, "\n\n".join(loading))


def describe_space(folder: Path) -> dict[str, Any]:
    """Return a summary of a Space's folder, for `--json`."""
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    model = "ONNX" if (folder / GRAPH).is_file() else "merged"
    return {"folder": str(folder), "megabytes": round(size / 1e6, 1), "model": model, "gradio": GRADIO}
