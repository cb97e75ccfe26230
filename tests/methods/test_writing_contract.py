"""The contract of every method on every family that writes: a new one is tested by being there.

`make matrix` tries every cell and records which passed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cells import ROWS, train_cell
from textune import bundle
from textune.backbones.families import families
from textune.config import build_config
from textune.engine import ReferenceEngine
from textune.engine.same_logits import measure_difference
from textune.errors import ModelError
from textune.inference import Predictor
from textune.methods import methods, resolve
from textune.process.interrupt import RunInterrupted
from textune.progress import Silent
from textune.run.fit import build_model
from textune.run.prepare import Prepared, prepare
from textune.tasks import build_task
from tiny import CHAT_TEMPLATE, WORDS, StopAt, build_causal, hash_weights, settings_for

WRITERS = [name for name, family in families if family.decoder]
CELLS = [
    (row, family)
    for row, (name, options) in ROWS.items()
    for family in WRITERS
    if resolve(name, options).explain_no_writing() is None and methods.get(name).refusal(families.get(family)) is None
]
MORE = {"full": WRITERS, "lora": WRITERS, "lora+dora": ["qwen2", "gemma"], "qlora": ["qwen2", "gemma"]}
"""Further families on which a method is always tried."""
FIRST = {row: next(family for family in ("llama", *WRITERS) if (row, family) in CELLS) for row, _ in CELLS}
"""The family on which a method is always tried."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try each method on one family and some on all; `make matrix` tries every cell."""
    if not {"row", "family"} <= set(metafunc.fixturenames):
        return
    chosen = CELLS
    if not metafunc.config.getoption("--record-support"):
        more = {} if "resumed" in metafunc.function.__name__ else MORE
        chosen = [(row, family) for row, family in CELLS if family in (FIRST[row], *more.get(row, ()))]
    metafunc.parametrize(("row", "family"), [pytest.param(*cell, id="-".join(cell)) for cell in chosen])


SETTINGS: dict[str, Any] = {
    "task": "generation", "contrast_steps": None, "epochs": 1, "batch_size": 4, "max_length": 64, "dropout": 0.1,
    "learning_rate": 2e-2, "max_new_tokens": 6, "packing": False,
}  # fmt: skip
UNEQUAL = ["red 1", "a much longer prompt than the others, and cold", "green 77"]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family's tiny model, built once."""
    place = tmp_path_factory.mktemp("causal")

    def build(family: str) -> Path:
        return place / family if (place / family).is_dir() else build_causal(place / family, family, CHAT_TEMPLATE)

    return build


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen rows of unequal length: four steps, and two rows to validate."""
    rows = [f"{WORDS[i % 4]} {i}{' cold' * (i % 4)},{' '.join(WORDS[: 1 + i % 3])}" for i in range(22)]
    path = tmp_path_factory.mktemp("rows") / "prompts.csv"
    path.write_text("\n".join(["prompt,completion", *rows, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run_of(
    causal: Callable[[str], Path], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """Return the folder of a cell that was trained, saved and proven by a fresh load, each once."""
    place = tmp_path_factory.mktemp("runs")

    def train(row: str, family: str) -> Path:
        folder = place / f"{row}-{family}"
        return folder if folder.is_dir() else train_cell(row, data, causal(family), folder, **SETTINGS)

    return train


@pytest.fixture(scope="module")
def loaded_of(run_of: Callable[[str, str], Path]) -> Callable[[str, str], Predictor]:
    """Return a cell's run, loaded afresh and not merged."""
    loaded: dict[tuple[str, str], Predictor] = {}

    def load_once(row: str, family: str) -> Predictor:
        if (row, family) not in loaded:
            loaded[row, family] = load(run_of(row, family), merge=False)
        return loaded[row, family]

    return load_once


