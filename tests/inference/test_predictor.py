"""Predicting: texts, pairs, files, standard input, a terminal; and the forms that other tools load."""

from __future__ import annotations

import csv
import gzip
import json
import os
import pty
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubs import Hub
from textune.bundle import read_manifest
from textune.errors import BundleError, ConfigError, DataError, ModelError
from textune.evaluation import softmax
from textune.export.merged import export_merged, push_folder
from textune.inference import Predictor
from textune.inference import files as filing
from textune.inference.files import FileForm, predict_file
from textune.run import Run
from textune.run.save import update_manifest
from tiny import BAD, GOOD, NEUTRAL, call_textune, make_rows, settings_for, train_tiny

WORDS = (*GOOD, *BAD, *NEUTRAL, "unheardof", "=1+1", "é", "漢字")
TEXTS = ["a good film", "the dull story was bad and its scene very slow with the music", "fine"]


@pytest.fixture(scope="module")
def predictor(finished: Run) -> Predictor:
    return finished.load(precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def pairs_run(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Run:
    """A run on pairs of texts, of a backbone that marks the second text."""
    place = tmp_path_factory.mktemp("pairs")
    with (place / "pairs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("first", "second", "label"))
        for i, (text, _) in enumerate(make_rows(40)):
            writer.writerow((text, f"{GOOD[i % 8]} scene {i}", "yes" if i % 3 else "no"))
    return train_tiny(place / "pairs.csv", backbones["bert"], place / "run", text="first", text_pair="second")


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=25).map(" ".join), min_size=1, max_size=9))
@settings(max_examples=25, deadline=None)
def test_a_batch_equals_its_texts_alone(predictor: Predictor, texts: list[str]) -> None:
    together = predictor.predict_logits(texts)
    alone = np.concatenate([predictor.predict_logits([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_probabilities_labels_and_classify_agree(predictor: Predictor) -> None:
    probabilities = predictor.predict_proba(TEXTS)
    assert probabilities.shape == (3, 2) and probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-12)
    assert predictor.predict(TEXTS) == [predictor.labels[i] for i in probabilities.argmax(1)]
    for told, row in zip(predictor.classify(TEXTS), probabilities, strict=True):
        assert list(told.probabilities) == ["negative", "positive"]
        assert told.probability == max(told.probabilities.values()) == row.max()
        assert told.label == max(told.probabilities, key=lambda label: told.probabilities[label])
    assert predictor.predict_proba([]).shape == (0, 2) and predictor.predict([]) == []


def test_it_has_learnt(predictor: Predictor, finished: Run) -> None:
    texts, labels = zip(*make_rows(60), strict=True)
    assert np.mean([a == b for a, b in zip(predictor.predict(texts), labels, strict=True)]) > 0.7
    assert finished.predict(TEXTS) == predictor.predict(TEXTS)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [(["a", " "], "text 2 is empty"), (["a", None], "text 2 is missing"),
     (["a", 3], "text 2 is of type int"), (["ok", "\ud800"], "text 2: contains a lone surrogate"),
     (["ok"] * 10_000 + ["\ud800"], "text 10001: contains a lone surrogate")],
)  # fmt: skip
def test_what_is_no_text_is_named(texts: Any, reason: str, predictor: Predictor) -> None:
    with pytest.raises(DataError, match=reason):
        predictor.predict(texts)


def test_pairs_are_read_as_pairs(pairs_run: Run) -> None:
    predictor = pairs_run.load(precision="fp32")
    first, second = ["a good film", "dull"], ["the story", "a very slow scene with its actors"]
    logits = predictor.predict_logits(first, second)
    assert np.abs(logits - predictor.predict_logits(second, first)).max() > 1e-6
    alone = np.concatenate([predictor.predict_logits([a], [b]) for a, b in zip(first, second, strict=True)])
    np.testing.assert_allclose(logits, alone, atol=1e-5)
    with pytest.raises(DataError, match="second texts are missing"):
        predictor.predict(first)
    with pytest.raises(DataError, match="text 2: contains a lone surrogate"):
        predictor.predict_proba(first, ["fine", "\ud800"])


def make_table(path: Path) -> pl.DataFrame:
    """Write rows with odd cells: formulas, commas, quotes, empty texts, a column that is called label."""
    frame = pl.DataFrame(
        {
            "id": ["001", "1.0", "NA", "-5", "x"],
            "text": ["a good film", '=HYPERLINK("http://x")', None, 'the dull, "slow" story', "  "],
            "label": ["+cmd", "@x", "a", "b", None],
        },
        schema=dict.fromkeys(("id", "text", "label"), pl.String),
    )
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return frame


def read_back(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))
    return [{k: v or None for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("target", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
def test_file_keeps_its_columns_and_rows(source: str, target: str, predictor: Predictor, tmp_path: Path) -> None:
    frame = make_table(tmp_path / f"in{source}")
    done = predict_file(
        predictor, tmp_path / f"in{source}", tmp_path / f"out{target}", form=FileForm(["text"], None, True, True)
    )
    rows = read_back(tmp_path / f"out{target}")
    added = ("predicted_label", "probability", "probability_negative", "probability_positive")
    assert done.columns_added == added and list(rows[0]) == ["id", "text", "label", *added]
    assert (done.rows, done.without_text, sum(done.label_counts.values())) == (5, 2, 3)
    for name in ("id", "label"):
        assert [row[name] for row in rows] == frame[name].to_list(), "cells are kept to the letter"
    assert [row["text"] for row in rows][:4] == frame["text"].to_list()[:4]
    assert [row["predicted_label"] is None for row in rows] == [False, False, True, False, True]
    texts = [t for t in frame["text"].to_list() if t and t.strip()]
    expected = predictor.predict_proba(texts)
    found = [[float(row[f"probability_{n}"]) for n in predictor.labels] for row in rows if row["predicted_label"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [row["probability"] for row in rows if row["predicted_label"] is None] == [None, None]


def test_formulas_are_escaped_in_csv_only(predictor: Predictor, tmp_path: Path) -> None:
    make_table(tmp_path / "in.csv")
    done = predict_file(predictor, tmp_path / "in.csv", tmp_path / "out.csv", form=FileForm(["text"]))
    rows = read_back(tmp_path / "out.csv")
    assert done.escaped_cells == 3
    assert rows[1]["text"] == '\'=HYPERLINK("http://x")'
    assert [rows[0]["label"], rows[1]["label"]] == ["'+cmd", "'@x"]
    assert rows[3]["id"] == "-5", "a number is no formula"
    for name in ("out.jsonl", "out.parquet"):
        assert predict_file(predictor, tmp_path / "in.csv", tmp_path / name, form=FileForm(["text"])).escaped_cells == 0
        assert read_back(tmp_path / name)[1]["text"] == '=HYPERLINK("http://x")'


def test_streamed_pieces_equal_the_whole(
    predictor: Predictor, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    whole = predict_file(predictor, reviews, tmp_path / "whole.csv", advance=counted.append)
    monkeypatch.setattr(filing, "_ROWS_PER_PIECE", 7)
    pieces = predict_file(predictor, reviews, tmp_path / "pieces.csv", advance=counted.append)
    assert counted == [60, 7, 7, 7, 7, 7, 7, 7, 7, 4]
    assert (whole.rows, whole.label_counts) == (pieces.rows, pieces.label_counts)
    first, second = read_back(tmp_path / "whole.csv"), read_back(tmp_path / "pieces.csv")
    for a, b in zip(first, second, strict=True):
        assert float(a.pop("probability") or 0) == pytest.approx(float(b.pop("probability") or 0), abs=1e-5)
        assert a == b


def test_output_is_whole_or_absent(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filing, "_ROWS_PER_PIECE", 2)
    path = tmp_path / "in.csv"
    path.write_text("text,label\ngood,a\nbad,b\nfine,a\ndull,b,too many cells\n")
    for ending in filing.list_writable():
        with pytest.raises(DataError, match=r"in\.csv"):
            predict_file(predictor, path, tmp_path / f"out{ending}")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv"]
    with pytest.raises(ConfigError, match=r"cannot write '\.ods'"):
        predict_file(predictor, path, tmp_path / "out.ods")
    with pytest.raises(ConfigError, match="folder does not exist"):
        predict_file(predictor, path, tmp_path / "no" / "out.csv")


def test_file_of_pairs(pairs_run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("second,first\nthe story,a good film\n,dull\nslow,\n")
    done = predict_file(pairs_run.load(precision="fp32"), path, tmp_path / "out.csv")
    assert (done.rows, done.without_text) == (3, 2)
    expected = pairs_run.load(precision="fp32").predict_proba(["a good film"], ["the story"]).max()
    assert float(read_back(tmp_path / "out.csv")[0]["probability"]) == pytest.approx(expected, abs=1e-5)


def test_standard_input_is_read_line_by_line(finished: Run, work: Path) -> None:
    command = call_textune("predict", str(finished.folder), "-", "--json", cwd=work, stdin="a good film\n\r\n\nbad\r\n")
    assert [p["text"] for p in json.loads(command.stdout)["predictions"]] == ["a good film", "", "", "bad"]
    empty = call_textune("predict", str(finished.folder), cwd=work, stdin="", code=3)
    assert "standard input contains no text" in empty.stderr


def test_typed_texts_are_answered_one_by_one(finished: Run, work: Path) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"a good film\nbad and dull\n\n")
    command = call_textune("predict", str(finished.folder), cwd=work, terminal=os.ttyname(theirs))
    answers = [line.removeprefix("> ") for line in command.stdout.splitlines() if "%" in line]
    assert len(answers) == 2 and all(a.split()[0] in ("negative", "positive") for a in answers)
    os.close(ours)
    os.close(theirs)


COMMANDS: list[tuple[str, ...]] = [
    ("methods",), ("backbones",), ("doctor",), ("cache",), ("tokens", "a good film", "backbone={backbone}"),
    ("inspect", "{reviews}", "backbone={backbone}"), ("inspect", "{run}"), ("train", "{settings}"), ("resume", "{run}"),
    ("evaluate", "{run}", "{reviews}"), ("report", "{run}"), ("predict", "{run}", "a good film", "bad"),
    ("predict", "{run}", "{reviews}", "--output", "{work}/out.csv"), ("export", "{run}", "--output", "{work}/merged"),
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(w for w in words if w.isalpha()))
def test_json_is_one_object_on_standard_output(
    words: tuple[str, ...], finished: Run, reviews: Path, backbone: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder, tmp_path / "run")
    places = {"run": tmp_path / "run", "reviews": reviews, "backbone": backbone, "work": tmp_path}
    filled = [word.format(**places, settings="{settings}") for word in words]
    if "{settings}" in filled:
        made = settings_for(reviews, backbone, tmp_path / "new")
        filled[1:] = [f"{key}={value}" for key, value in made.items()]
    command = call_textune(*filled, "--json", cwd=tmp_path)
    told = json.loads(command.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert isinstance(told, dict) and told and command.stdout.count("\n") == 1


def test_merged_model_gives_equal_scores_in_a_pipeline(finished: Run, tmp_path: Path) -> None:
    import transformers

    shutil.copytree(finished.folder, tmp_path / "run")
    update_manifest(tmp_path / "run", temperature=2.5)
    folder = export_merged(tmp_path / "run", tmp_path / "merged")
    assert not [p for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    classify = transformers.pipeline("text-classification", str(folder), device="cpu", top_k=None)
    expected = Predictor.load(tmp_path / "run", precision="fp32").predict_proba(TEXTS)
    assert abs(expected - finished.load(precision="fp32").predict_proba(TEXTS)).max() > 0.01, "no temperature seen"
    for told, row in zip(classify(TEXTS, batch_size=3), expected, strict=True):
        assert {t["label"]: t["score"] for t in told} == pytest.approx(
            dict(zip(("negative", "positive"), row, strict=True)), abs=1e-5
        )
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "single_label_classification"
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 32
    assert str(tmp_path) not in (folder / "config.json").read_text()
    with pytest.raises(BundleError, match="already exists"):
        export_merged(tmp_path / "run", folder)


def test_export_overwrites_no_folder_of_other_things(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="was not exported by textune"):
        export_merged(finished.folder, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


class CheckingHub(Hub):
    """Checks that what is published is a whole bundle with the right hashes."""

    def upload_folder(self, *, folder_path: str, **more: Any) -> None:
        read_manifest(folder_path)
        super().upload_folder(folder_path=folder_path, **more)


def test_push_publishes_the_bundle_and_no_text(finished: Run) -> None:
    hub = CheckingHub()
    assert push_folder(finished.folder, "me/reviews", api=hub) == "https://hub/me/reviews"
    assert hub.private is True
    assert set(finished.manifest.files) | {"textune.json", "README.md"} == set(hub.files)
    texts = [text for text, _ in make_rows(60)]
    for name, content in hub.files.items():
        assert str(finished.folder.parent).encode() not in content, f"{name} holds a path of this machine"
        assert not [text for text in texts if text.encode() in content], f"{name} holds texts of the data"


def test_push_of_a_damaged_bundle_or_by_a_failing_hub_is_an_error(finished: Run, tmp_path: Path) -> None:
    class Failing(Hub):
        def create_repo(self, *args: Any, **kwargs: Any) -> str:
            raise RuntimeError("some fault\nlong story")

    with pytest.raises(ModelError, match=r"me/x: could not be published: some fault$"):
        push_folder(finished.folder, "me/x", api=Failing())
    with pytest.raises(BundleError, match="neither a finished run nor a model that textune exported"):
        push_folder(tmp_path, "me/x", api=Hub())


def test_softmax_of_large_logits_is_finite() -> None:
    np.testing.assert_allclose(softmax(np.asarray([[1e4, 0.0], [-1e4, -1e4]])), [[1, 0], [0.5, 0.5]])


def test_whatever_can_be_read_is_taken_for_a_file(finished: Run, work: Path) -> None:
    rows = "text,label\na good film,x\na dull story,y\n"
    (work / "plain.csv").write_text(rows)
    (work / "packed.csv.gz").write_bytes(gzip.compress(rows.encode()))
    (work / "notes.txt").write_text("text\na good film\na dull story\n")
    for name, target in (
        ("plain.csv", "plain.predicted.csv"),
        ("packed.csv.gz", "packed.predicted.csv"),
        ("notes.txt", "notes.predicted.csv"),
    ):
        call_textune("predict", str(finished.folder), name, cwd=work)
        assert (work / target).read_text().count("\n") == 3
    missing = call_textune("predict", str(finished.folder), "nowhere.ods", cwd=work, code=3)
    assert "nowhere.ods: no such file" in missing.stderr
    assert "see notes.txt" in call_textune("predict", str(finished.folder), "see notes.txt", cwd=work).stdout
