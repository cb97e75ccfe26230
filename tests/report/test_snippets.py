"""The lines that load a run stay short, however many labels it has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from textune.report.snippets import reload_without_textune
from textune.run import Run


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
