"""Errors in the reader's words: a shell user reads `--overwrite`, a caller of Python `overwrite=True`."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import textune
from textune.bundle import prepare_run_folder, read_manifest
from textune.compare.api import compare
from textune.config import build_config
from textune.config.aliases import resolve_aliases
from textune.errors import READER, TextuneError, address_shell, flag, show_resume
from textune.export.api import check_request, export
from textune.export.marker import check_output as check_export
from textune.inference.files import check_output as check_predictions
from textune.inference.zero_shot import ZeroShot
from textune.peft_import.importer import import_adapter
from textune.process.child import run_child
from textune.report.comparison_page import check_output as check_comparison
from textune.run import Run
from textune.run.other_rows import check_output as check_evaluation
from textune.run.places import add_trust, refuse_missing
from textune.search.settings import build_sweep
from tiny import call_here

SOURCE = Path(__file__).parents[1] / "src" / "textune"
RAW_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OTHER_TOOLS = ("pip install", "--local-dir", "--force-reinstall")
OTHER_PROGRAMS = ("export/predict.py", "export/readme.py")
"""A script that is copied into exports, and the page that shows how to call it."""
WORDS_OF_A_CHILD = {"plan/api.py": {"--seconds", "--rehearse", "--launched"}}


def list_library_sources() -> list[Path]:
    files = sorted(SOURCE.rglob("*.py"))
    return [
        f for f in files if not {"cli", "app"} & set(f.parts) and f.relative_to(SOURCE).as_posix() not in OTHER_PROGRAMS
    ]


def list_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and content of every text but docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        if isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def list_flags() -> set[str]:
    """Return the options that messages name."""
    calls = (
        node
        for path in list_library_sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "flag" and isinstance(node.args[0], ast.Constant)
    )
    return {str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)}


def test_no_message_of_the_library_names_a_flag_by_hand() -> None:
    wrong = []
    for path in list_library_sources():
        name = path.relative_to(SOURCE).as_posix()
        for line, text in list_texts(ast.parse(path.read_text(encoding="utf-8"))):
            found = set(RAW_FLAG.findall(text)) - WORDS_OF_A_CHILD.get(name, set())
            if found and not any(tool in text for tool in OTHER_TOOLS) and name != "errors.py":
                wrong.append(f"{name}:{line}: {text!r}: use flag()")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", sorted(list_flags()))
def test_an_option_that_a_message_names_is_there_in_both(name: str) -> None:
    from textune.cli.app import app

    functions = [getattr(textune, n) for n in textune.__all__ if n not in ("__version__", "compare", "export", "plan")]
    functions += [textune.Predictor.load, textune.Predictor.predict, ZeroShot.open, compare, export]
    assert any(name in inspect.signature(f).parameters for f in functions if callable(f)), name
    commands = get_command(app).commands.values()  # type: ignore[attr-defined]
    assert any(f"--{name}" in p.opts for command in commands for p in command.params), name


def _write(path: Path, content: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path.parent


def _interrupt(folder: Path) -> Path:
    """Make a folder look like that of an interrupted run."""
    for name in ("plan.json", "config.yaml", "checkpoints/step-00000001/state.json"):
        _write(folder / name)
    return folder


def _complete_trust(folder: Path) -> None:
    try:
        read_manifest(_interrupt(folder))
    except TextuneError as error:
        add_trust(error, "it's")
        raise


REFUSALS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "export": (lambda p: check_export(_write(p / "a" / "b"), False), "add --overwrite", "add overwrite=True"),
    "export elsewhere": (
        lambda p: check_export(_write(p / "a" / "b"), True),
        "choose another --output,",
        "choose another output=,",
    ),
    "export in a file": (
        lambda p: check_export(_write(p / "b") / "b" / "c", False),
        "set --output to a folder",
        "set output= to a folder",
    ),
    "form": (lambda p: check_request("onxx", None, False, {}), "--to onxx: unknown", "to='onxx': unknown"),
    "options of int8": (
        lambda p: check_request("onnx", None, True, {}),
        "--data and --force only apply with --to onnx-int8",
        "data= and force=True only apply with to='onnx-int8'",
    ),
    "finished": (
        lambda p: prepare_run_folder(_write(p / "a" / "config.yaml"), overwrite=False),
        "or add --overwrite",
        "or add overwrite=True",
    ),
    "interrupted": (
        lambda p: prepare_run_folder(_interrupt(p / "a b"), overwrite=False),
        'add --overwrite, or continue it with: textune resume "PLACE/a b"',
        "add overwrite=True, or continue it with: textune.resume('PLACE/a b'), or in a shell: textune resume",
    ),
    "interrupted search": (
        lambda p: prepare_run_folder(_write(p / "a" / "sweep.yaml"), overwrite=False),
        "continue it with: textune resume PLACE/a",
        "continue it with: textune.resume_sweep('PLACE/a'), or in a shell: textune resume PLACE/a",
    ),
    "prediction of an interrupted run": (
        lambda p: read_manifest(_interrupt(p / "a")),
        "with: textune resume PLACE/a",
        "with: textune.resume('PLACE/a'), or in a shell: textune resume PLACE/a",
    ),
    "what this call trusts": (
        lambda p: _complete_trust(p / "a"),
        """textune resume PLACE/a 'trust=it'"'"'s'""",
        "textune.resume('PLACE/a', trust=\"it's\"), or in a shell: textune resume PLACE/a 'trust=",
    ),
    "moved data": (
        lambda p: refuse_missing(build_config({"data": str(p / "d.csv")}), p / "a", {}),
        "now: textune resume PLACE/a data=PATH",
        "now: textune.resume('PLACE/a', data='PATH'), or in a shell: textune resume PLACE/a data=PATH",
    ),
    "comparison": (lambda p: check_comparison(_write(p / "b")), "give --output a new", "give output= a new"),
    "evaluation": (lambda p: check_evaluation(_write(p / "b")), "choose another --output", "choose another output="),
    "overwrite in a file": (
        lambda p: resolve_aliases({"overwrite": True}),
        "export: --overwrite",
        "export: overwrite=True",
    ),
    "comparison of one": (
        lambda p: compare(str(p), methods="lora"),
        "add methods=lora,head or",
        "add methods=['lora', 'head'] or",
    ),
    "sweep of nothing": (
        lambda p: build_sweep({"data": "d.csv"}),
        "add learning_rate=1e-3,5e-4",
        "learning_rate=[1e-3, 5e-4]",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_in_the_words_of_its_reader(name: str, tmp_path: Path) -> None:
    refuse, in_shell, in_python = REFUSALS[name]
    with pytest.raises(TextuneError) as caught, address_shell():
        refuse(tmp_path)
    told = str(caught.value).replace(str(tmp_path), "PLACE")
    assert in_shell in told and "=True" not in told and "textune.resume" not in told, told
    with pytest.raises(TextuneError) as caught:
        refuse(tmp_path)
    told = str(caught.value).replace(str(tmp_path), "PLACE")
    assert in_python in told and not RAW_FLAG.search(told), told


def test_what_python_is_told_can_be_pasted() -> None:
    call = show_resume(Path("it's a\\n\x1b"), trust='so "called"').partition(", or in a shell: ")[0]
    arguments = ast.parse(call, mode="eval").body
    assert isinstance(arguments, ast.Call) and ast.literal_eval(arguments.args[0]) == "it's a\\n\x1b"
    assert ast.literal_eval(arguments.keywords[0].value) == 'so "called"' and call.isprintable()
    assert (flag("data", "FILE"), flag("force"), flag("output", "")) == ("data='FILE'", "force=True", "output=")


def test_only_a_command_speaks_like_one(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "out" / "file")
    words = ("export", str(finished.folder), "-o", str(tmp_path / "out"))
    code, _, errors = call_here(capsys, *words)
    assert code == 5 and "add --overwrite" in errors
    with pytest.raises(TextuneError, match="add overwrite=True"):
        textune.export(finished, tmp_path / "out")
    monkeypatch.setenv(READER, "python")
    assert "add overwrite=True" in call_here(capsys, *words)[2], "the child of a Python program"


def test_a_child_speaks_like_its_parent(finished: Run, tmp_path: Path) -> None:
    _write(tmp_path / "out" / "file")
    words = ("export", str(finished.folder), "-o", str(tmp_path / "out"))
    assert "add overwrite=True" in run_child(words, quiet=True).errors
    with address_shell():
        assert "add --overwrite" in run_child(words, quiet=True).errors


def test_an_import_says_it_in_both_languages(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "nobody/nothing"}
    _write(tmp_path / "adapter" / "adapter_config.json", json.dumps(config))
    with pytest.raises(TextuneError) as caught:
        import_adapter(tmp_path / "adapter", output=_write(tmp_path / "out" / "file"))
    assert not RAW_FLAG.search(str(caught.value))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextuneError, match=r"cannot write '\.ods' files"):
        check_predictions(tmp_path / "out.ods")
    with pytest.raises(TextuneError, match=r"mkdir -p '.*my place'"):
        check_predictions(tmp_path / "my place" / "out.csv")


def test_a_message_does_not_repeat_what_stands_before_it() -> None:
    """The command line writes `stopped: MESSAGE` and `error: MESSAGE`."""
    begun_twice = re.compile(r'(?:RunInterrupted\(\s*f?"stopped|Error\(\s*f?"error\b)')
    files = (Path(__file__).parents[1] / "src" / "textune").rglob("*.py")
    assert [path.name for path in files if begun_twice.search(path.read_text(encoding="utf-8"))] == []
