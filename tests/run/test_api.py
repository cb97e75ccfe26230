"""The Python door: `train` takes what people pass, and a run says in a few lines what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import textune
from textune.config.aliases import AliasNote
from textune.errors import ConfigError, DataError
from textune.progress import Silent
from textune.run import Run
from textune.run.api import _name_columns
from tiny import FAST, make_rows, settings_for

TEXTS, LABELS = (list(column) for column in zip(*make_rows(40), strict=True))
SERIES = pd.Series(TEXTS, index=range(len(TEXTS), 0, -1))


@pytest.mark.parametrize("texts", [TEXTS, tuple(TEXTS), SERIES, pl.Series(TEXTS), SERIES.to_numpy()], ids=type)
@pytest.mark.parametrize(
    "labels", [LABELS, pd.Series(LABELS, index=range(len(LABELS), 0, -1)), pl.Series(LABELS)], ids=type
)
def test_texts_and_labels_become_a_table_in_their_order(texts: Any, labels: Any) -> None:
    rows, columns = _name_columns(texts, labels, None)
    assert [(row["text"], row["label"]) for row in rows] == list(zip(TEXTS, LABELS, strict=True))
    assert columns == {"text": "text", "label": "label"}


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": TEXTS, "b": LABELS}),
        pl.DataFrame({"a": TEXTS, "b": LABELS}),
        [{"a": t, "b": x} for t, x in zip(TEXTS, LABELS, strict=True)],
        "table.csv",
    ],
    ids=type,
)
def test_columns_by_position(table: Any) -> None:
    assert _name_columns(table, "a", "b") == (table, {"text": "a", "label": "b"}) or table is not None
    assert _name_columns(table, "a", "b")[1] == {"text": "a", "label": "b"}
    assert _name_columns(table, None, None)[1] == {}


def test_texts_without_a_label_each_are_refused() -> None:
    with pytest.raises(DataError, match="40 texts and 39 labels"):
        textune.train(TEXTS, LABELS[:-1])
    for labels in (None, "label"):
        with pytest.raises(DataError, match="without labels"):
            textune.train(TEXTS, labels)


def test_training_on_a_frame_and_on_lists_gives_the_same_run(work: Path, backbone: Path) -> None:
    settings = FAST | {"backbone": str(backbone), "progress": Silent()}
    one = textune.train(
        pd.DataFrame({"review": TEXTS, "sentiment": LABELS}), "review", "sentiment", name="a", **settings
    )
    two = textune.train(TEXTS, LABELS, name="b", **settings)
    assert one.load().predict_proba(TEXTS[:5]).tolist() == two.load().predict_proba(TEXTS[:5]).tolist()
    assert repr(one) == "Run('runs/a')"
    lines = str(one).splitlines()
    assert len(lines) == 4 and lines[0].startswith("runs/a: lora on") and "95% interval" in lines[1]
    assert lines[2] == "labels: negative, positive" and lines[3] == "report: runs/a/evaluation/report.html"


def test_packages_of_the_name_of_a_function_can_be_called(finished: Run, reviews: Path, backbone: Path) -> None:
    import textune.compare
    import textune.plan

    with pytest.raises(ConfigError, match="only one run"):
        textune.compare(str(reviews), backbone=str(backbone))  # type: ignore[operator]
    with pytest.raises(ConfigError, match="take no settings"):
        textune.compare(finished, finished.folder, epochs=3)  # type: ignore[operator]
    with pytest.raises(ConfigError, match="a table on the disk"):
        textune.plan(pd.DataFrame({"a": TEXTS}))  # type: ignore[operator]


def test_texts_may_come_one_by_one(backbone: Path, tmp_path: Path) -> None:
    texts, labels = zip(*make_rows(40), strict=True)
    settings = settings_for("unused", backbone, tmp_path / "run", method="head", epochs=None)
    run = textune.train(map(str.strip, texts), labels, **{k: v for k, v in settings.items() if k != "data"})
    assert run.manifest.task == "single_label"


@pytest.mark.parametrize(
    "texts",
    [pd.DataFrame({"review": TEXTS}), pl.DataFrame({"review": TEXTS}), pd.DataFrame({"review": TEXTS}).to_numpy(),
     pl.DataFrame({"review": TEXTS}).to_arrow(), pl.Series(TEXTS).to_arrow()],
    ids=type,
)  # fmt: skip
@pytest.mark.parametrize("labels", [pd.Series(LABELS), pd.DataFrame({"y": LABELS}), pl.Series(LABELS)], ids=type)
def test_a_table_of_one_column_holds_texts(texts: Any, labels: Any) -> None:
    rows, columns = _name_columns(texts, labels, None)
    assert [(row["text"], row["label"]) for row in rows] == list(zip(TEXTS, LABELS, strict=True))
    assert columns == {"text": "text", "label": "label"}


def test_labels_of_a_table_of_one_column_may_be_a_list() -> None:
    rows, _ = _name_columns(pd.DataFrame({"review": TEXTS}), LABELS, None)
    assert [row["label"] for row in rows] == LABELS
    frame = pd.DataFrame({"a": TEXTS, "b": LABELS})
    assert _name_columns(frame, ["a", "b"], None)[0] is frame


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_texts_are_passed_over(missing: Any) -> None:
    rows, _ = _name_columns([missing, *TEXTS[1:]], LABELS, None)
    assert rows[0] == {"text": None, "label": LABELS[0]} and rows[1]["text"] == TEXTS[1]


@pytest.mark.parametrize("pair", [("a film", "positive"), ["a film", "positive"]])
def test_a_list_of_pairs_names_what_to_give(pair: Any) -> None:
    for labels in (None, LABELS[:4]):
        with pytest.raises(DataError, match=f"given as a {type(pair).__name__}") as caught:
            textune.train([pair] * 4, labels)
        assert "train(texts, labels)" in (caught.value.hint or "")


def test_data_where_a_name_belongs_are_refused_in_one_line() -> None:
    frame = pd.DataFrame({"text": TEXTS, "label": LABELS})
    for settings in ({"text": frame["text"]}, {"group": frame["label"]}, {"fixes": frame}):
        name = next(iter(settings))
        with pytest.raises(ConfigError, match=rf"^{name}=<(Series|DataFrame)>: must be") as caught:
            textune.train(frame, **settings)
        assert "\n" not in caught.value.message


def test_a_frame_under_another_tools_name_is_a_table(work: Path, backbone: Path) -> None:
    table = pd.DataFrame({"text": TEXTS, "label": LABELS})
    rest = FAST | {"backbone": str(backbone), "progress": Silent(), "method": "head", "epochs": None}
    with pytest.warns(AliasNote, match="test_file= is read as test=$"):
        run = textune.train(table[:30], test_file=table[30:], name="a", **rest)
    assert run.metrics["models"]["tuned"]["rows"] == 10
