"""Every kind of prompt, limit and tokenizer: the right answer, or a sentence that says what is wrong and where."""

from __future__ import annotations

import csv
import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import textune
from textune.config import WritingConfig, build_config
from textune.errors import ConfigError, DataError, ModelError, Note, TextuneError
from textune.inference import Predictor, files, generation
from textune.progress import Silent
from textune.report.writer_snippets import PROMPT, reload_writer
from textune.run import Run
from textune.run.prepare import Prepared, prepare
from tiny import CHAT_TEMPLATE, StopAt, build_causal, call_here, make_prompts, settings_for, train_tiny, write_prompts

WRITING: dict[str, Any] = {
    "task": "generation", "answer_rows": 2, "contrast_steps": None, "epochs": 1, "max_new_tokens": 12, "max_length": 48,
}  # fmt: skip
POSITIONS = 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("writers")


@pytest.fixture(scope="module")
def llama(place: Path) -> Path:
    """A model whose own settings of generation would change what is written."""
    folder = build_causal(place / "llama", template=CHAT_TEMPLATE)
    settings = {"repetition_penalty": 9.0, "min_new_tokens": 11, "eos_token_id": 2, "no_repeat_ngram_size": 1}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return write_prompts(place / "prompts.jsonl", 24)


@pytest.fixture(scope="module")
def run(place: Path, llama: Path, data: Path) -> Run:
    return train_tiny(data, llama, place / "run", **WRITING)


@pytest.fixture(scope="module")
def model(run: Run) -> Predictor:
    return textune.load(run, precision="fp32", device="cpu")


def open_prepared(data: Any, backbone: Path, folder: Path, progress: Any = None, **settings: Any) -> Prepared:
    return prepare(build_config(settings_for(data, backbone, folder, **WRITING | settings)), progress or Silent())


def write_by_hand(model: Predictor, prompt: str, tokens: int) -> list[int]:
    """Return the most likely next token again and again, with the whole text read each time."""
    assert model.generator is not None
    ids = model.generator.encode([prompt])[0]
    written: list[int] = []
    for _ in range(tokens):
        with torch.inference_mode():
            written.append(int(model.model(torch.tensor([ids + written])).logits[0, -1].argmax()))
    return written


# ---- limits and stop tokens -----------------------------------------------------------------------------------------


def test_an_answer_is_the_most_likely_token_each_time_whatever_the_model_came_with(model: Predictor) -> None:
    written = write_by_hand(model, "red 1", 12)
    assert len(set(written)) < 12, "a penalty of repetitions would show"
    answer = model.generate("red 1", max_new_tokens=12)[0]
    stop = written.index(2) if 2 in written else 12
    assert answer.tokens == stop and answer.endless is (stop == 12)
    assert model.generator is not None and answer.text == model.generator._dialogues.decode(written[:stop])


