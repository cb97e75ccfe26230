"""Whatever holds texts becomes a list in its own order, or is refused with what to give instead."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from textune.errors import DataError
from textune.inference.texts import list_pairs, list_texts

TEXTS = ["one film", "two films", "three films"]
SHUFFLED = pd.Series(TEXTS, index=[2, 0, 1])


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        tuple(TEXTS),
        deque(TEXTS),
        iter(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        SHUFFLED,
        pd.Index(TEXTS),
        pd.Series(TEXTS, index=["a", "b", "c"], dtype="string"),
        pd.Categorical(TEXTS),
        pl.Series(TEXTS),
        pa.array(TEXTS),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
    ],
    ids=lambda given: f"{type(given).__module__}.{type(given).__name__}",
)
def test_the_order_is_kept(given: Any) -> None:
    texts = list_texts(given)
    assert texts == TEXTS and all(type(text) is str for text in texts)


def test_one_string_is_one_text() -> None:
    assert list_texts("one film") == ["one film"] == list_texts(np.array("one film"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"bytes", "bytes"),
        ({"text": TEXTS}, "as a dict"),
        (pd.DataFrame({"review": TEXTS}), "columns review"),
        (pl.DataFrame({"review": TEXTS}), "columns review"),
        (pa.table({"review": TEXTS}), "columns"),
        (np.array([TEXTS, TEXTS]), r"shape \(2, 3\)"),
        (3, "as a int"),
        (None, "NoneType"),
        (["one", None], "text 2 is missing"),
        (["one", float("nan")], "text 2 is missing"),
        (["one", pd.NA], "text 2 is missing"),
        (["one", 2], "text 2 is of type int"),
        (["one", "  "], "text 2 is empty"),
        (["one", "\u200b"], "text 2 is empty"),
        (["one", "\u200d\u00ad"], "text 2 is empty"),
        (["one", "\x07"], "text 2 is empty"),
        ([["one"]], "text 1 is of type list"),
    ],
)
def test_what_holds_no_texts_is_refused(given: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list_texts(given)


def test_pairs_are_as_many_as_texts() -> None:
    assert list_pairs(TEXTS, None) is None
    assert list_pairs(TEXTS, SHUFFLED) == TEXTS
    with pytest.raises(DataError, match="3 texts and 2 second texts"):
        list_pairs(TEXTS, TEXTS[:2])
    with pytest.raises(DataError, match="second text 1 is empty"):
        list_pairs(["one"], [""])
