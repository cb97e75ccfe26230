"""The command line: exit codes, sentences instead of tracebacks, and nothing left behind by what failed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import textune
from textune.backbones.families import families
from textune.cli import main
from textune.config import known_settings
from textune.errors import TextuneError
from textune.methods import methods
from textune.run import Run
from textune.run.save import update_manifest
from tiny import as_words, call_here, call_textune, make_rows, settings_for, write_reviews

HEAVY = {"torch", "transformers", "peft", "pandas", "streamlit", "sklearn", "polars", "datasets", "accelerate"}


@pytest.fixture(autouse=True)
def _warnings_as_before() -> Iterator[None]:
    """`main` silences warnings for a whole process; here that is for one test."""
    import warnings

    with warnings.catch_warnings():
        yield


def test_help_lists_every_command_and_neither_it_nor_the_package_loads_what_is_heavy() -> None:
    code = (
        "import sys, textune, textune.methods, textune.config, textune.cli.app\n"
        "assert set(textune.__all__) <= set(dir(textune))\n"
        "from textune.cli import main\ntry: main(['--help'])\nexcept SystemExit as e: assert not e.code\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("demo", "inspect", "tokens", "train", "resume", "evaluate", "report", "plan", "compare",
                 "predict", "import", "export", "push", "methods", "backbones", "doctor", "cache"):  # fmt: skip
        assert re.search(rf"^\s+{name}\s", done.stdout, re.MULTILINE), name
    assert not re.search(r"[a-z,]\.\.\.$", done.stdout, re.MULTILINE), "a summary is too long for 80 columns"


def test_exported_names_are_there() -> None:
    for name in textune.__all__:
        assert getattr(textune, name)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        textune.trian  # type: ignore[attr-defined]


def test_several_processes_are_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from textune.errors import ConfigError
    from textune.run import train

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one of 2 processes"):
        train("nowhere.csv")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call_here(capsys, "--version")[:2] == (0, f"{textune.__version__}\n")


@pytest.mark.parametrize("words", [("trian",), ("train", "--nonsense"), ("predict",), ("export", "run", "--to")])
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = call_here(capsys, *words)
    assert code == 2 and output == "" and errors


def write_bad_table(kind: str, path: Path) -> Path:
    rows = make_rows(40)
    good = "text,label\n" + "".join(f"{t},{x}\n" for t, x in rows)
    content: dict[str, bytes] = {
        "empty": b"",
        "header only": b"text,label\n",
        "one class": ("text,label\n" + "".join(f"{t},same\n" for t, _ in rows)).encode(),
        "no label": ("text,label\n" + "".join(f"{t},\n" for t, _ in rows)).encode(),
        "ragged": good.encode() + b"a,b,c,d\n",
        "unclosed quote": good.encode() + b'"never closed,negative\n',
        "too few": "\n".join(good.splitlines()[:4]).encode(),
        "no such column": good.replace("label", "x", 1).replace("text", "y", 1).encode(),
    }
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize("kind", ["empty", "header only", "one class", "no label", "ragged", "unclosed quote",
                                  "too few", "no such column"])  # fmt: skip
def test_bad_data_is_a_sentence_and_leaves_no_run(
    kind: str, backbone: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_bad_table(kind, work / "table.csv")
    words = as_words(settings_for(table, backbone, Path("runs/it"), text="text", label="label"))
    code, output, errors = call_here(capsys, "train", *words)
    assert code in (2, 3) and output == "" and "Traceback" not in errors
    assert "table.csv" in errors or "the training rows" in errors
    assert [p.name for p in work.iterdir()] == ["table.csv"]


WRONG_SETTINGS: list[tuple[dict[str, Any], int, str]] = [
    ({"learning_rat": 1}, 2, "did you mean 'learning_rate'"), ({"method": "lorra"}, 2, "did you mean 'lora'"),
    ({"method.rr": 3}, 2, "did you mean 'r'"), ({"max_length": 10_000}, 2, "reads at most 64 tokens"),
    ({"backbone": "./nowhere"}, 4, "no such folder"), ({"device": "cuda"}, 4, "device=cuda"),
    ({"name": "../x"}, 2, "may have only letters"), ({"data": "nowhere.csv"}, 3, "nowhere.csv"),
    ({"method.targets": "nowhere"}, 4, "lora on distilbert"), ({"init": "nowhere"}, 5, "no such run folder"),
    ({"label": "lable"}, 3, "lable"), ({"labels": "good,bad"}, 3, "labels="),
    ({"data": "hub:nobody/nothing"}, 3, "hub"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "told"), WRONG_SETTINGS, ids=[str(*c[0].items()) for c in WRONG_SETTINGS])
def test_wrong_setting_is_told_with_its_exit_code_and_leaves_no_run(
    change: dict[str, Any], code: int, told: str, backbone: Path, reviews: Path, work: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = as_words(settings_for(reviews, backbone, Path("runs/it")) | change)
    found, output, errors = call_here(capsys, "train", *words)
    assert found == code and told in errors and output == "" and "Traceback" not in errors
    assert not (work / "runs" / "it").exists()
    assert not [p for p in work.rglob("*") if p.is_file()]


def test_debug_shows_the_traceback_and_nothing_else_does(work: Path) -> None:
    plain = call_textune("report", "nowhere", cwd=work, code=5)
    assert plain.stderr.startswith("error: nowhere: no such run folder")
    debug = call_textune("report", "nowhere", "--debug", cwd=work, code=None)
    assert debug.wait() != 0 and "Traceback" in debug.stderr


def test_fault_of_textune_is_owned(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from textune import cache

    def fail() -> None:
        raise ZeroDivisionError("division by zero\nmore")

    monkeypatch.setattr(cache, "list_entries", fail)
    code, _, errors = call_here(capsys, "cache")
    assert code == 70 and "a bug in textune: ZeroDivisionError: division by zero" in errors and "more" not in errors
    with pytest.raises(ZeroDivisionError):
        main(["cache", "--debug"])


def test_every_error_has_an_exit_code_of_its_own_kind() -> None:
    codes = {cls.__name__: cls.exit_code for cls in TextuneError.__subclasses__() if cls.__module__ == "textune.errors"}
    assert codes == {"ConfigError": 2, "DataError": 3, "ModelError": 4, "BundleError": 5, "MissingExtraError": 6}


def test_methods_and_backbones_are_those_of_the_registries(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(call_here(capsys, "methods", "--json")[1])["methods"]
    assert [m["method"] for m in listed] == list(methods.names())
    assert all(m["trains"] and m["paper"].startswith("https://") and m["learning_rate"] > 0 for m in listed)
    shown = call_here(capsys, "methods")[1]
    assert all(name in shown for name in methods.names())
    told = json.loads(call_here(capsys, "backbones", "--json")[1])
    assert [f["family"] for f in told["families"]] == list(families.names())
    assert all(name in call_here(capsys, "backbones")[1] for name in families.names())


def test_every_setting_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = call_here(capsys, "train", "--settings")
    assert code == 0 and all(re.search(rf"^{name}\s", output, re.MULTILINE) for name in known_settings())
    assert re.search(r"^method\.r\s+8\s+lora: rank", output, re.MULTILINE)


def test_tokens_shows_tokens_and_ids(backbones: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tokens", "a good xyz", f"backbone={backbones['bert']}", "max_length=4")
    told = json.loads(call_here(capsys, *words, "--json")[1])
    assert told["tokens"] == ["[CLS]", "a", "good", "x", "##y", "##z", "[SEP]"]
    assert told["special"] == [True, *[False] * 5, True] and told["cut"] == 3 and len(told["ids"]) == 7
    shown = call_here(capsys, *words)[1]
    assert "special token" in shown and "longer than max_length 4 are cut" in shown
    read = json.loads(call_here(capsys, *words, "long_text=window", "--json")[1])
    assert read["cut"] == 0, "windows read it all"
    one_window = json.loads(call_here(capsys, *words, "long_text=window", "max_windows=2", "--json")[1])
    assert one_window["cut"] == 2
    code, _, errors = call_here(capsys, *words[:3], "max_length=1000")
    assert code == 2 and "max_length=1000" in errors and "reads at most 64 tokens" in errors
    assert read["windows"][0] == [*told["ids"][:3], told["ids"][-1]] and len(read["windows"]) == 4
    shown = " ".join(call_here(capsys, *words, "long_text=head_tail", "head_fraction=0.5")[1].split())
    assert "[CLS] a ##z [SEP]" in shown and "the beginning (50%) and the end" in shown
    assert call_here(capsys, "tokens", " ", words[2])[0] == 3


def test_inspect_tells_about_a_table_and_a_run(
    finished: Run, reviews: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, table, _ = call_here(capsys, "inspect", str(reviews), f"backbone={backbone}")
    for settings, reason in (
        (["max_length=1000"], "reads at most 64 tokens"),
        (["test_fraction=0", "validation_fraction=0"], "no test or validation rows to evaluate on"),
        (["threshold=0.4"], "with one label per text"),
    ):
        code, _, errors = call_here(capsys, "inspect", str(reviews), f"backbone={backbone}", *settings)
        assert code in (2, 3) and reason in errors
    assert "negative 30 (50.0%)" in table and "empty cells" in table and "duplicates" in table
    _, run, _ = call_here(capsys, "inspect", str(finished.folder))
    assert "negative, positive" in run and "tiny-distilbert" in run and "test reads" in run and "second" not in run


def test_inspect_of_a_run_names_what_it_reads_and_gives(
    finished: Run, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(finished.folder, work / "changed")
    columns = replace(finished.manifest.columns, text_pair="the answer")
    update_manifest(folder, columns=columns)
    pairs = call_here(capsys, "inspect", str(folder))[1]
    assert re.search(r"^text +text$", pairs, re.M) and re.search(r"^second text +the answer$", pairs, re.M)


def test_inspect_describes_a_few_rows_that_train_refuses(
    work: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four rows leave none to evaluate on, but a person may want to see how they are read."""
    (work / "four.csv").write_text("text,label\ngood,pos\nbad,neg\nfine,pos\ndull,neg\n", encoding="utf-8")
    code, table, errors = call_here(capsys, "inspect", "four.csv", f"backbone={backbone}")
    assert code == 0 and "4 training" in table
    assert "no test or validation rows to evaluate on, so that `train` refuses these 4 rows: set valid" in errors
    code, _, errors = call_here(capsys, "train", "four.csv", f"backbone={backbone}")
    assert code == 3 and "no test or validation rows to evaluate on" in errors