@pytest.fixture(scope="module")
def base_of(causal: Callable[[str], Path], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a cell's model before training; in 4 bits where the method has it so."""
    built: dict[tuple[str, bool], Any] = {}

    def build(row: str, family: str) -> Any:
        key = family, bool(resolve(*ROWS[row]).load_kwargs(families.get(family)))
        if key not in built:
            prepared = open_prepared(row if key[1] else "full", data, causal(family), tmp_path_factory.mktemp("base"))
            built[key] = build_model(prepared)[0].eval()
        return built[key]

    return build


def predict_next(model: Any, prompts: list[list[int]]) -> np.ndarray[Any, Any]:
    """Return the logits after each prompt by itself."""
    with torch.inference_mode():
        return np.stack([model(torch.tensor([ids])).logits[0, -1].float().numpy() for ids in prompts])


def load(folder: Path, **options: Any) -> Predictor:
    return Predictor.load(folder, precision="fp32", device="cpu", **options)


def open_prepared(row: str, data: Path, backbone: Path, folder: Path, **settings: Any) -> Prepared:
    name, options = ROWS[row]
    flat = settings_for(data, backbone, folder, method={"name": name, **options}, **SETTINGS | settings)
    return prepare(build_config(flat), Silent())


def test_the_families_of_the_write_up_are_there() -> None:
    assert {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"} <= set(WRITERS)
    assert {"full", "lora", "lora+dora", "qlora"} <= FIRST.keys()


def test_a_fresh_load_merged_or_not_answers_as_trained(
    row: str, family: str, run_of: Callable[[str, str], Path], loaded_of: Callable[[str, str], Predictor],
    base_of: Callable[[str, str], Any],
) -> None:  # fmt: skip
    """The training itself proves that a fresh load gives its logits (`check_reload`)."""
    loaded = loaded_of(row, family)
    logits = loaded.predict_logits(UNEQUAL)
    assert loaded.generator is not None
    ids = loaded.generator.encode(UNEQUAL)
    before = predict_next(base_of(row, family), ids)
    assert measure_difference(before, logits) > 1e-3, "the comparison proves nothing: training changed no logits"
    assert measure_difference(predict_next(loaded.model, ids), logits) < 1e-5, "padding changes an answer"
    answers = loaded.generate(UNEQUAL)
    assert answers[:1] == loaded.generate(UNEQUAL[0])
    if resolve(*ROWS[row]).mergeable:
        merged = load(run_of(row, family), merge=True)
        assert measure_difference(logits, merged.predict_logits(UNEQUAL)) < 1e-4
        assert merged.generate(UNEQUAL) == answers
        left = [n for n, m in merged.model.named_modules() if type(m).__module__.startswith(("peft", "bitsandbytes"))]
        assert not left, "a merged model is a plain one"
        assert type(merged.model).__name__.endswith(("ForCausalLM", "LMHeadModel"))


def test_packed_rows_have_the_losses_and_gradients_of_padded_ones(
    row: str, family: str, loaded_of: Callable[[str, str], Predictor], causal: Callable[[str], Path], data: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    prepared = open_prepared(row, data, causal(family), tmp_path)
    predictor = loaded_of(row, family)
    engine = ReferenceEngine(predictor.model, predictor.open_reference().precision)
    trained = {n: p for n, p in engine.named_parameters() if p.is_floating_point()}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    found = []
    for packing in (False, True):
        task = build_task("generation").with_packing(packing)
        batch = task.collate(prepared.train.tokens, range(8), prepared.padding, prepared.train.targets[:8])
        assert (len(batch.input_ids) < 8) is packing
        loss = prepared.objective.loss(task.call_engine(engine, batch), torch.from_numpy(batch.targets))
        loss.backward()
        found.append((float(loss.detach()), {n: p.grad.clone() for n, p in trained.items() if p.grad is not None}))
        engine.zero_grad()
    (loss, gradients), (packed, others) = found
    assert packed == pytest.approx(loss, rel=1e-5) and gradients.keys() == others.keys() and gradients
    largest = max(float(g.abs().max()) for g in gradients.values())
    for name, gradient in gradients.items():
        assert float((gradient - others[name]).abs().max()) <= 1e-5 * largest, name


def test_a_resumed_run_equals_the_uninterrupted_one(
    row: str, family: str, run_of: Callable[[str, str], Path], causal: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    whole = run_of(row, family)
    with pytest.raises(RunInterrupted):
        train_cell(row, data, causal(family), tmp_path / "parts", StopAt(2), **SETTINGS)
    assert not (tmp_path / "parts" / "textune.json").exists()
    resumed = train_cell(row, data, causal(family), tmp_path / "parts", (said := StopAt()), proven=False, **SETTINGS)
    assert any("resuming at step 2" in line for line in said.said)
    assert hash_weights(resumed) == hash_weights(whole) != {}
    for name in bundle.read_manifest(whole).files.keys() - {"config.yaml"}:
        assert Path(name).suffix not in (".bin", ".pt", ".pkl", ".pickle"), f"{name} is a pickle"


@pytest.mark.parametrize("row", [row for row, spec in ROWS.items() if resolve(*spec).explain_no_writing()])
def test_methods_that_cannot_write_say_why(row: str, causal: Callable[[str], Path], data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"method {ROWS[row][0]} does not support task=generation: .{{20}}") as caught:
        open_prepared(row, data, causal("llama"), tmp_path, max_length=40)
    assert caught.value.hint == "choose method=lora"


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        pytest.param(row, family, id=f"{row} {family}")  # no cell of the matrix, whose test ids have a hyphen
        for row, (name, _) in ROWS.items()
        for family in WRITERS
        if methods.get(name).refusal(families.get(family))
    ],
)
def test_families_that_a_method_does_not_support_are_named_with_the_reason(
    row: str, refused: str, causal: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=f"method {ROWS[row][0]} does not support {refused}: .{{20}}"):
        open_prepared(row, data, causal(refused), tmp_path)
