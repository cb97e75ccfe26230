"""Pooling: the mean over a text's tokens, in both engines, in every export and in the card's own lines."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import ROWS, train_cell
from passes import FAMILIES as LEAN
from passes import FP32, RAGGED, Made, assert_same, run, run_reference
from textune.backbones import load_classifier, resolve_backbone
from textune.backbones.families import Family, families
from textune.backbones.pooling import FIRST, LAST, MEAN, NATIVE, Pooling, attach_pooling, choose_pooling, find_body
from textune.backbones.pooling_layer import add_pooling_layer, can_add_layer, needs_layer
from textune.bundle import read_manifest
from textune.config import POOLINGS
from textune.engine import ReferenceEngine
from textune.engine.packing import mean_of_texts, pack_batch
from textune.engine.prefix_cache import open_prefix
from textune.errors import ConfigError
from textune.export.merged import export_merged
from textune.export.onnx import export_onnx
from textune.inference import Predictor
from textune.methods import methods, resolve
from textune.report.snippets import reload_merged, reload_without_textune
from textune.run.save import update_manifest
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import Batch, collate
from tiny import FAMILIES, UNEQUAL

Array = np.ndarray[Any, Any]
ENCODERS = [name for name in FAMILIES if not families.get(name).decoder]
DECODERS = [name for name in FAMILIES if families.get(name).decoder]
WITH_LAYER = ("bert", "distilbert", "roberta", "xlm-roberta", "electra")
TEXTS = (*UNEQUAL, "bad", "a superb story")


def make(folder: Path, pooling: str | None, method: str = "head", options: dict[str, Any] | None = None) -> Made:
    """Return a model in evaluation mode whose weights depend on the folder and the method alone."""
    backbone = resolve_backbone(str(folder))
    torch.manual_seed(1)
    model, new = load_classifier(backbone, ("a", "b", "c"), pooling=None if pooling is None else Pooling(pooling))
    model = resolve(method, options or {}).apply(model, backbone.family, new)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or (name.endswith("bias") and "original" not in name):
                parameter.normal_(std=0.05)
    return Made(backbone, model.eval())


@torch.inference_mode()
def reference(made: Made, batch: Batch) -> Array:
    return ReferenceEngine(made.model, FP32, made.backbone.family)(batch).numpy()


def add_columns(batch: Batch, count: int) -> Batch:
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if getattr(batch, name) is not None]
    changed: dict[str, Any] = {name: np.pad(getattr(batch, name), ((0, 0), (0, count))) for name in names}
    changed["input_ids"][:, -count:] = batch.input_ids[0, -1]  # the shortest text ends in padding
    return dataclasses.replace(batch, **changed)


def logits_of(run: Path) -> Array:
    return Predictor.load(run, precision="fp32", device="cpu").predict_logits(TEXTS)


def largest_difference(one: Any, other: Any) -> float:
    one, other = np.asarray(one), np.asarray(other)
    return float(np.abs(one - other).max() / np.abs(other).max())


@torch.inference_mode()
def call(model: Any, inputs: Any) -> torch.Tensor:
    return model.eval()(**inputs).logits.float()


@pytest.mark.parametrize("family", ENCODERS)
def test_padding_changes_no_mean(family: str, backbones: dict[str, Path]) -> None:
    made = make(backbones[family], MEAN)
    together = reference(made, made.batch())
    alone = np.concatenate([reference(made, made.batch((text,))) for text in RAGGED])
    assert largest_difference(alone, together) < 1e-5
    assert largest_difference(reference(made, add_columns(made.batch(), 9)), together) < 1e-5
    first, plain = (reference(make(backbones[family], form), made.batch()) for form in (FIRST, None))
    assert largest_difference(first, together) > 1e-2
    assert np.array_equal(first, plain), "the first token is what the plain model reads"


@pytest.mark.parametrize("family", [name for name in ENCODERS if families.get(name).pooling_setting is None])
def test_the_head_gets_the_normalised_mean_of_the_last_states(family: str, backbones: dict[str, Path]) -> None:
    made, plain = make(backbones[family], MEAN), make(backbones[family], None)
    batch = made.batch()
    inputs = {key: torch.from_numpy(getattr(batch, key)) for key in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        read = find_body(made.model)(**inputs)
        states = find_body(plain.model)(**inputs).last_hidden_state.numpy()
    vectors = read.last_hidden_state[:, 0] if getattr(read, "pooler_output", None) is None else read.pooler_output
    means = np.stack([row[mask == 1].mean(0) for row, mask in zip(states, batch.attention_mask, strict=True)])
    expected = (means - means.mean(1, keepdims=True)) / means.std(1, keepdims=True)
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-5)


def test_modernbert_pools_by_its_own_setting(backbones: dict[str, Path]) -> None:
    for form, word in ((FIRST, "cls"), (MEAN, "mean")):
        model = make(backbones["modernbert"], form).model
        assert model.config.classifier_pooling == word
        assert not find_body(model)._forward_hooks


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_virtual_tokens_are_left_out(pooling: str, family: str, backbones: dict[str, Path]) -> None:
    model, _ = load_classifier(resolve_backbone(str(backbones[family])), ("a", "b"), pooling=Pooling(pooling, 5))
    width = getattr(model.config, families.get(family).prompt_size)
    inputs = {"inputs_embeds": torch.randn(2, 14, width), "attention_mask": torch.ones(2, 14, dtype=torch.long)}
    inputs["attention_mask"][1, 11:] = 0
    expected, pushed = call(model, inputs), slice(0, 5)

    def push(body: Any, args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state.clone()
        output.last_hidden_state[:, pushed] += 100 * torch.randn(32)
        return output

    find_body(model).register_forward_hook(push, prepend=True)
    torch.testing.assert_close(call(model, inputs), expected)
    pushed = slice(5, 6)
    assert largest_difference(call(model, inputs), expected) > 1e-2, "the text's own first token counts"


@pytest.mark.parametrize(
    ("row", "family"),
    [(row, family) for family in LEAN for row in ("lora", "full")]
    + [(row, "bert") for row in ("bitfit", "head", "lora+rslora", "lora+lora_plus")],
)
def test_lean_means_and_their_gradients_are_the_references(row: str, family: str, backbones: dict[str, Path]) -> None:
    made = make(backbones[family], MEAN, *ROWS[row])
    for batch in (made.batch(), dataclasses.replace(made.batch(), windows=np.asarray([1, 3, 2, 2]))):
        assert_same(run(made.lean(), made.model, batch), run_reference(made, batch))


@pytest.mark.parametrize("family", LEAN)
def test_cached_means_are_those_of_the_layers(family: str, backbones: dict[str, Path]) -> None:
    made = make(backbones[family], MEAN)
    engine = made.lean().train()
    tokens = encode_texts(load_tokenizer(made.backbone.folder), RAGGED, None, 40)
    batch = collate(tokens, [4, 1, 0, 2, 3], made.backbone.padding)
    layers = engine.count_frozen_layers()
    assert layers == engine.layers
    direct = run(engine, made.model, batch)
    prefix = open_prefix(engine, tokens, layers, made.backbone.padding, lambda rows: None)
    assert prefix is not None and prefix.states.shape == (len(RAGGED), 32)
    engine.keep(prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_embed", None)
        assert_same(run(engine, made.model, batch), direct)
    other = open_prefix(make(backbones[family], FIRST).lean(), tokens, layers, made.backbone.padding, int)
    assert other is not None and not np.allclose(other.states, prefix.states), "one key for both"


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.booleans(), st.integers(0, 99))
@settings(max_examples=40)
def test_packed_and_padded_means_are_the_same(lengths: list[int], filled: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = (np.arange(max(lengths)) < np.asarray(lengths)[:, None]).astype(np.int64)
    padded = random.normal(size=(*mask.shape, 4)).astype(np.float32)
    batch = Batch(np.zeros_like(mask), mask, None, np.arange(len(lengths)))
    pack = pack_batch(batch, 0, 10**6, torch.float32, torch.device("cpu"), grouped=False, filled=filled)
    texts = [padded[i][mask[i] == 1] for i in pack.order.numpy()]
    behind = np.full((len(pack.ids) - sum(lengths), 4), 1e6, np.float32)  # of the texts that fill the pack
    means = mean_of_texts(torch.from_numpy(np.concatenate([*texts, behind])), pack)[: len(lengths)]
    np.testing.assert_allclose(means.numpy(), np.stack([text.mean(0) for text in texts]), atol=1e-5)


def write_pooling(folder: Path, content: str) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling" / "config.json").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}', MEAN),
        ('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}', FIRST),
        ('{"word_embedding_dimension": 32, "pooling_mode": "mean"}', MEAN),
        ('{"pooling_mode": "cls"}', FIRST),
        ('{"pooling_mode": "max"}', FIRST),
        ('{"pooling_mode": 3}', FIRST),
        ('{"pooling_mode_mean', FIRST),
        ("[]", FIRST),
        ("", FIRST),
    ],
)
def test_the_checkpoint_says_how_it_was_trained(content: str, expected: str, tmp_path: Path) -> None:
    bert, folder = families.get("bert"), write_pooling(tmp_path, content)
    assert choose_pooling(None, bert, {}, folder)[0] == expected
    for setting in POOLINGS:
        assert choose_pooling(setting, bert, {}, folder) == (setting, "as set")


def test_without_a_word_of_the_checkpoint_it_is_the_first_token(tmp_path: Path) -> None:
    for family in ENCODERS:
        form, reason = choose_pooling(None, families.get(family), {}, tmp_path)
        assert (form, reason) == (FIRST, "the checkpoint does not specify pooling")


def test_modernbert_follows_its_config_unless_told_otherwise(tmp_path: Path) -> None:
    family = families.get("modernbert")
    for word, form in (("mean", MEAN), ("cls", FIRST)):
        assert choose_pooling(None, family, {"classifier_pooling": word}, tmp_path)[0] == form
        assert choose_pooling(None, families.get("bert"), {"classifier_pooling": word}, tmp_path)[0] == FIRST
    assert choose_pooling(None, family, {"classifier_pooling": "no such"}, tmp_path)[0] == FIRST
    assert choose_pooling(FIRST, family, {"classifier_pooling": "mean"}, tmp_path)[0] == FIRST
    write_pooling(tmp_path, '{"pooling_mode": "mean"}')
    assert choose_pooling(None, family, {"classifier_pooling": "cls"}, tmp_path)[0] == MEAN


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_reads_its_last_token(family: str, tmp_path: Path) -> None:
    folder = write_pooling(tmp_path, '{"pooling_mode": "mean"}')
    assert choose_pooling(None, families.get(family), {}, folder)[0] == LAST
    for setting in POOLINGS:
        with pytest.raises(ConfigError, match=f"pooling={setting}: {family} is a decoder"):
            choose_pooling(setting, families.get(family), {}, folder)


def test_a_guessed_family_reads_as_it_does_and_refuses_the_mean(tmp_path: Path, backbones: dict[str, Path]) -> None:
    guessed: Family = dataclasses.replace(families.get("bert"), name="strange", guessed=True)
    folder = write_pooling(tmp_path, '{"pooling_mode": "mean"}')
    assert choose_pooling(None, guessed, {}, folder)[0] == NATIVE
    assert choose_pooling(FIRST, guessed, {}, folder)[0] == FIRST
    with pytest.raises(ConfigError, match="pooling=mean: strange is not a known family"):
        choose_pooling(MEAN, guessed, {}, folder)
    with pytest.raises(ValueError, match="not a known family"):
        attach_pooling(make(backbones["bert"], None).model, guessed, Pooling(MEAN))


@pytest.mark.parametrize("family", WITH_LAYER)
def test_a_plain_model_one_layer_deeper_gives_the_logits(
    family: str, backbones: dict[str, Path], tmp_path: Path
) -> None:
    made, first = make(backbones[family], MEAN), make(backbones[family], FIRST)
    assert tuple(name for name in families.names() if can_add_layer(families.get(name))) == WITH_LAYER
    assert needs_layer(made.model) and not needs_layer(first.model)
    add_pooling_layer(made.model, made.backbone.family).save_pretrained(str(tmp_path))
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    plain, info = load(str(tmp_path), output_loading_info=True)
    assert not (info["missing_keys"] or info["unexpected_keys"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(backbones[family]))
    inputs = tokenizer(list(RAGGED), padding=True, truncation=True, max_length=40, return_tensors="pt")
    exact, exact_first = call(made.model, inputs), call(first.model, inputs)
    assert largest_difference(call(plain, inputs), exact) < 1e-4
    for dtype in (torch.bfloat16, torch.float16):
        half = call(load(str(tmp_path), dtype=dtype), inputs)
        usual = largest_difference(call(copy.deepcopy(first.model).to(dtype), inputs), exact_first)
        assert largest_difference(half, exact) < 3 * usual, dtype


SNIPPETS = [
    (method, family, pooling)
    for method, pooling in (("lora", MEAN), ("prefix", MEAN), ("prompt", MEAN), ("ia3", MEAN), ("prompt", FIRST),
                            ("head", MEAN), ("bitfit", MEAN), ("full", MEAN))
    for family in ("bert", "albert", "roberta", "mpnet")
    if methods.get(method).refusal(families.get(family)) is None
    and (method, families.get(family).prefix) != ("prefix", "attention")
] + [
    ("lora", "modernbert", MEAN), ("prompt", "modernbert", FIRST), ("lora", "deberta-v2", MEAN), ("lora", "quiet", MEAN)
]  # fmt: skip
_WITHOUT_TEXTUNE = """
import importlib.abc, json, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "textune":
            raise ImportError("textune is blocked here")