def test_the_code_on_the_card_answers_as_the_run(
    run: Run, llama: Path, model: Predictor, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The adapter names its base, a local folder, but not where it is: the person says so."""
    code = reload_writer(run.manifest, "the run")
    assert code is not None and run.manifest.base_model.local
    for name, path in (("base", llama), ("folder", run.folder)):
        code, filled = re.subn(f"(?m)^{name} = .*  # the path of .*$", f"{name} = {str(path)!r}", code)
        assert filled == 1, name
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out == f"{model.predict(PROMPT)}\n"


def test_logits_of_many_prompts_come_in_order_from_batches_of_bounded_size(
    model: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, sizes = [f"{'red blue ' * (row % 7)}{row}" for row in range(150)], []
    assert model.generator is not None
    encoded, engine = model.generator.encode(prompts), model.generator._engine
    with torch.inference_mode():
        expected = [model.model(torch.tensor([ids])).logits[0, -1].numpy() for ids in encoded]
    forward = engine.forward
    monkeypatch.setattr(engine, "forward", lambda batch: sizes.append(batch.input_ids.size) or forward(batch))
    np.testing.assert_allclose(model.predict_logits(prompts), expected, rtol=1e-3, atol=1e-4)
    assert len(sizes) > 1 and max(sizes) <= 2_048


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_no_answer_is_longer_than_the_limit(limit: int, model: Predictor) -> None:
    answers = model.generate([row["prompt"] for row in make_prompts(9)], max_new_tokens=limit)
    assert all(answer.tokens <= limit and answer.endless is (answer.tokens == limit) for answer in answers)


def test_any_stop_token_ends_an_answer_where_it_first_comes(model: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a batch, too, whose other answers go on."""
    generator = model.generator
    assert generator is not None
    prompts = [row["prompt"] for row in make_prompts(5)]
    whole = [write_by_hand(model, prompt, 12) for prompt in prompts]
    for token in dict.fromkeys(whole[0]):
        stops = (*generator._dialogues.stops, token)
        monkeypatch.setattr(generator, "_dialogues", replace(generator._dialogues, stops=stops))
        for answer, ids in zip(model.generate(prompts), whole, strict=True):
            end = next((i for i, each in enumerate(ids) if each in stops), 12)
            assert (answer.tokens, answer.endless) == (end, end == 12)
            assert answer.text == generator._dialogues.decode(ids[:end])
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0: out of range"),
        ({"max_new_tokens": POSITIONS}, f"max_new_tokens={POSITIONS}: the model has only {POSITIONS} positions"),
        ({"temperature": -1.0}, "temperature=-1.0: out of range"),
        ({"top_p": 1.5, "temperature": 1.0}, "top_p=1.5: out of range"),
        ({"temperature": 1e-40}, "temperature=1e-40: out of range"),
        ({"temperature": float("nan")}, "temperature=nan: out of range"),
        ({"temperature": "hot"}, "temperature='hot': must be a number"),
        ({"max_new_tokens": 2.5}, r"max_new_tokens=2\.5: must be a whole number"),
        ({"seed": -1, "temperature": 1.0}, "seed=-1: out of range"),
        ({"seed": 2**70, "temperature": 1.0}, "seed=1180591620717411303424: out of range"),
        ({"top_p": 0.5}, "top_p=0.5: only applies where answers are sampled"),
        ({"seed": 5}, "seed=5: only applies where answers are sampled"),
    ],
)
def test_limits_that_make_no_sense_are_refused(settings: dict[str, Any], message: str, model: Predictor) -> None:
    with pytest.raises(ConfigError, match=message):
        model.generate("red 1", **settings)


def test_a_limit_that_leaves_prompts_no_room_is_refused_before_training(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"max_new_tokens={POSITIONS}: the model has only {POSITIONS} positions"):
        open_prepared(data, llama, tmp_path / "run", max_new_tokens=POSITIONS)


def test_one_long_answer_takes_no_room_from_prompts(llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i:07}", "completion": "x" * (2 if i else 40)} for i in range(40)]
    settings: dict[str, Any] = {"max_new_tokens": None, "max_length": None, "chat_template": "plain"}
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    prepared = open_prepared(tmp_path / "rows.jsonl", llama, tmp_path / "run", **settings)
    assert prepared.train.tokens.lengths.max() == 8 + 41, "one more begins a prompt, and one ends an answer"
    assert prepared.config.writing.max_new_tokens == POSITIONS - 8
    rows[0]["completion"] = "x" * 55
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    prepared = open_prepared(tmp_path / "rows.jsonl", llama, tmp_path / "run", **settings)
    assert prepared.config.writing.max_new_tokens == 56, "the longest answer can be written whatever the prompts"


def test_answers_that_go_on_after_their_end_are_told_with_their_rows(llama: Path, data: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i:07}", "completion": "yes" if i else "yes</s> and more"} for i in range(24)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    prepared = open_prepared(tmp_path / "rows.jsonl", llama, tmp_path / "run")
    assert any("1 answer (row 1) holds a token that ends a text" in line for line in prepared.data.warnings)
    fine = open_prepared(data, llama, tmp_path / "fine")
    assert not any("token that ends" in line for line in fine.data.warnings)


def test_answers_that_are_cut_are_told(llama: Path, data: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"red {i}", "completion": "yes" if i > 7 else "y" * 60} for i in range(24)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    prepared = open_prepared(tmp_path / "rows.jsonl", llama, tmp_path / "run")
    warned = [line for line in prepared.data.warnings if "are cut to fit max_length=48" in line]
    cut = sum(answer.startswith("yy") for answer in prepared.data.train.labels() or [])
    assert len(warned) == 1 and f"{cut} answers are cut" in warned[0] and cut > 1
    fine = open_prepared(data, llama, tmp_path / "fine", max_length=64)
    assert not any("cut to fit" in line for line in fine.data.warnings)


