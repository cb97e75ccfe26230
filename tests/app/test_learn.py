"""The page Learn: tokens step by step, LoRA's figures, the methods of the registry, the baselines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from textune.app.lora_figures import MOST_CELLS, Update, draw_matrices, list_cells
from textune.app.markup import write_chips
from textune.app.options import AppOptions, set_options
from textune.app.token_steps import follow_text, open_tokenizer
from textune.methods import methods
from textune.printable import holds_text
from textune.run import Run
from textune.tasks import default_task


def draw_page() -> None:
    from textune.app.pages.learn import draw
    from textune.app.session import guard_page

    with guard_page():
        draw()


@pytest.fixture
def app(finished: Run, work: Path) -> Iterator[AppTest]:
    set_options(AppOptions())
    shutil.copytree(finished.folder, work / "runs" / "first")
    app = AppTest.from_function(draw_page, default_timeout=60)
    app.session_state["learn tokenizer"] = str(Path("runs/first"))
    app.run()
    assert not app.exception and not app.error
    yield app
    set_options(AppOptions())


def choose(app: AppTest, topic: str) -> AppTest:
    app.segmented_control(key="learn topic").set_value(topic).run()
    assert not app.exception and not app.error
    return app


def list_html(app: AppTest) -> list[str]:
    return [element.proto.body for element in app.get("html")]


def test_the_steps_of_a_text_are_shown(app: AppTest) -> None:
    assert app.text_input(key="learn text").value == "I heart Generative AI"
    assert len(list_html(app)) == 4 and "input_ids" in app.code[0].value
    app.text_input(key="learn text").set_value("<script>alert(1)</script> **b**").run()
    assert not app.exception and not any("<script" in body for body in list_html(app))
    app.text_input(key="learn text").set_value("  ").run()
    assert "Type a text" in app.info[0].value
    app.text_input(key="learn text").set_value("word " * 2_000).run()
    assert not app.exception and "2,000 characters" in app.warning[0].value


@pytest.mark.parametrize("text", ["\u200b", "\u2060\u200b ", "\ufeff", "\ufffd", "\u0301"])
def test_a_text_of_which_nothing_is_left_is_no_error(text: str, app: AppTest) -> None:
    app.text_input(key="learn text").set_value(text).run()
    assert not app.exception and not app.error, [error.value for error in app.error]
    assert app.info if not holds_text(text) else len(list_html(app)) == 4


def test_a_list_without_chips_says_so() -> None:
    assert "(nothing)" in write_chips([])


def test_the_default_tokenizer_needs_no_run(work: Path) -> None:
    app = AppTest.from_function(draw_page, default_timeout=60).run()
    assert not app.exception and not app.error
    assert "[CLS]" in list_html(app)[2] and "hearts" not in list_html(app)[2]


def test_lora_saves_what_the_page_says(app: AppTest) -> None:
    choose(app, "LoRA")
    assert [metric.value for metric in app.metric] == ["589,824", "6,144", "1.04%"]
    app.slider(key="learn rank").set_value(64).run()
    app.slider(key="learn rows").set_value(64)
    app.slider(key="learn columns").set_value(64).run()
    assert not app.exception and "nothing is saved" in app.caption[0].value


def test_every_method_of_the_registry_is_shown(app: AppTest) -> None:
    choose(app, "Methods")
    labels = [expander.label.replace("\\", "") for expander in app.expander]
    assert len(labels) == len(methods.names())
    assert all(any(label.startswith(f"**{name}** ") for label in labels) for name in methods.names())


def test_every_baseline_is_explained(app: AppTest) -> None:
    choose(app, "Baselines")
    shown = [element.value.replace("\\", "") for element in app.markdown]
    for name in default_task(reads_sets=False).model_names.values():
        assert f"**{name}**" in shown


# ---- the logic --------------------------------------------------------------------------------------------------


@given(strategies.integers(1, 300), strategies.integers(1, 300), strategies.integers(1, 40))
@settings(max_examples=30)
def test_a_picture_has_the_rank_of_the_update(rows: int, columns: int, rank: int) -> None:
    update = Update(rows, columns, rank)
    tall, wide, product = draw_matrices(update)
    assert update.trained == rank * rows + rank * columns and update.full == rows * columns
    assert product.shape == (min(rows, MOST_CELLS), min(columns, MOST_CELLS))
    np.testing.assert_allclose(tall @ wide, product)
    assert np.linalg.matrix_rank(product) <= min(rank, *product.shape)
    cells = list_cells(product)
    assert len(cells) == product.size and max(abs(cell["value"]) for cell in cells) == pytest.approx(1)


TEXTS = ["I heart Generative AI", "good", "the film was good and " * 9, "", "été 😀 <b>", "\x00"]


@pytest.mark.parametrize("family", ["distilbert", "roberta"])
@pytest.mark.parametrize("length", [2, 5, 12, 64])
def test_steps_are_what_the_model_gets(family: str, length: int, backbones: dict[str, Path]) -> None:
    from textune.tokens import encode_texts, load_tokenizer

    tokenizer, other = load_tokenizer(backbones[family]), load_tokenizer(backbones[family])
    for text in filter(str.strip, TEXTS):
        steps = follow_text(tokenizer, text, length, ("[PAD]", 0))
        assert len(steps.row) == length == len(steps.mask) and sum(steps.mask) == length - steps.padding
        read = [token.id for token, seen in zip(steps.row, steps.mask, strict=True) if seen]
        if length > 2:
            assert read == encode_texts(other, [text], None, length).ids.tolist()
        assert steps.cut == max(len(steps.tokens) - length, 0)


def test_a_tokenizer_is_opened_once(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first: Any = open_tokenizer(str(finished.folder))
    assert open_tokenizer(str(finished.folder))[0] is first[0]
    assert first[1] == ("[PAD]", 0)