sys.meta_path.insert(0, Block())
try:
    import textune
    sys.exit("textune is not blocked")
except ImportError:
    pass
import torch
torch.set_num_threads(1)
work, answers = json.load(sys.stdin), []
for code in work["snippets"]:
    names = {}
    try:
        exec(compile(code, "card", "exec"), names)
        inputs = names["tokenizer"](work["texts"], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            answers.append(names["model"].eval()(**inputs).logits.tolist())
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""


def run_without_textune(snippets: list[str], cwd: Path) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TEXTUNE], cwd=cwd, env=os.environ | {"HF_HUB_OFFLINE": "1"}, text=True,
        input=json.dumps({"snippets": snippets, "texts": TEXTS}), capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))  # the lines print, too


def make_quiet(source: Path, folder: Path) -> Path:
    """Save a model whose last states are small, as those of sentence encoders often are: all-MiniLM's vary by 0.05."""
    model = transformers.AutoModel.from_pretrained(str(source))
    with torch.no_grad():
        for parameter in model.encoder.layer[-1].output.LayerNorm.parameters():
            parameter.mul_(0.1)
    shutil.copytree(source, folder)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def answer_of(
    backbones: dict[str, Path], few_reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, str, str]], tuple[str, Any, Array]]:
    """Return, by cell, the card's lines, the logits that they give in a process without textune, and the run's."""
    place = tmp_path_factory.mktemp("snippets")
    known = {family: backbones[family] for _, family, _ in SNIPPETS if family != "quiet"}
    for folder in known.values():
        (place / folder.name).symlink_to(folder)  # an adapter names its base so, and the lines run in this folder
    known["quiet"] = make_quiet(backbones["bert"], place / "tiny-quiet")
    code, expected = [], []
    for method, family, pooling in SNIPPETS:
        folder = place / f"{method}-{family}-{pooling}"
        train_cell(method, few_reviews, known[family], folder, pooling=pooling, epochs=1)
        manifest = read_manifest(folder)
        assert manifest.pooling == pooling
        code.append(reload_without_textune(manifest, str(folder)))
        expected.append(logits_of(folder))
    answers = run_without_textune(code, place)
    return dict(zip(SNIPPETS, zip(code, answers, expected, strict=True), strict=True)).__getitem__


