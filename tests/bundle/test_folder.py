"""The run folder: whole or none, confined, readable without torch, and refused where anything is amiss."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.backbones import EMBEDDED, MINILM, remember_local, resolve_backbone
from textune.bundle import FIGURES, BaseModel, Manifest, TextColumns, name_run, read_manifest, run_path, write_manifest
from textune.bundle.checks import compute_digest
from textune.compare.records import read_run
from textune.config import LongText
from textune.errors import BundleError, ConfigError, DataError, ModelError, TextuneError
from textune.files import append_json_line, confined_path, hash_file, read_json_lines, write_text_atomically
from textune.inference import Predictor, load
from textune.methods.lora import Lora
from textune.progress import Silent
from textune.run import Run, load_run, train
from textune.run.error_analysis import find_errors
from textune.run.other_rows import evaluate
from tiny import call_in_subprocess, call_textune, hash_weights, train_tiny

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Path:
    """A finished run that a test may spoil."""
    shutil.copytree(finished.folder, tmp_path / "run")
    return tmp_path / "run"


def change_manifest(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "textune.json").read_text(encoding="utf-8")) | changes
    (folder / "textune.json").write_text(json.dumps(content | {"digest": compute_digest(content)}), encoding="utf-8")


@given(
    labels=st.lists(NAMES, min_size=2, max_size=5, unique=True),
    columns=st.lists(NAMES, min_size=1, max_size=3),
    joiner=st.text(st.characters(codec="utf-8"), max_size=3),
    temperature=st.floats(0.01, 100),
    thresholds=st.none() | st.floats(0.01, 1),
    options=st.dictionaries(NAMES, st.integers() | st.text(st.characters(codec="utf-8")) | st.none(), max_size=3),
)
def test_manifest_comes_back_as_it_was(
    labels: list[str], columns: list[str], joiner: str, temperature: float, thresholds: Any, options: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "weights").write_bytes(b"1234")
    manifest = Manifest(
        task="single_label", labels=tuple(labels), label_values=tuple(reversed(labels)),
        base_model=BaseModel("a/b", "bert", "00", None, True), method="lora", method_options=options, max_length=7,
        pad_token_id=1, columns=TextColumns(tuple(columns), "pair", joiner, "label", None), seed=3,
        data_fingerprint="f", engine={"name": "reference"}, trainable_parameters=1, total_parameters=2,
        versions={"torch": "2"}, textune_version="0", created="now", new_modules=("a.b",), temperature=temperature,
        thresholds=thresholds and (thresholds,) * len(labels), metrics={"accuracy": 0.5},
        long_text=LongText("window", 3, 5), files={"weights": hash_file(folder / "weights")},
    )  # fmt: skip
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest


def test_manifest_is_read_without_torch(finished: Run) -> None:
    code = (
        "import sys; from textune.bundle import read_manifest; m = read_manifest(sys.argv[1]); print(*m.labels);"
        "assert not {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)"
    )
    words = [sys.executable, "-c", code, str(finished.folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["negative", "positive"]


def test_every_file_that_never_changes_is_in_the_manifest(finished: Run) -> None:
    listed = set(finished.manifest.files)
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "config.yaml",
            "backbone/config.json"} <= listed  # fmt: skip
    logs = {"textune.json", "plan.json", "metrics.jsonl", "test_reads.jsonl", "README.md", ".lock"}
    there = {p.relative_to(finished.folder).as_posix() for p in finished.folder.rglob("*") if p.is_file()}
    assert {name for name in there - listed if not name.startswith("evaluation/")} <= logs
    assert not (finished.folder / "checkpoints").exists()


def test_only_the_settings_name_the_places_that_were_given(finished: Run, backbone: Path) -> None:
    said_so = {"config.yaml", "plan.json", "evaluation/report.html"}
    for path in finished.folder.rglob("*"):
        if path.is_file() and path.relative_to(finished.folder).as_posix() not in said_so:
            assert str(backbone.parent).encode() not in path.read_bytes(), path
            assert str(finished.folder.parent).encode() not in path.read_bytes(), path


def test_altered_file_is_named(finished: Run, copied: Path) -> None:
    whole = read_manifest(copied)  # other tests may have measured the run since
    for name in finished.manifest.files:
        path, before = copied / name, (copied / name).read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(BundleError, match="changed or damaged") as caught:
            read_manifest(copied)
        assert str(path) in caught.value.message
        path.unlink()
        with pytest.raises(BundleError, match="missing") as caught:
            read_manifest(copied)
        assert str(path) in caught.value.message
        path.write_bytes(before)
    assert read_manifest(copied) == whole


@pytest.mark.parametrize("name", FIGURES)
def test_altered_figures_are_named_wherever_they_are_read(name: str, finished: Run, copied: Path) -> None:
    doors: dict[str, Callable[[], object]] = {
        "report": lambda: load_run(copied),
        "errors": lambda: find_errors(copied),
        "compare": lambda: read_run(copied),
    }
    path = copied / name
    content = path.read_bytes()
    for place in range(1, len(content), len(content) // 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        for door, call in doors.items():
            if door == "report" and name != FIGURES[0]:
                continue
            with pytest.raises(BundleError, match="changed or damaged: its SHA-256 differs"):
                call()
    path.write_bytes(content)
    for call in doors.values():
        call()


def test_link_out_of_the_folder_is_refused(copied: Path, tmp_path: Path) -> None:
    path = copied / "adapter_model.safetensors"
    path.rename(tmp_path / "outside.safetensors")
    path.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(BundleError, match="symbolic link leads out"):
        read_manifest(copied)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/../../x", "..\\x", ".."])
def test_name_that_leads_out_of_the_folder_is_refused(name: str, copied: Path) -> None:
    change_manifest(copied, files={name: "0" * 64})
    with pytest.raises(BundleError, match="outside the folder"):
        read_manifest(copied)
    with pytest.raises(BundleError):
        confined_path(copied, name)


def test_format_of_the_future_is_told(copied: Path) -> None:
    change_manifest(copied, format_version=99)
    with pytest.raises(BundleError, match="unknown format 99") as caught:
        read_manifest(copied)
    assert "newer textune" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "damaged"), ("[]", "JSON object"), ("", "damaged"), ('{"format_version": 1}', "damaged"),
        ('{"format_version": "x"}', "unknown format"), ("[" * 100_000, "damaged"), (b"\xff\xfe\x00", "damaged"),
    ],
)  # fmt: skip
def test_damaged_manifest_is_told(content: str | bytes, reason: str, copied: Path) -> None:
    (copied / "textune.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BundleError, match=reason):
        read_manifest(copied)


@pytest.mark.parametrize(
    "changes",
    [{"labels": ["one"]}, {"labels": None}, {"label_values": ["a", "b", "c"]}, {"base_model": {}}, {"columns": []},
     {"files": {"config.yaml": 3}}, {"files": []}, {"base_model": {"id": "a", "x": 1}}],
)  # fmt: skip
def test_manifest_of_wrong_shape_is_an_error(changes: dict[str, Any], copied: Path) -> None:
    change_manifest(copied, **changes)
    with pytest.raises(BundleError, match="damaged"):
        read_manifest(copied)


def test_half_a_character_is_damage(copied: Path) -> None:
    path = copied / "textune.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"negative"', '"neg\\ud800"'), encoding="utf-8")
    with pytest.raises(BundleError, match=r"textune\.json: the manifest is damaged"):
        read_manifest(copied)


def test_what_is_no_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such run folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"not a finished run: textune.json is missing"):
        load(tmp_path)


@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_failed_self_test_leaves_no_bundle(
    fault: str, backbone: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    original = Lora.load_weights

    def load_badly(self: Lora, model: torch.nn.Module, folder: Path) -> None:
        original(self, model, folder)
        if fault == "raises":
            raise BundleError("cannot be loaded")
        with torch.no_grad():
            next(p for n, p in model.named_parameters() if p.requires_grad and "classifier" in n).mul_(1.01)

    monkeypatch.setattr(Lora, "load_weights", load_badly)
    with pytest.raises(BundleError, match=r"does not give the trained model's logits|cannot be loaded"):
        train_tiny(reviews, backbone, tmp_path / "run")
    assert not (tmp_path / "run" / "textune.json").exists()
    assert list((tmp_path / "run" / "checkpoints").glob("step-*")), "the work is kept"
    with pytest.raises(BundleError, match="not a finished run"):
        load(tmp_path / "run")


def copy_backbone(backbone: Path, folder: Path, **config: Any) -> Path:
    shutil.copytree(backbone, folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | config))
    return folder


def test_pickled_weights_are_refused_unless_trusted_by_name(backbone: Path, tmp_path: Path) -> None:
    folder = copy_backbone(backbone, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    for trust in (None, "true", "pickled", str(folder) + "x"):
        with pytest.raises(ModelError, match=r"pickles \(pytorch_model.bin\)") as caught:
            resolve_backbone(str(folder), trust=trust)
    assert "trust=" in (caught.value.hint or "")
    assert resolve_backbone(str(folder), trust=str(folder)).trusted


def test_own_code_is_refused_unless_trusted_by_name(backbone: Path, tmp_path: Path) -> None:
    folder = copy_backbone(backbone, tmp_path / "coded", auto_map={"AutoModel": "modeling.Evil"})
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="auto_map"):
        resolve_backbone(str(folder))
    assert resolve_backbone(str(folder), trust=str(folder)).trusted
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "config.json").write_text('{"model_type": "berd"}'), "family 'berd'; did you mean 'bert'"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "an adapter, not a backbone"),
    ],
)
def test_folder_that_is_no_backbone_is_refused_with_the_reason(
    spoil: Any, reason: str, backbone: Path, tmp_path: Path
) -> None:
    folder = copy_backbone(backbone, tmp_path / "model")
    spoil(folder)
    with pytest.raises(ModelError, match=reason):
        resolve_backbone(str(folder))


def test_truncated_weights_are_an_error_before_training(backbone: Path, reviews: Path, tmp_path: Path) -> None:
    folder = copy_backbone(backbone, tmp_path / "model")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(TextuneError, match="cannot be loaded"):
        train_tiny(reviews, folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_hub_id_fails_fast_where_the_hub_does_not_answer(work: Path) -> None:
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        done = call_in_subprocess("tokens", "a text", "backbone=nobody/nothing", cwd=work, HF_HUB_OFFLINE="0",
                                  HF_ENDPOINT=address, HF_HOME=str(work / "hub"), NO_PROXY="127.0.0.1")  # fmt: skip
        seconds = time.monotonic() - started
    assert done.returncode == 4
    assert "backbone=nobody/nothing: not on this machine, and the hub cannot be reached" in done.stderr
    assert "backbone=FOLDER" in done.stderr and "Traceback" not in done.stderr
    assert seconds < 60, f"{seconds:.0f} s, imports on a busy machine included"


@pytest.mark.parametrize("name", ["no such id!", "nobody/nothing", "./nowhere", "a/b/c"])
def test_backbone_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(ModelError, match=f"backbone={name}"):
        resolve_backbone(name)


def test_other_weights_than_the_runs_are_refused(finished: Run, backbones: dict[str, Path], tmp_path: Path) -> None:
    from tiny import build_backbone

    other = build_backbone("distilbert", tmp_path / "tiny-distilbert", seed=5)
    with pytest.raises(ConfigError, match="not those of the run"):
        load(finished.folder, backbone=str(other))


def test_local_backbone_that_moved_is_asked_for_and_taken(
    finished: Run, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="local folder that this machine does not know") as caught:
        load(finished.folder)
    assert "backbone=FOLDER" in (caught.value.hint or "")
    assert load(finished.folder, backbone=str(backbone)).predict(["a good film"])


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def ask_for_other_words(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 7}))


def rename_a_word(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["##never"] = vocab.pop(next(word for word in vocab if word.isalpha()))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize("change", [break_config, ask_for_other_words, rename_a_word])
def test_a_changed_copy_of_the_same_weights_does_not_hide_the_runs_own_model(
    change: Callable[[Path], None],
    finished: Run,
    backbone: Path,
    reviews: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))
    copy = shutil.copytree(backbone, tmp_path / "copy")
    for folder in (backbone, copy):
        remember_local(resolve_backbone(str(folder)))
    change(copy)
    assert load(finished.folder).predict(["a good film"])
    more = train(str(reviews), init=str(finished.folder), name="more", runs_dir=str(tmp_path), epochs=1,
                 device="cpu", precision="fp32", progress=Silent())  # fmt: skip
    assert more.manifest.base_model.id == finished.manifest.base_model.id


def test_minilm_is_checked_by_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backbone("minilm").sha256 == MINILM.sha256 == resolve_backbone(MINILM.id).sha256
    damaged = dataclasses.replace(MINILM, sha256="0" * 64)
    monkeypatch.setitem(EMBEDDED, MINILM.name, damaged)
    with pytest.raises(ModelError, match="not those of sentence-transformers/all-MiniLM-L6-v2"):
        resolve_backbone("minilm")


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", ".hidden", "", "a" * 200, "x.", "a\nb", "-x"])
def test_run_name_that_is_a_path_is_refused(name: str, work: Path) -> None:
    with pytest.raises(ConfigError, match="name="):
        run_path("runs", name)
    assert not list(work.iterdir())


def test_run_is_not_written_through_a_link(work: Path) -> None:
    (work / "runs").mkdir()
    (work / "elsewhere").mkdir()
    (work / "runs" / "it").symlink_to(work / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        run_path("runs", "it")


@given(st.text(max_size=300))
def test_any_text_becomes_a_run_name(text: str) -> None:
    assert run_path("runs", name_run(text)).parent == Path("runs")


def test_existing_folders_are_not_overwritten(finished: Run, copied: Path, backbone: Path, reviews: Path) -> None:
    with pytest.raises(BundleError, match="already exists"):
        train_tiny(reviews, backbone, copied)
    assert hash_weights(copied) == hash_weights(finished.folder)
    foreign = copied.parent / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="not a run's"):
        train(str(reviews), backbone=str(backbone), name="mine", runs_dir=str(foreign.parent), overwrite=True)
    assert (foreign / "thesis.txt").read_text() == "years of work"
    (foreign / "thesis.txt").rename(foreign / "plan.json")  # a person may call a file so, too
    with pytest.raises(BundleError, match="already exists"):
        train(str(reviews), backbone=str(backbone), name="mine", runs_dir=str(foreign.parent))
    assert (foreign / "plan.json").read_text() == "years of work"


def test_test_reads_are_counted(copied: Path, reviews: Path) -> None:
    before = read_manifest(copied).test_reads  # 1, and more where other tests have measured the run since
    evaluate(copied, reviews)
    evaluate(copied, reviews)
    manifest = read_manifest(copied)
    assert manifest.test_reads == before + 2 == len(read_json_lines(copied / "test_reads.jsonl"))
    last = read_json_lines(copied / "test_reads.jsonl")[-1]
    assert last["command"] == "evaluate" and last["rows"] == 60 and len(last["fingerprint"]) == 64


def test_init_goes_on_from_a_bundle(finished: Run, reviews: Path, tmp_path: Path) -> None:
    more = train(str(reviews), init=str(finished.folder), name="more", runs_dir=str(tmp_path), learning_rate=1e-9,
                 epochs=1, batch_size=8, device="cpu", precision="fp32", progress=Silent())  # fmt: skip
    texts = ["a good film", "a very dull scene with its actors"]
    kept = Predictor.load(finished.folder, precision="fp32").predict_logits(texts)
    assert abs(more.load(precision="fp32").predict_logits(texts) - kept).max() < 1e-5
    assert more.manifest.max_length == finished.manifest.max_length == 32
    assert dataclasses.asdict(more.manifest)["method_options"] == dict(finished.manifest.method_options)
    with pytest.raises(ConfigError, match="labels"):
        train(str(reviews), init=str(finished.folder), labels="a,b", runs_dir=str(tmp_path), progress=Silent())


def test_what_init_settles_is_named_and_not_what_nobody_set(finished: Run, reviews: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"runs_dir": str(tmp_path), "device": "cpu", "precision": "fp32", "progress": Silent()}
    for setting in ("contrast_steps", "epochs"):
        with pytest.raises(ConfigError, match=f"{setting}=.* with init=") as caught:
            train(str(reviews), init=str(finished.folder), **{setting: 20 if setting != "epochs" else 0}, **options)
        assert "head_init=probe" in str(caught.value.hint) and "random" not in str(caught.value)
    solved = train(str(reviews), init=str(finished.folder), name="solved", head_init="probe", epochs=0, **options)
    assert solved.manifest.labels == finished.manifest.labels
    rows = [{"text": f"text {i}", "label": ("positive", "negative", "mixed")[i % 3]} for i in range(24)]
    with pytest.raises(DataError, match="label 'mixed', which is none of this run's") as refused:
        train(rows, init=str(finished.folder), **options)
    assert refused.value.hint == "its labels, from labels= or the run of init=: negative, positive"


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_text_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_text_atomically(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]  # noqa: PTH208


def test_log_that_a_crash_cut_short_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [{"text": "a\u2028b\x85c", "n": 1}, {"text": "é", "n": 2}]
    for line in lines:
        append_json_line(path, line)
    path.write_bytes(path.read_bytes() + '{"text": "é'.encode()[:-1])
    assert read_json_lines(path) == lines
    assert read_json_lines(tmp_path / "none") == []


def test_bundle_is_refused_by_the_command_line_without_a_traceback(copied: Path, tmp_path: Path) -> None:
    (copied / "tokenizer.json").write_text("{}")
    command = call_textune("predict", str(copied), "a good film", cwd=tmp_path, code=5)
    assert "tokenizer.json: changed or damaged" in command.stderr and command.stdout == ""
