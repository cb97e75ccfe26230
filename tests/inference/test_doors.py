"""Every door takes the same texts, in whatever holds them, and gives the same answers; or says what to pass instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import textune
from textune.errors import DataError
from textune.run import Run
from textune.sklearn import TextClassifier
from tiny import make_rows, train_tiny, write_reviews

TEXTS = ["a good film", "the film was dull and slow", "lovely music", "awful actors"]
LABELS = ["positive", "negative", "positive", "negative"]
SECONDS = ["the story", "a scene", "its actors", "the music"]
ODD_INDEX = [3, 0, 7, 1]

HOLDERS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda values: (value for value in values),
    "keys": lambda values: dict.fromkeys(values).keys(),
    "object array": lambda values: np.array(values, dtype=object),
    "string array": np.array,
    "series": pd.Series,
    "shuffled series": lambda values: pd.Series(values, index=ODD_INDEX),
    "named series": lambda values: pd.Series(values, index=list("dabc"), dtype="string"),
    "repeated index": lambda values: pd.Series(values, index=[0, 0, 1, 1]),
    "index": pd.Index,
    "polars": pl.Series,
    "arrow": pa.array,
}
REFUSED: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "bytes": (lambda values: values[0].encode(), r"bytes.*\n.*decode"),
    "list of bytes": (lambda values: [value.encode() for value in values], "text 1 is of type bytes.*\n.*decode"),
    "dict of columns": (lambda values: {"text": values}, "as a dict.*\n.*list"),
    "several columns": (lambda values: pd.DataFrame({"text": values, "n": 1}), r"columns text, n.*\n.*table\['text'\]"),
    "other column": (lambda values: pd.DataFrame({"b": values, "n": 1}), r"columns b, n.*\n.*table\['b'\]"),
    "polars table": (lambda values: pl.DataFrame({"b": values, "n": values}), r"columns b, n.*\n.*table\['b'\]"),
    "arrow table": (lambda values: pa.table({"b": values, "n": values}), r"columns b, n.*\n.*table\['b'\]"),
    "array of two columns": (lambda values: np.array([values, values]).T, r"shape \(4, 2\).*\n.*one column"),
    "cube": (lambda values: np.array([[values]]), r"shape \(1, 1, 4\)"),
    "set": (set, "a set.*\n.*list"),
    "number": (len, "as a int.*\n.*list"),
    "None": (lambda values: None, "NoneType.*\n.*list"),
    "with None": (lambda values: [*values[:2], None], "text 3 is missing.*\n.*leave out"),
    "with NaN": (lambda values: pd.Series([*values[:2], np.nan], index=[5, 1, 0]), "text 3 is missing.*\n.*leave out"),
    "with null": (lambda values: pl.Series([*values[:2], None]), "text 3 is missing"),
    "with blank": (lambda values: [*values[:2], "  "], "text 3 is empty"),
    "with number": (lambda values: [*values[:2], 4], "text 3 is of type int, not str.*\n.*str"),
    "list of lists": (lambda values: [[value] for value in values], "text 1 is of type list.*\n.*two lists"),
    "list of pairs": (lambda values: list(zip(values, SECONDS, strict=True)), "text 1 is of type tuple.*\n.*two lists"),
    "rows": (lambda values: [{"text": value} for value in values], r"text 1 is of type dict.*\n.*row\['text'\]"),
}
DOORS = ("predict", "predict_proba", "predict_logits", "classify", "encode")
ESTIMATOR_DOORS = ("predict", "predict_proba", "score")


@pytest.fixture(scope="module")
def pairs_run(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Run:
    place = tmp_path_factory.mktemp("pairs")
    data = write_reviews(place / "reviews.csv", rows=40)
    return train_tiny(data, backbone, place / "run", text="text", text_pair="number", label="label")


@pytest.fixture(scope="module")
def estimator(backbone: Path) -> TextClassifier:
    more = {"device": "cpu", "precision": "fp32", "threads": 1, "contrast_steps": 0}
    model = TextClassifier(backbone=str(backbone), epochs=1, batch_size=8, validation_fraction=0.2, settings=more)
    return model.fit(*zip(*make_rows(40), strict=True))


@pytest.fixture(scope="module")
def predictor(finished: Run) -> Any:
    return finished.load(precision="fp32")


@pytest.fixture(autouse=True)
def _seen_rows_are_no_matter_here() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def as_plain(answer: Any) -> Any:
    if isinstance(answer, str) or hasattr(answer, "label"):
        return answer
    if hasattr(answer, "lengths"):
        return answer.lengths.tolist()
    return np.round(answer, 6).tolist() if isinstance(answer, np.ndarray) and answer.dtype.kind == "f" else list(answer)


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_answers_in_the_order_of_the_texts(door: str, holder: str, predictor: Any) -> None:
    call = getattr(predictor, door)
    assert as_plain(call(HOLDERS[holder](TEXTS))) == as_plain(call(TEXTS))


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_says_what_to_pass(door: str, kind: str, predictor: Any) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(DataError, match=words):
        getattr(predictor, door)(make(TEXTS))


def test_one_pair_is_one_answer(finished: Run, pairs_run: Run, predictor: Any) -> None:
    assert finished.predict("a good film") == predictor.predict("a good film")
    assert finished.predict(np.str_("a good film")) == predictor.predict("a good film")
    model = pairs_run.load(precision="fp32")
    assert model.predict("a good film", "3") == model.predict(["a good film"], ["3"])[0]
    assert model.predict_proba("a good film", "3").shape == (2,) and isinstance(model.predict(["a"], "3"), list)
    with pytest.raises(DataError, match="1 texts and 2 second texts"):
        model.predict("a good film", ["3", "4"])


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_finished_run_is_such_a_door(holder: str, finished: Run, pairs_run: Run) -> None:
    if holder in ("list", "shuffled series"):  # it loads the model each time
        assert finished.predict(HOLDERS[holder](TEXTS)) == finished.predict(TEXTS)
    with pytest.raises(DataError, match="text 1 is missing"):
        finished.predict([None])  # type: ignore[list-item]


def test_one_string_is_one_text_at_every_door(predictor: Any, estimator: TextClassifier) -> None:
    for door in DOORS:
        call = getattr(predictor, door)
        one, listed = call("a good film"), call(["a good film"])
        assert as_plain(listed if door == "encode" else listed[0]) == as_plain(one), door
        assert door == "encode" or len(listed) == 1
    assert isinstance(predictor.predict("a good film"), str)
    assert predictor.predict_proba("a good film").shape == predictor.predict_logits("a good film").shape == (2,)
    assert predictor.classify("a good film").label == predictor.predict("a good film")
    assert estimator.predict("a good film").shape == (1,)  # type: ignore[arg-type]


@pytest.mark.parametrize("holder", HOLDERS)
def test_pairs_are_matched_by_position(holder: str, pairs_run: Run, predictor: Any) -> None:
    model, make = pairs_run.load(precision="fp32"), HOLDERS[holder]
    expected = model.predict_proba(TEXTS, SECONDS)
    np.testing.assert_allclose(model.predict_proba(make(TEXTS), make(SECONDS)), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(TEXTS, make(SECONDS)), expected, atol=1e-6)
    for first, second, words in (
        (TEXTS, SECONDS[:3], "4 texts and 3 second texts"),
        (TEXTS[:2], make(SECONDS), "2 texts and 4 second texts"),
        (TEXTS, None, "the second texts are missing"),
        (list(zip(TEXTS, SECONDS, strict=True)), None, "text 1 is of type tuple"),
        (TEXTS, "the story", "4 texts and 1 second texts"),
        (TEXTS, [*SECONDS[:3], None], "second text 4 is missing"),
        (TEXTS, {"b": SECONDS}, "second texts are given as a dict"),
    ):
        if holder in ("list", "generator", "polars"):
            with pytest.raises(DataError, match=words):
                model.predict_proba(first, second)
    with pytest.raises(DataError, match="classifies single texts, but second texts are given"):
        predictor.predict(TEXTS, make(SECONDS))


COLUMNS: dict[str, Callable[[list[Any]], Any]] = {
    "table of one column": lambda values: pd.DataFrame({"x": values}, index=ODD_INDEX),
    "polars table of one column": lambda values: pl.DataFrame({"x": values}),
    "array of one column": lambda values: np.array(values, dtype=object)[:, None],
}


@pytest.mark.parametrize("door", ESTIMATOR_DOORS)
@pytest.mark.parametrize("holder", [*HOLDERS, *COLUMNS])
def test_the_estimator_answers_in_the_order_of_the_texts(holder: str, door: str, estimator: TextClassifier) -> None:
    make = (HOLDERS | COLUMNS)[holder]
    if door == "score":
        labels = ["positive", "negative"] * 2
        shuffled = pd.Series(labels, index=ODD_INDEX)
        for given in (labels, shuffled, iter(labels), np.array(labels), pl.Series(labels), shuffled.to_frame()):
            assert estimator.score(make(TEXTS), given) == estimator.score(TEXTS, labels)
        return
    call = getattr(estimator, door)
    assert as_plain(call(make(TEXTS))) == as_plain(call(TEXTS))


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("door", [*ESTIMATOR_DOORS, "fit"])
def test_the_estimator_says_what_to_pass(kind: str, door: str, estimator: TextClassifier) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(ValueError, match=f"X: .*{words}"):
        getattr(estimator, door)(make(TEXTS), *([LABELS] if door in ("score", "fit") else []))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS[:3], "X has 4 texts, y has 3 labels"),
        ("abcd", "labels are given as a str"),
        ({"y": LABELS}, "labels are given as a dict"),
        (None, "labels are given as a NoneType"),
        (3, "labels are given as a int"),
        (set(LABELS), "labels are given as a set"),
        ([*LABELS[:3], None], "label 4 is missing"),
        (pd.DataFrame({"y": [*LABELS[:3], None]}), "label 4 is missing"),
        (pl.Series([*LABELS[:3], None]), "label 4 is missing"),
        (np.array([1.0, 0.0, 1.0, np.nan])[:, None], "label 4 is missing"),
        (pd.DataFrame({"y": LABELS, "z": LABELS}), "one label per text"),
        (pl.DataFrame({"y": LABELS, "z": LABELS}), "one label per text"),
        (np.array([LABELS, LABELS]).T, "one label per text"),
        ([[label] for label in LABELS], "one label per text"),
        (np.array([1, "a", 2, "b"], dtype=object), "several types"),
    ],
)
def test_labels_are_one_for_each_text(labels: Any, words: str, estimator: TextClassifier) -> None:
    from sklearn.base import clone

    with pytest.raises(ValueError, match=words):
        clone(estimator).fit(TEXTS, labels)


FRAME = pd.DataFrame({"text": TEXTS, "label": LABELS}, index=ODD_INDEX)
TABLES: dict[str, Callable[[], Any]] = {
    "shuffled index": lambda: FRAME,
    "extra columns": lambda: FRAME.assign(a="a good film", z=1),
    "other order": lambda: FRAME[["label", "text"]],
    "polars": lambda: pl.DataFrame({"text": TEXTS, "label": LABELS}),
    "arrow": lambda: pa.table({"text": TEXTS, "label": LABELS}),
    "rows": lambda: FRAME.to_dict("records"),
    "with missing": lambda: pd.concat([FRAME, pd.DataFrame({"text": [None, "x"], "label": ["positive", np.nan]})]),
}
NO_TABLES: dict[str, tuple[Callable[[], Any], str]] = {
    "without the column": (lambda: FRAME.rename(columns={"text": "review"}), "no column 'text'.*it has 'review'"),
    "without the label": (lambda: FRAME.rename(columns={"label": "y"}), "no column 'label'.*it has 'text', 'y'"),
    "list of texts": (lambda: TEXTS, "cannot read a table from list.*\n.*data frame"),
    "tuple": (lambda: tuple(TEXTS), "cannot read a table from tuple.*\n.*data frame"),
    "generator": (lambda: iter(TEXTS), "cannot read a table from .*\n.*data frame"),
    "array": (lambda: np.array([TEXTS, LABELS]).T, "cannot read a table from ndarray.*\n.*data frame"),
    "series": (lambda: FRAME["text"], "cannot read a table from Series.*\n.*data frame"),
    "polars series": (lambda: pl.Series(TEXTS), "cannot read a table from Series.*\n.*data frame"),
    "dict of columns": (lambda: {"text": TEXTS, "label": LABELS}, "cannot read a table from dict.*\n.*data frame"),
    "bytes": (lambda: b"text,label", "cannot read a table from bytes.*\n.*data frame"),
    "text": (lambda: "a good film", "'a good film' does not exist.*\n.*give a file"),
    "None": (lambda: None, "cannot read a table from NoneType"),
    "empty": (list, "is empty"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_evaluate_reads_the_trained_columns(kind: str, finished: Run, tmp_path: Path) -> None:
    expected = textune.evaluate(finished.folder, FRAME.to_dict("records"), precision="fp32")
    found = finished.evaluate(TABLES[kind](), precision="fp32")
    assert found == expected and found.rows == 4


@pytest.mark.parametrize("kind", NO_TABLES)
def test_evaluate_says_what_to_pass(kind: str, finished: Run) -> None:
    make, words = NO_TABLES[kind]
    with pytest.raises(DataError, match=words):
        finished.evaluate(make())