@pytest.mark.parametrize("cell", SNIPPETS, ids="-".join)
def test_the_cards_lines_pool_as_the_run_does(
    cell: tuple[str, str, str], answer_of: Callable[[tuple[str, str, str]], tuple[str, Any, Array]]
) -> None:
    code, answer, expected = answer_of(cell)
    assert "textune" not in code.replace(cell[0], "")
    loading = code[: code.index("logits = ")].splitlines()
    names = [line for line in loading if line.startswith(("folder = ", "base = "))]  # what a person fills in
    assert len(loading) - len(names) <= 6 and ";" not in code, code
    pooling = [line for line in loading if line not in names and "from_pretrained" not in line]
    assert max(map(len, pooling)) <= (120 if cell[0] in ("head", "bitfit", "full") else 150), code
    assert not isinstance(answer, str), f"{answer}\n{code}"  # an error
    assert largest_difference(answer, expected) < 1e-4, code


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_merged_mean_needs_transformers_alone(
    family: str, backbones: dict[str, Path], few_reviews: Path, tmp_path: Path
) -> None:
    run = train_cell("lora", few_reviews, backbones[family], tmp_path / "run", pooling=MEAN)
    update_manifest(run, temperature=1.7)
    merged = export_merged(run, tmp_path / "merged")
    predictor = Predictor.load(run, precision="fp32", device="cpu")
    classify = transformers.pipeline("text-classification", str(merged), truncation=True, top_k=None, device="cpu")
    found = [{item["label"]: item["score"] for item in row} for row in classify(list(TEXTS), batch_size=4)]
    for row, expected in zip(found, predictor.classify(TEXTS), strict=True):
        assert row == pytest.approx(expected.probabilities, abs=1e-5)


