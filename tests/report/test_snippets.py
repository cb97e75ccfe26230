"""The lines that load a run stay short, however many labels it has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from textune.backbones import SMOLLM2
from textune.bundle import BaseModel
from textune.report.snippets import reload_by_textune, reload_without_textune
from textune.report.writer_snippets import name_base
from textune.run import Run
from textune.run.report_input import build_report_input


@pytest.mark.parametrize("thresholds", [None, tuple(i / 1000 for i in range(999))])
def test_many_labels_are_read_from_the_manifest(finished: Run, tmp_path: Path, thresholds: Any) -> None:
    labels = tuple(f"label {i}" for i in range(999))
    manifest = replace(finished.manifest, labels=labels, label_values=labels, thresholds=thresholds)
    lines = reload_without_textune(manifest, str(tmp_path)).splitlines()
    assert max(map(len, lines)) < 400
    stored = json.loads((finished.folder / "textune.json").read_text(encoding="utf-8"))
    (tmp_path / "textune.json").write_text(json.dumps(stored | {"labels": labels, "thresholds": thresholds}))
    utils = SimpleNamespace(cached_file=lambda folder, name: str(Path(folder) / name))
    names: dict[str, Any] = {"json": json, "transformers": SimpleNamespace(utils=utils)}
    assert lines[0].startswith("import json, ")
    exec("\n".join(line for line in lines if line.startswith(("folder =", "run =", "thresholds ="))), names)
    assert eval('dict(enumerate(run["labels"]))', names) == dict(enumerate(labels))
    assert 'id2label=dict(enumerate(run["labels"]))' in "".join(lines)
    assert names.get("thresholds") == (None if thresholds is None else list(thresholds))


def test_few_labels_are_written_out(finished: Run) -> None:
    assert "id2label={0: 'negative', 1: 'positive'}" in reload_without_textune(finished.manifest, "run")


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, [["a text to classify"]]),
        ({"text_pair": "question"}, [["a text to classify"], ["a second text"]]),
        ({"writing": {"chat_template": None}}, [["a prompt"]]),
    ],
)
def test_the_lines_with_textune_give_a_run_what_it_reads(
    changes: dict[str, Any], texts: list[list[str]], finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say that the folder's path is to be filled in: a name alone is found in ./runs at most."""
    manifest, calls = finished.manifest, list[Any]()
    if "text_pair" in changes:
        manifest = replace(manifest, columns=replace(manifest.columns, **changes))
    else:
        manifest = replace(manifest, **changes)
    loaded = SimpleNamespace(predict=lambda *given: calls.append(list(given)))
    monkeypatch.setattr("textune.load", lambda folder: calls.append(folder) or loaded)
    code = reload_by_textune(manifest, 'win"ner')
    assert "# the path of this folder" in code
    exec(code, {})
    assert calls == ['win"ner', texts]


def test_a_base_from_a_package_is_no_folder_to_look_for(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines say how it is installed, and find it where textune keeps it."""
    manifest = replace(finished.manifest, base_model=BaseModel(SMOLLM2.name, "llama", SMOLLM2.sha256, None, True))
    lines = name_base(manifest)
    assert "was a local folder" not in lines and SMOLLM2.how_to_install in lines
    assert "`textune export RUN -o FOLDER` writes a whole model" in lines
    monkeypatch.setattr("textune.backbones.resolve_backbone", lambda name: SimpleNamespace(folder=Path("at") / name))
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["base"] == str(Path("at") / SMOLLM2.name)
    local = replace(manifest, base_model=replace(manifest.base_model, sha256="0" * 64))
    assert name_base(local) == f'base = "{SMOLLM2.name}"  # the path of the base model, which was a local folder'


def test_the_report_has_the_lines_that_fit_the_run(finished: Run) -> None:
    lines = build_report_input(finished.folder, finished.manifest, finished.metrics).reload_lines
    assert lines == reload_by_textune(finished.manifest, finished.folder.name)
