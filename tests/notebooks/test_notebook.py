"""The notebook: its two forms say the same, it holds no outputs, and it runs from the first cell to the last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jupytext
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "notebooks" / "first_classifier.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")


def test_both_forms_are_in_step() -> None:
    script, notebook = jupytext.read(SCRIPT), jupytext.read(NOTEBOOK)
    cells = [[(cell.cell_type, cell.source) for cell in form.cells] for form in (script, notebook)]
    assert cells[0] == cells[1], "run make notebook"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "outputs are not kept"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@pytest.mark.slow
def test_it_runs_from_tokens_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On few rows, offline, beside its own script: every cell, and what a person is to see."""
    from nbclient import NotebookClient

    monkeypatch.setenv("TEXTUNE_NOTEBOOK_ROWS", "24")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"), prepend=":")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # Streamlit sets it for the process that tests the app
    for form in (SCRIPT, NOTEBOOK):
        shutil.copy(form, tmp_path)
    notebook = jupytext.read(NOTEBOOK)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, startup_timeout=300, resources=place).execute()
    said = "\n".join(read_output(output) for cell in notebook.cells for output in cell.get("outputs", ()))
    for words in (
        "24 training rows", "[CLS]", "accuracy before tuning", "numbers were trained", "<iframe srcdoc", "image/png",
        "are wrong", "words from", "I laughed", "texts in runs/scored.csv", "MB in",
    ):  # fmt: skip
        assert words in said, words
    own = [cell for cell in notebook.cells if "from transformers import" not in cell.source]
    outputs = [output for cell in own for output in cell.get("outputs", ())]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert any(
        "<progress" in read_output(output) or output.get("data", {}).get("text/html") == "" for output in outputs
    )
    assert (tmp_path / "runs" / "notebook-merged" / "model.safetensors").is_file()
    assert (tmp_path / "runs" / "scored.csv").read_text(encoding="utf-8").count("\n") > 24


def read_output(output: Any) -> str:
    data = output.get("data", {})
    return "\n".join([*data, output.get("text", ""), str(data.get("text/plain", "")), str(data.get("text/html", ""))])


def test_install_cell_does_nothing_where_textune_is(monkeypatch: pytest.MonkeyPatch) -> None:
    install = next(
        cell.source for cell in jupytext.read(SCRIPT).cells if "pip" in cell.source and cell.cell_type == "code"
    )
    monkeypatch.setattr("subprocess.run", lambda *words, **more: pytest.fail("nothing is to be installed"))
    exec(install, {})