def test_chats_whose_earlier_answers_are_rewritten_are_told(llama: Path, tmp_path: Path) -> None:
    roles = ("user", "assistant", "user", "assistant")
    chats = [[{"role": role, "content": f"{role[0]}{i}"} for role in roles[: 2 + 2 * (i % 2)]] for i in range(24)]
    rows = [{"messages": chat} for chat in chats]
    (tmp_path / "chats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    marked = "{% if not loop.last and loop.index % 2 == 0 %}-{% endif %}"
    rewriting = CHAT_TEMPLATE.replace("{{ m['content'] }}", marked + "{{ m['content'] }}")
    for template, warned in ((rewriting, True), (CHAT_TEMPLATE, False)):
        settings: dict[str, Any] = {"chat_template": template, "max_length": 64, "max_new_tokens": 4}
        prepared = open_prepared(tmp_path / "chats.jsonl", llama, tmp_path / f"run{warned}", **settings)
        assert any("have answers that are not learned" in line for line in prepared.data.warnings) is warned


def test_equal_prompts_of_a_file_get_other_answers_in_every_batch(model: Predictor, tmp_path: Path) -> None:
    """They are drawn with one seed per batch, which is the same whether a file is read whole or in pieces."""
    assert model.generator is not None
    sampling = replace(model.generator.sampling, temperature=1.0, seed=3)
    prompts = ["red 1"] * (2 * generation._ROWS_PER_BATCH)
    whole = [answer.text for answer in model.generator.write(prompts, sampling)]
    half = len(prompts) // 2
    assert whole[:half] != whole[half:] and len(set(whole)) > half
    later = model.generator.write(prompts[half:], sampling, start=half)
    assert [answer.text for answer in later] == whole[half:]
    assert [answer.text for answer in model.generator.write(prompts, sampling)] == whole


def test_a_file_of_equal_prompts_is_drawn_anew_in_every_piece(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.generator is not None
    monkeypatch.setattr(files, "_PROMPTS_PER_PIECE", 8)
    monkeypatch.setattr(model.generator, "sampling", replace(model.generator.sampling, temperature=1.0))
    source = tmp_path / "same.jsonl"
    source.write_text('{"prompt": "red 1"}\n' * 24, encoding="utf-8")
    files.predict_file(model, source, tmp_path / "out.jsonl")
    answers = [json.loads(line)["answer"] for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert len({tuple(answers[i : i + 8]) for i in (0, 8, 16)}) == 3


def test_measuring_tells_how_many_prompts_were_cut_and_takes_other_limits(
    llama: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = StopAt()
    run = train_tiny(data, llama, tmp_path / "run", progress, **WRITING | {"max_new_tokens": POSITIONS - 5})
    cut = "2 of 2 prompts lost their beginning: 5 tokens are read (max_new_tokens=59 and the model's 64 positions)"
    assert cut in progress.warnings and cut in run.metrics["warnings"]
    with pytest.warns(Note, match="lost their beginning"):
        textune.evaluate(run, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        textune.evaluate(run, data, max_new_tokens=4, answer_rows=3, output=tmp_path / "measured")
    read = pq.read_table(tmp_path / "measured" / "predictions.parquet")
    assert read["predicted_label"].null_count == read.num_rows - 3
    _, _, told = call_here(capsys, "evaluate", str(run.folder), str(data))
    assert "lost their beginning" in told
    _, _, told = call_here(capsys, "evaluate", str(run.folder), str(data), "max_new_tokens=4")
    assert "lost their beginning" not in told
    code, _, told = call_here(capsys, "evaluate", str(run.folder), str(data), f"max_new_tokens={POSITIONS}")
    assert code == 2 and "positions" in told


def test_top_p_without_a_temperature_is_refused_before_training(llama: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="top_p=: only applies"):
        open_prepared(data, llama, tmp_path, top_p=0.5)
    assert open_prepared(data, llama, tmp_path, top_p=0.5, temperature=1.0).config.writing.top_p == 0.5


def test_a_seed_that_draws_rows_needs_no_temperature(model: Predictor) -> None:
    assert model.generator is not None
    before = model.generator.sampling
    try:
        model.generator.set_writing(WritingConfig(), 5, draws_rows=True)
        assert model.generator.sampling == before
        model.generator.set_writing(WritingConfig(temperature=1.0), 5, draws_rows=True)
        assert (model.generator.sampling.seed, model.generator.sampling.temperature) == (5, 1.0)
        model.generator.sampling = before
        with pytest.raises(ConfigError, match="seed=5: only applies"):
            model.generator.set_writing(WritingConfig(), 5)
    finally:
        model.generator.sampling = before


# ---- prompts --------------------------------------------------------------------------------------------------------

USER = {"role": "user", "content": "red 1"}
WRONG = {
    "empty": ("", "prompt 1 is empty"),
    "blank": (" \n", "prompt 1 is empty"),
    "damaged": (json.dumps([USER])[:-3], "prompt 1 is not a chat: no valid JSON"),
    "unknown role": (json.dumps([USER | {"role": "robot"}]), "prompt 1 message 1 has the role 'robot'"),
    "no content": ('[{"role": "user"}]', "prompt 1 message 1 has no text as its content"),
    "only answers": (json.dumps([USER | {"role": "assistant"}]), "prompt 1 is a chat of answers alone"),
}
PLAIN = ["[1] is a footnote", "[]", "{", '{"role": "user"}', '["red"]', "[{}]", 'say [{"role": "x"}]', "\x1b[31m", "é"]


@pytest.mark.parametrize("kind", WRONG)
def test_a_prompt_that_is_none_is_named(
    kind: str, run: Run, model: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt, message = WRONG[kind]
    with pytest.raises(DataError) as caught:
        model.generate(prompt)
    assert message in caught.value.message and caught.value.hint
    code, out, err = call_here(capsys, "predict", str(run.folder), "--text", prompt, "--device", "cpu")
    assert code == DataError.exit_code and message in err and not out


@pytest.mark.parametrize("prompt", PLAIN)
def test_other_texts_are_prompts_as_they_are(prompt: str, model: Predictor) -> None:
    chat = json.dumps([{"role": "user", "content": prompt}])
    assert model.generate(prompt) == model.generate(chat)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({}, r"the run's max_length=48"), ({"max_new_tokens": 30}, r"max_new_tokens=30 and the model's 64 positions")],
)
def test_a_prompt_that_is_too_long_loses_its_beginning_and_a_note_says_so(
    settings: dict[str, Any], reason: str, model: Predictor
) -> None:
    long = "cold " * 40 + "red 1"
    with pytest.warns(Note, match=rf"1 of 2 prompts lost their beginning: \d+ tokens are read \({reason}\)"):
        answers = model.generate([long, "red 1"], **settings)
    assert answers[1] == model.generate("red 1", **settings)[0]
    with pytest.warns(Note):
        assert answers[0] == model.generate("blue " * 2 + long, **settings)[0], "the end is what counts"
    with pytest.warns(Note, match="the prompt lost its beginning"):
        model.generate(long)


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chats(place: Path, llama: Path) -> Run:
    rows = [[{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}]
            for r in make_prompts(24)]  # fmt: skip
    path = place / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
    return train_tiny(path, llama, place / "chats", **WRITING)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_rows_without_a_prompt_get_no_answer(
    suffix: str, run: Run, model: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["red 1", "", "blue 2", None, "  "]
    source = tmp_path / f"new{suffix}"
    lines = [json.dumps({"prompt": p}) for p in prompts]
    if suffix == ".csv":
        lines = ["prompt,n", *(f"{p or ''},1" for p in prompts)]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, out, err = call_here(capsys, "predict", str(run.folder), str(source), "--device", "cpu", "precision=fp32")
    limited = sum(answer.endless for answer in model.generate(["red 1", "blue 2"]))
    assert (f"note: {limited} of 2 answers reached the limit of 12 tokens" in err) is bool(limited)
    assert code == 0 and "2 rows answered\n3 rows without a prompt got no answer" in out
    with (tmp_path / f"new.predicted{suffix}").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream)) if suffix == ".csv" else [json.loads(line) for line in stream]
    answers = [row["answer"] for row in rows]
    assert [a or None for a in answers] == [*model.predict(["red 1"]), None, *model.predict(["blue 2"]), None, None]


@pytest.mark.parametrize("kind", [kind for kind in WRONG if kind not in ("empty", "blank")])
def test_a_damaged_chat_in_a_file_is_named_before_anything_is_written(
    kind: str, chats: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from textune.inference import files

    monkeypatch.setattr(files, "_PROMPTS_PER_PIECE", 1)
    source = tmp_path / "new.csv"
    cells = [json.dumps([USER]), "", WRONG[kind][0]]
    quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
    source.write_text("\n".join(["messages", *quoted, ""]), encoding="utf-8")
    monkeypatch.setattr(Predictor, "answer_texts", lambda *_: pytest.fail("it answers before it has looked"))
    code, out, err = call_here(capsys, "predict", str(chats.folder), str(source), "--device", "cpu")
    assert code == DataError.exit_code and not out
    assert f"new.csv, row 3 {WRONG[kind][1].removeprefix('prompt 1 ')}" in err and "a chat is a list" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv"]


# ---- tokenizers and templates ---------------------------------------------------------------------------------------


def change_tokenizer(source: Path, folder: Path, remove: tuple[str, ...] = (), **changes: Any) -> Path:
    """Copy a model's folder, with other settings of its tokenizer; remove: also from its config."""
    shutil.copytree(source, folder)
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        settings |= changes if name == "tokenizer_config.json" else {}
        for key in remove:
            settings.pop(key, None)
            settings.pop(f"{key}_id", None)
        (folder / name).write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_without_a_template_prompt_and_answer_stand_as_they_are(llama: Path, data: Path, tmp_path: Path) -> None:
    backbone = change_tokenizer(llama, tmp_path / "plain", remove=("chat_template",))
    prepared = open_prepared(data, backbone, tmp_path / "run")
    assert prepared.dialogues is not None and prepared.dialogues.template is None
    ids = prepared.train.tokens.ids[: prepared.train.tokens.offsets[1]].tolist()
    first = prepared.data.train.arrow.to_pylist()[0]
    assert prepared.dialogues.decode(ids) == first["text"] + first["label"], "this tokenizer has no line break"
    assert ids[-1] == 2


def test_without_a_pad_token_the_end_of_text_pads(llama: Path, data: Path, tmp_path: Path) -> None:
    backbone = change_tokenizer(llama, tmp_path / "unpadded", remove=("pad_token",))
    prepared = open_prepared(data, backbone, tmp_path / "run")
    assert prepared.padding.pad_token_id == 2
    batch = prepared.task.collate(prepared.train.tokens, range(8), prepared.padding)
    assert (batch.input_ids[batch.attention_mask == 0] == 2).all() and (batch.attention_mask == 0).any()
    assert (batch.targets == 2).sum() == 8, "the end of an answer is learned, and no padding"


def test_without_an_end_of_text_a_warning_says_that_answers_do_not_end(llama: Path, data: Path, tmp_path: Path) -> None:
    backbone = change_tokenizer(llama, tmp_path / "endless", remove=("eos_token",))
    progress = StopAt()
    prepared = open_prepared(data, backbone, tmp_path / "run", progress)
    assert prepared.dialogues is not None and not prepared.dialogues.stops
    assert any("names a token that ends a text (eos_token)" in warning for warning in progress.warnings)
    assert any("eos_token" in warning for warning in prepared.data.warnings)


def test_without_either_it_is_refused(llama: Path, data: Path, tmp_path: Path) -> None:
    backbone = change_tokenizer(llama, tmp_path / "neither", remove=("eos_token", "pad_token"))
    with pytest.raises(ModelError, match="neither its config nor its tokenizer defines a padding token"):
        _ = open_prepared(data, backbone, tmp_path / "run").padding


SYSTEM = [{"role": "system", "content": "be short"}, USER]
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
REFUSES = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
TEMPLATES = {
    "leaves out": (NO_SYSTEM, "the chat template leaves out the message of the role system"),
    "refuses": (REFUSES, "the chat template refuses this conversation: no system messages"),
}


@pytest.mark.parametrize("door", ["training", "test", "prompt"])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_role_that_the_template_does_not_know_is_named_with_its_row(
    kind: str, door: str, llama: Path, tmp_path: Path
) -> None:
    template, message = TEMPLATES[kind]
    good = [[USER | {"content": f"red {i}"}, {"role": "assistant", "content": "blue"}] for i in range(12)]
    bad = [*good[:6], [*SYSTEM, good[0][1]], *good[6:]]
    settings: dict[str, Any] = {"chat_template": template}
    for name, rows in (("train", bad if door == "training" else good), ("test", bad if door == "test" else good)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
    if door != "training":
        settings["test"] = str(tmp_path / "test.jsonl")
    with pytest.raises(TextuneError) as caught:
        prepared = open_prepared(tmp_path / "train.jsonl", llama, tmp_path / "run", **settings)
        assert door == "prompt" and prepared.dialogues is not None
        prepared.dialogues.encode_prompts([json.dumps(SYSTEM)], 64)
    where = {"training": "train.jsonl, row 7", "test": "test.jsonl, row 7", "prompt": "prompt 1"}[door]
    assert f"{where}: {message}" in caught.value.message and "chat_template=" in (caught.value.hint or "")


def test_second_texts_are_refused(model: Predictor) -> None:
    for call in (model.predict, model.classify):
        with pytest.raises(DataError, match="second texts are given"):
            call(["red 1"], pairs=["blue 2"])