def test_inspect_of_a_table_has_every_contradiction_in_json(
    work: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [f"odd {i},{label},0\n" for i in range(2) for label in ("negative", "positive")]
    with write_reviews(work / "odd.csv").open("a", encoding="utf-8") as stream:
        stream.writelines(odd)
    code, printed, errors = call_here(capsys, "inspect", "odd.csv", f"backbone={backbone}", "--json")
    assert code == 0, errors
    facts = json.loads(printed)["facts"]
    found = facts["contradiction"]
    assert isinstance(facts["script"], str)
    assert [f'"odd {i}"' in text for i, text in enumerate(found)] == [True, True]


def test_cache_is_shown_and_cleaned(
    tmp_path: Path, reviews: Path, backbone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))
    call_here(capsys, "inspect", str(reviews), f"backbone={backbone}")
    before = json.loads(call_here(capsys, "cache", "--json")[1])
    assert before["entries"] == 1 and before["bytes"] > 0 and before["folder"] == str(tmp_path / "cache")
    assert json.loads(call_here(capsys, "cache", "--clean", "--json")[1])["freed_bytes"] == before["bytes"]
    assert "0 entries" in call_here(capsys, "cache")[1]


def test_doctor_tells_versions(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    code, output, _ = call_here(capsys, "doctor")
    assert code == 0 and torch.__version__ in output and "embedded model" in output


def test_report_and_evaluate_print_figures(
    finished: Run, reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.folder, tmp_path / "run")
    _, output, _ = call_here(capsys, "report", str(tmp_path / "run"))
    for part in ("majority class", "TF-IDF", "base model before tuning", "tuned model", "95% interval", "report.html"):
        assert part in output
    monkeypatch.setenv("COLUMNS", "80")
    lines = call_here(capsys, "report", str(tmp_path / "run"))[1].splitlines()
    assert [line for line in lines if len(line) > 80 and str(tmp_path) not in line] == []
    _, output, _ = call_here(capsys, "evaluate", str(tmp_path / "run"), str(reviews), "sample=20")
    assert "accuracy" in output and "macro" in output


def test_train_from_yaml_with_a_word_over_it(work: Path, backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    write_reviews(work / "reviews.csv")
    flat = settings_for("reviews.csv", backbone, Path("runs/it"), method={"name": "lora", "r": 4})
    (work / "it.yaml").write_text(yaml.safe_dump(flat))
    code, output, errors = call_here(capsys, "train", "it.yaml", "method.alpha=9", "seed=3", "--json")
    assert code == 0, errors
    told = json.loads(output)
    assert told["run"] == "runs/it" and told["rows"] == 8
    assert {"majority", "tfidf", "probe", "base", "tuned"} == set(told["baselines"])
    resolved = yaml.safe_load((work / "runs" / "it" / "config.yaml").read_text())
    assert resolved["method"] == {"name": "lora", "r": 4, "alpha": "9"} or resolved["method"]["alpha"] in (9, 9.0)
    assert resolved["seed"] == 3
    again, _, errors = call_here(capsys, "train", "runs/it/config.yaml")
    assert again == 5 and "already exists" in errors
    again, output, errors = call_here(capsys, "train", "runs/it/config.yaml", "--overwrite", "--json")
    assert again == 0, errors
    assert json.loads(output)["accuracy"] == told["accuracy"]


def test_names_made_by_rule_do_not_clash(work: Path, backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reviews(work / "reviews.csv")
    flat = settings_for("reviews.csv", backbone, Path("runs/it"), epochs=1)
    words = as_words({key: value for key, value in flat.items() if key != "name"})
    names = [json.loads(call_here(capsys, "train", *words, "--json")[1])["run"] for _ in range(2)]
    assert names == ["runs/reviews-tiny-distilbert-lora-42", "runs/reviews-tiny-distilbert-lora-42-2"]


def test_predict_refuses_what_it_cannot_do(
    finished: Run, reviews: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(finished.folder)
    shutil.copyfile(reviews, work / "in.csv")
    assert "no such file" in call_here(capsys, "predict", run, "nowhere.csv")[2]
    assert "give either one file" in call_here(capsys, "predict", run, "in.csv", "a text")[2]
    code, output, _ = call_here(capsys, "predict", run, "in.csv", "--probabilities")
    assert code == 0 and "60 rows" in output and (work / "in.predicted.csv").is_file()
    code, _, errors = call_here(capsys, "predict", run, "in.csv")
    assert code == 2 and "already exists" in errors
    code, output, _ = call_here(capsys, "predict", run, "a good film", "bad", "--probabilities")
    assert code == 0 and "negative" in output and "a good film" in output
    assert call_here(capsys, "export", run, "--to", "gguf")[0] == 2


def test_closed_pipe_is_no_traceback(reviews: Path, backbone: Path, work: Path) -> None:
    call = "from textune.cli import main; main(['train', '--settings'])"
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "{call}" | head -1'], capture_output=True, text=True,
                          check=False, cwd=work)  # fmt: skip
    assert "Traceback" not in done.stderr and "setting" in done.stdout


@pytest.mark.slow
def test_the_embedded_model_and_data_train_offline(work: Path) -> None:
    words = ("data=embedded:rotten_tomatoes", "labels=0=negative,1=positive", "sample=800", "epochs=5",
             "method=head", "max_length=32", "test_fraction=0.25", "name=embedded")  # fmt: skip
    command = call_textune("train", *words, "--json", cwd=work)
    told = json.loads(command.stdout)
    assert told["accuracy"] > told["baselines"]["majority"]["accuracy"] + 0.05
    predicted = call_textune("predict", told["run"], "A warm, funny and beautifully acted film.",
                             "Two hours of my life that I will never get back.", "--json", cwd=work)  # fmt: skip
    assert [p["label"] for p in json.loads(predicted.stdout)["predictions"]] == ["positive", "negative"]