@pytest.mark.parametrize("family", ["mpnet", "albert", "bert"])
def test_the_cards_lines_for_a_merged_mean(
    family: str, backbones: dict[str, Path], few_reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_cell("bitfit", few_reviews, backbones[family], tmp_path / "run", pooling=MEAN)
    update_manifest(run, temperature=0.6)
    export_merged(run, tmp_path / "merged")
    monkeypatch.chdir(tmp_path)
    code, names = reload_merged(read_manifest(run), "merged", tmp_path / "merged"), {}
    assert ("register_forward_hook" in code) == (family != "bert")
    exec(compile(code, "card", "exec"), names)
    found = names["classify"](list(TEXTS), batch_size=4)
    expected = Predictor.load(run, precision="fp32", device="cpu").classify(TEXTS)
    assert [max(label["score"] for label in row) for row in found] == pytest.approx(
        [row.probability for row in expected], abs=1e-5
    )


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_onnx_gives_the_means_logits(
    family: str, backbones: dict[str, Path], few_reviews: Path, tmp_path: Path
) -> None:
    run = train_cell("lora", few_reviews, backbones[family], tmp_path / "run", pooling=MEAN, epochs=1)
    export_onnx(run, tmp_path / "out")
    expected, found = logits_of(run), Predictor.load(tmp_path / "out")
    assert largest_difference(found.predict_logits(TEXTS), expected) < 1e-4
    assert largest_difference(np.concatenate([found.predict_logits([text]) for text in TEXTS]), expected) < 1e-4
