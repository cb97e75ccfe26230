"""A model that writes, through the whole path: what is learned, saved, resumed, measured, used and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import textune
from textune.bundle import read_manifest
from textune.cli.output import next_command
from textune.config import build_config
from textune.errors import ConfigError, ModelError, TextuneError
from textune.export.api import export
from textune.progress import Silent
from textune.run import Run
from textune.run.fit import build_trainer, open_training
from textune.run.prepare import Prepared, prepare
from textune.run.tables import prepare_data
from textune.tasks import read_evaluation
from textune.tasks.generation import find_targets
from textune.tokens.packed_rows import IGNORED
from tiny import (
    CHAT_TEMPLATE,
    build_causal,
    call_here,
    make_prompts,
    settings_for,
    train_tiny,
    write_prompts,
)

WRITING: dict[str, Any] = {
    "task": "generation",
    "method": "lora",
    "answer_rows": 6,
    "contrast_steps": None,
    "epochs": 4,
}
UNEQUAL = ["red 1", "a much longer prompt than the others, and cold", "green 77"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generation")


@pytest.fixture(scope="module")
def llama(place: Path) -> Path:
    return build_causal(place / "llama", template=CHAT_TEMPLATE)


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return write_prompts(place / "prompts.jsonl")


def train(data: Path, backbone: Path, folder: Path, progress: Any = None, **settings: Any) -> Run:
    return train_tiny(data, backbone, folder, progress, **WRITING | settings)


@pytest.fixture(scope="module")
def run(place: Path, llama: Path, data: Path) -> Run:
    return train(data, llama, place / "run")


def test_tuning_goes_on_from_a_model_that_writes(run: Run, data: Path, llama: Path, place: Path) -> None:
    more = train(data, llama, place / "more", init=str(run.folder))
    assert more.manifest.task == "generation" and more.manifest.writing["chat_template"] == CHAT_TEMPLATE
    assert more.manifest.labels == run.manifest.labels


def open_prepared(data: Path, backbone: Path, folder: Path, **settings: Any) -> Prepared:
    return prepare(build_config(settings_for(data, backbone, folder, **WRITING | settings)), Silent())


# ---- what is learned ----------------------------------------------------------------------------------------------


def test_a_prompt_gets_no_loss(data: Path, llama: Path, tmp_path: Path) -> None:
    prepared = open_prepared(data, llama, tmp_path)
    task, objective = prepared.task, prepared.objective
    batch = task.collate(prepared.train.tokens, range(8), prepared.padding)
    following = find_targets(prepared.train.tokens, batch)
    torch.manual_seed(0)
    logits = torch.randn(*batch.input_ids.shape, 199)
    expected = torch.zeros(())
    for row, answer in enumerate(prepared.data.train.labels()[:8]):
        length = len(answer) + 1  # a byte is a token, and the end is learned, too
        end = int(batch.attention_mask[row].sum())
        for position in range(end - length, end):
            expected -= logits[row, position - 1].log_softmax(-1)[int(batch.input_ids[row, position])]
    found = objective.loss(logits, torch.from_numpy(following))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    kept = objective.loss(logits[:, torch.from_numpy(batch.columns)], torch.from_numpy(batch.targets))
    assert float(kept) == pytest.approx(float(expected), rel=1e-5), "the columns that are computed suffice"
    assert (following != IGNORED).sum() == prepared.train.targets[:8].sum()
    summed = task.sum_up(logits[:, torch.from_numpy(batch.columns)], batch)
    assert float(summed[:, 0].sum()) == pytest.approx(float(expected), rel=1e-5)
    assert summed[:, 1].tolist() == prepared.train.targets[:8].tolist()


def test_gradients_are_those_of_the_mean_over_all_learned_tokens(data: Path, llama: Path, tmp_path: Path) -> None:
    gradients = []
    for pieces in (None, 3):
        folder = tmp_path / str(pieces)
        prepared = open_prepared(data, llama, folder, micro_batch_size=pieces)
        folder.mkdir()
        opened = open_training(prepared, folder, Silent())
        trainer = build_trainer(prepared, opened, folder, Silent())
        rows = np.arange(8)
        seen: dict[str, torch.Tensor] = {}
        names = {id(p): name for name, p in opened.engine.named_parameters()}
        keep = lambda p: seen.__setitem__(names[id(p)], p.grad.clone())  # noqa: E731, B023
        for parameter in opened.engine.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(keep)
        if pieces is None:
            batch = prepared.task.collate(prepared.train.tokens, rows, prepared.padding)
            logits = opened.engine(batch)
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten(), ignore_index=IGNORED
            )
            losses.backward()
            expected = float(losses.detach())
        else:
            loss, _ = trainer.take_step(1, rows, first=False)
            assert loss == pytest.approx(expected, rel=1e-5)
        gradients.append(seen)
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    largest = max(float(g.abs().max()) for g in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert float((gradient - gradients[1][name]).abs().max()) <= 1e-5 * largest, name


# ---- the finished run ---------------------------------------------------------------------------------------------


def test_a_run_learns_and_reports_before_and_after(run: Run) -> None:
    models = run.metrics["models"]
    assert list(models) == ["frequent", "nearest", "base", "tuned"]
    assert models["tuned"]["loss"] < 0.8 * models["base"]["loss"]
    assert models["tuned"]["tokens"] == models["base"]["tokens"] > 0
    assert models["frequent"]["loss"] is None and models["tuned"]["rows"] == models["nearest"]["rows"] == 6
    evaluation = read_evaluation({k: v for k, v in models["tuned"].items() if k != "seconds"})
    assert evaluation.headline.name == "ROUGE-L" and run.manifest.metrics["perplexity"] > 1
    page = run.report.read_text(encoding="utf-8")
    assert "Answers side by side" in page and "Perplexity of the expected answers" in page
    assert len(run.metrics["samples"]) == 6
    table = pq.read_table(run.folder / "evaluation" / "predictions.parquet")
    assert sum(answer is not None for answer in table["predicted_label"].to_pylist()) == 6
    assert table["tokens"].to_pylist() == [len(t) + 1 for t in table["label"].to_pylist()]


def test_a_batch_answers_as_each_prompt_alone(run: Run) -> None:
    model = textune.load(run, precision="fp32", device="cpu")
    together = model.generate(UNEQUAL, max_new_tokens=12)
    alone = [model.generate(prompt, max_new_tokens=12)[0] for prompt in UNEQUAL]
    assert together == alone
    logits = model.predict_logits(UNEQUAL)
    for row, prompt in zip(logits, UNEQUAL, strict=True):
        assert np.abs(model.predict_logits(prompt) - row).max() < 1e-4 * np.abs(row).max()


def test_sampling_follows_its_seed_and_greedy_needs_none(run: Run) -> None:
    model = textune.load(run, precision="fp32", device="cpu")
    sampled = [model.generate(UNEQUAL, temperature=2.0, seed=seed, max_new_tokens=8) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert model.generate(UNEQUAL) == model.generate(UNEQUAL)
    for wrong in ({"temperature": -1.0}, {"top_p": 0.0}, {"max_new_tokens": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            model.generate("red", **wrong)


def test_an_answer_ends_at_its_stop_token_or_at_the_limit(run: Run) -> None:
    model = textune.load(run, precision="fp32", device="cpu")
    answers = model.generate([row["prompt"] for row in make_prompts(12)])
    assert any(not answer.endless for answer in answers), "the end was learned"
    assert all("</s>" not in answer.text for answer in answers)
    short = model.generate("red 1", max_new_tokens=2)[0]
    assert short.endless and short.tokens == 2
    pieces: list[str] = []
    whole = model.generate("red 1", on_text=pieces.append)[0]
    assert "".join(pieces) == whole.text == model.predict("red 1")


def test_chats_continue_as_a_string_does(run: Run) -> None:
    model = textune.load(run, precision="fp32", device="cpu")
    chat = json.dumps([{"role": "user", "content": "red 1"}])
    answered = json.dumps([*json.loads(chat), {"role": "assistant", "content": "an earlier answer"}])
    assert model.predict([chat, answered]) == model.predict(["red 1", "red 1"])


@pytest.mark.parametrize("refused", ["predict_proba", "find_errors", "onnx", "compare"])
def test_what_only_classifiers_can_is_refused(run: Run, data: Path, refused: str, tmp_path: Path) -> None:
    with pytest.raises(TextuneError, match=r"writ|generation"):
        if refused == "predict_proba":
            textune.load(run).predict_proba(["red"])
        elif refused == "find_errors":
            run.find_errors()
        elif refused == "onnx":
            export(run, tmp_path / "onnx", to="onnx")
        else:
            textune.compare(str(data), task="generation", methods=["lora", "full"])


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.5},
        {"class_weights": "balanced"},
        {"contrast_steps": 3},
        {"head_init": "probe"},
        {"metric": "accuracy"},
        {"long_text": "window"},
        {"labels": "a=b,c=d"},
        {"text_pair": "completion"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_classifiers_are_refused(settings: Any, data: Path, llama: Path, tmp_path: Path) -> None:
    with pytest.raises(TextuneError, match=next(iter(settings))):
        open_prepared(data, llama, tmp_path, **settings)


def test_an_encoder_cannot_write(data: Path, backbones: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="encoders"):
        open_prepared(data, backbones["bert"], tmp_path)


# ---- the command line ---------------------------------------------------------------------------------------------


def test_the_next_command_asks_for_a_prompt(run: Run) -> None:
    assert "a prompt" in next_command(run.folder, run.manifest)


def test_predict_answers_prompts_lines_and_files(run: Run, tmp_path: Path, capsys: Any) -> None:
    model = textune.load(run, device="cpu")
    code, out, _ = call_here(capsys, "predict", str(run.folder), "red 1", "blue 2", "--device", "cpu")
    assert code == 0 and out.splitlines() == model.predict(["red 1", "blue 2"])
    code, out, _ = call_here(
        capsys, "predict", str(run.folder), "red 1", "--json", "max_new_tokens=3", "temperature=1.5", "seed=4"
    )
    expected = model.generate("red 1", max_new_tokens=3, temperature=1.5, seed=4)[0]
    assert json.loads(out)["predictions"] == [
        {"prompt": "red 1", "answer": expected.text, "tokens": expected.tokens, "endless": expected.endless}
    ]
    source = write_prompts(tmp_path / "new.jsonl", 5)
    code, _, _ = call_here(capsys, "predict", str(run.folder), str(source))
    rows = [json.loads(line) for line in (tmp_path / "new.predicted.jsonl").read_text("utf-8").splitlines()]
    assert code == 0 and [row["answer"] for row in rows] == model.predict([row["prompt"] for row in rows])
    code, _, err = call_here(capsys, "predict", str(run.folder), "red 1", "--probabilities")
    assert code and "--probabilities" in err


def test_evaluate_measures_other_rows(run: Run, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="trained on"):
        evaluation = run.evaluate(str(write_prompts(tmp_path / "again.jsonl", 8)))
    assert evaluation.rows == 6 and evaluation.loss is not None
    assert evaluation.seen.checked and evaluation.seen.rows == evaluation.loss_rows == 8
    assert "temperature" not in " ".join(evaluation.seen.describe())
    assert read_manifest(run.folder).test_reads >= 2


def test_figures_of_validation_are_those_of_the_saved_run(run: Run, llama: Path, data: Path, tmp_path: Path) -> None:
    prepared = open_prepared(data, llama, tmp_path)
    model = textune.load(run, precision="fp32", device="cpu", merge=False)
    assert prepared.validation is not None and model.generator is not None
    examples = prepared.data.validation
    losses = model.generator.measure_losses(examples.texts(), examples.labels())
    scores, _ = prepared.objective.score(losses, prepared.validation.targets)
    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    best = min(line["loss"] for line in log if line["kind"] == "evaluation")
    assert scores["loss"] == pytest.approx(best, rel=1e-4)


def test_no_note_on_the_data_is_empty(data: Path) -> None:
    """Each is printed as a line."""
    prepared = prepare_data(build_config({"data": str(data), "task": "generation"}))
    assert all(note.strip() for note in prepared.notes)
