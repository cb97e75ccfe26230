"""What cannot succeed is refused before torch is imported, over all commands and calls."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from textune.run import Run
from tiny import call_here

TYPED = {
    "predict run d.csv -o out.ods": "cannot write '.ods' files",
    "predict run d.csv -o taken.csv": "already exists",
    "predict run d.csv -o nowhere/out.csv": "its folder does not exist",
    "predict run fine -o out.csv": "--output only applies to a file",
    "predict run absent.csv": "no such file",
    "predict run fine precison=fp32": "did you mean 'precision'",
    "predict run fine precision=fp8": "must be one of",
    "predict run fine --device gpu": "device=gpu: must be one of auto, cpu, cuda, mps",
    "predict run d.csv text=nope": "no column 'nope'",
    "predict run d.csv text_pair=nope": "nope",
    "predict run other.csv": "no column 'text'",
    "predict run empty.csv": "empty.csv",
    "predict d.csv fine": "no such run folder",
    "predict run fine max_new_tokens=5": "only applies to a task that writes answers",
    "predict run fine temperature=0": "only applies to a task that writes answers",
    "predict run d.csv top_p=0.5 -o out.csv": "only applies to a task that writes answers",
    "predict run d.csv prompt=text": "only applies to a task that writes answers",
    "explain run d.csv text=nope": "no column 'nope'",
    "explain run other.csv": "no column 'text'",
    "explain run d.csv -o taken.csv": "cannot write '.csv' files",
    "errors run d.csv label=nope": "nope",
    "errors run absent.csv": "absent.csv",
    "plan absent.csv": "absent.csv",
    "plan d.csv label=nope": "nope",
    "plan d.csv epoks=3": "did you mean 'epochs'",
    "plan d.csv methods=lora,lra": "did you mean 'lora'",
    "evaluate run d.csv -o taken": "already exists and is not empty",
    "evaluate run absent.csv": "absent.csv",
    "evaluate run d.csv label=nope": "nope",
    "evaluate run d.csv epoks=3": "did you mean 'epochs'",
    "evaluate run d.csv --device gpu": "device=gpu: must be one of",
    "evaluate run d.csv threshold=0.9": "threshold=: is not a setting of evaluate",
    "evaluate run d.csv group=zzz labels=a,b epochs=3": "group=, labels=, epochs=: are not settings of evaluate",
    "evaluate run d.csv test_label=label": "write label= for",
    "evaluate run d.csv prompt=text": "prompt=: only applies to a task that writes answers",
    "evaluate run d.csv answer_rows=5": "answer_rows=: only applies to a task that writes answers",
    "evaluate run d.csv device=cpu": "write --device cpu",
    "evaluate run d.csv extra.csv": "only one table is read",
    "errors run d.csv max_length=8": "max_length=: is not a setting of errors",
    "errors run sample=5": "sample=: is not a setting of errors",
    "inspect run foo=bar": "foo=bar only applies to a table",
    "tokens fine epochs=3": "epochs=: is not a setting of tokens",
    "predict run fine device=cpu": "write --device cpu",
    "explain run fine max_new_tokens=3": "max_new_tokens=: is not a setting of explain",
    "evaluate d.csv d.csv": "no such run folder",
    "export run -o taken": "already exists",
    "export run onnx -o taken": "already exists",
    "export run -o taken --overwrite": "was not exported by textune",
    "export run onxx": "unknown form; did you mean 'onnx'?",
    "export run --to merged --data d.csv": "only apply with",
    "export run epochs=3": "an export takes no such setting",
    "export run onnx-int8 --data absent.csv": "absent.csv",
    "export d.csv": "no such run folder",
    "compare run run -o taken": "contains other files",
    "compare d.csv methods=lora,lra": "did you mean 'lora'",
    "compare d.csv methods=lora,head epoks=3": "did you mean 'epochs'",
    "compare d.csv methods=lora": "nothing to compare",
    "train d.csv name=it runs_dir=.": "this run already exists",
    "train d.csv epoks=3": "did you mean 'epochs'",
    "train d.csv method=lra": "did you mean 'lora'",
    "train d.csv method.rank_of=3": "unknown option",
    "train d.csv runs_dir=d.csv": "is a file, not a folder",
    "sweep d.csv learning_rate=1e-3,fast": "learning_rate",
    "resume it epochs=3": "a run is resumed with its own settings",
    "import taken -o taken": "taken",
}
"""Command -> what it answers."""

CALLED = {
    "textune.load('run', device='gpu')": "device=gpu: must be one of",
    "textune.load('run', precision='fp8')": "precision=fp8: must be one of",
    "textune.load('run', engine='leaner')": "did you mean 'lean'",
    "textune.load('absent')": "no such run folder",
    "textune.evaluate('run', 'd.csv', output='taken')": "choose another output=",
    "textune.evaluate('run', 'absent.csv')": "absent.csv",
    "textune.evaluate('run', 'd.csv', epoks=3)": "did you mean 'epochs'",
    "textune.evaluate('run', 'd.csv', threshold=0.9)": "threshold=: is not a setting of evaluate",
    "textune.find_errors('run', 'd.csv', epochs=3)": "epochs=: is not a setting of errors",
    "textune.evaluate('run', 'd.csv', max_new_tokens=5)": "max_new_tokens=: only applies to a task that writes",
    "textune.find_errors('run', sample=5)": "sample=: is not a setting of errors without a table",
    "textune.evaluate('run', 'd.csv', label='nope')": "nope",
    "textune.export('run', 'taken')": "add overwrite=True",
    "textune.export('run', to='onxx')": "did you mean 'onnx'",
    "textune.compare('run', 'run', output='taken')": "give output= a new folder",
    "textune.train('d.csv', name='it', runs_dir='.')": "or add overwrite=True",
    "textune.train('d.csv', method='lra')": "did you mean 'lora'",
    "textune.sweep('d.csv')": "learning_rate=[1e-3, 5e-4]",
    "textune.resume('it', epochs=3)": "a run is resumed with its own settings",
}
"""Call -> what it answers."""

ALL = """
import contextlib, io, json, sys
import textune
from textune.cli import main
for typed in sys.argv[1:]:
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            eval(typed) if typed.startswith("textune.") else main(typed.split())
        except SystemExit as stop:
            code = stop.code
        except textune.errors.TextuneError as error:
            code = error.exit_code
            print(error, file=sys.stderr)
    print(json.dumps([typed, code, "torch" in sys.modules, errors.getvalue()]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, finished: Run, reviews: Path) -> dict[str, tuple[int, bool, str]]:
    """Answer every command in one new process: command -> exit code, whether torch is there, standard error."""
    place = tmp_path_factory.mktemp("refusals")
    shutil.copytree(finished.folder, place / "run")
    shutil.copytree(finished.folder, place / "it")
    shutil.copy(reviews, place / "d.csv")
    (place / "taken.csv").write_text("text\n")
    (place / "other.csv").write_text("title,rank\na good film,3\n")
    (place / "empty.csv").write_text("")
    (place / "taken").mkdir()
    (place / "taken" / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", ALL, *TYPED, *CALLED], cwd=place, capture_output=True, text=True, check=True, timeout=300
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {typed: (code, torch, errors) for typed, code, torch, errors in lines}


@pytest.mark.parametrize("typed", TYPED | CALLED)
def test_it_is_refused_before_torch_is_imported(typed: str, answers: dict[str, tuple[int, bool, str]]) -> None:
    code, torch, errors = answers[typed]
    assert code in (2, 3, 4, 5) and (TYPED | CALLED)[typed] in errors, errors
    assert not torch, "an import of torch takes seconds"


def test_the_command_for_a_text_is_whole(finished: Run, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished.folder, work / "my runs" / "demo")
    code, _, errors = call_here(capsys, "predict", "my runs/demo", "name=Bob's")
    assert code == 2 and """put -- before it: textune predict "my runs/demo" -- 'name=Bob'"'"'s'""" in errors, errors
