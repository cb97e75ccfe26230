"""Fixes: rows found by number and text, labels known, and everything else refused with file and row."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from textune.config import build_config
from textune.data import build_examples, choose_columns, choose_form, read_table
from textune.data.examples import Examples
from textune.data.fixes import REMOVE, FixedRows, apply_fixes, list_removals, make_key, read_fixes, show_label
from textune.errors import DataError
from textune.run.tables import prepare_data

TEXTS = [f"text {i}" for i in range(8)]


def build(labels: list[str], task: str | None = None, pairs: bool = False) -> Examples:
    rows: list[dict[str, Any]] = [{"text": t, "label": x} for t, x in zip(TEXTS, labels, strict=True)]
    if pairs:
        rows = [row | {"other": f"pair {i}"} for i, row in enumerate(rows)]
    table = read_table(rows)
    columns = choose_columns(
        table, text=("text",), text_pair="other" if pairs else None, label=("label",), group=None, joiner=" "
    )
    return build_examples(table, columns, choose_form(table, columns, task, "|"))


def write(path: Path, rows: list[dict[str, Any]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def fix(row: int, label: str, **cells: Any) -> dict[str, Any]:
    return {"row": row, "correct_label": label, "key": make_key(TEXTS[row - 1])} | cells


SINGLE = ["bad", "good"] * 4


@pytest.mark.parametrize("form", ["comma", "semicolon", "tab", "excel", "floats", "text instead of key"])
def test_what_spreadsheets_save_is_read(form: str, tmp_path: Path) -> None:
    rows = [fix(2, "bad"), fix(3, ""), fix(4, " - "), fix(5, "drop"), fix(6, "good ")]
    path, options = tmp_path / "review.csv", {}
    if form in ("semicolon", "tab"):
        options["delimiter"] = {"semicolon": ";", "tab": "\t"}[form]
    if form == "excel":
        options["encoding"] = "utf-8-sig"
    if form == "floats":
        rows = [row | {"row": f"{row['row']}.0"} for row in rows]
    if form == "text instead of key":
        rows = [{k: v for k, v in row.items() if k != "key"} | {"text": TEXTS[row["row"] - 1]} for row in rows]
    fixed, counts = apply_fixes(read_fixes(write(path, rows, **options)), "data", build(SINGLE), ())
    assert counts == FixedRows("review.csv", changed=1, removed=2, confirmed=1)
    assert fixed.labels() == ["bad", "bad", "bad", "good", "bad", "good"]
    assert fixed.rows().tolist() == [1, 2, 3, 6, 7, 8]
    assert counts.describe() == "1 label changed, 2 rows removed, 1 confirmed by review.csv"


def test_pairs_are_known_by_both_texts(tmp_path: Path) -> None:
    examples = build(SINGLE, pairs=True)
    right = fix(1, "good", key=make_key("text 0", "pair 0"))
    fixed, _ = apply_fixes(read_fixes(write(tmp_path / "r.csv", [right])), "data", examples, ())
    assert fixed.labels()[0] == "good"
    with pytest.raises(DataError, match="another text"):
        apply_fixes(read_fixes(write(tmp_path / "r.csv", [fix(1, "good")])), "data", examples, ())


@pytest.mark.parametrize(
    ("filled", "expected"),
    [("a", ("a",)), ("b|a", ("a", "b")), ('["b"]', ("b",)), ("[]", ()), ("a | c", ("a", "c"))],
)
def test_sets_are_written_joined_or_as_lists(filled: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    examples = build(["a|b", "b", "c", "a|c", "b|c", "a", "b", "c"], "multi_label")
    fixed, _ = apply_fixes(read_fixes(write(tmp_path / "r.csv", [fix(2, filled)])), "data", examples, ())
    assert fixed.label_sets()[1] == expected
    shown = show_label(list(expected), examples, ("a", "b", "c"))
    back, _ = apply_fixes(read_fixes(write(tmp_path / "s.csv", [fix(2, shown)])), "data", examples, ())
    assert back.label_sets()[1] == expected


def test_names_mean_their_values_and_labels_win_over_the_word_drop(tmp_path: Path) -> None:
    fixes = read_fixes(write(tmp_path / "r.csv", [fix(1, "good"), fix(2, "1")]))
    fixed, counts = apply_fixes(fixes, "data", build(["0", "1"] * 4), (("0", "bad"), ("1", "good")))
    assert fixed.labels()[:2] == ["1", "1"] and (counts.changed, counts.confirmed) == (1, 1)
    fixes = read_fixes(write(tmp_path / "r.csv", [fix(1, "1"), fix(2, "2"), fix(3, "3")]))
    stars = (("0", "1"), ("1", "2"), ("2", "3"))
    fixed, counts = apply_fixes(fixes, "data", build(["0", "0", "1", "2"] * 2), stars)
    assert fixed.labels()[:3] == ["0", "1", "2"], "a review file shows names, also one that is another class's value"
    assert (counts.confirmed, counts.changed) == (1, 2)
    fixes = read_fixes(write(tmp_path / "r.csv", [fix(1, "drop"), fix(2, "-"), fix(3, "'=up")]))
    fixed, counts = apply_fixes(fixes, "data", build(["keep", "drop", "=up", "keep"] * 2), ())
    assert fixed.labels()[:2] == ["drop", "=up"] and len(fixed) == 7 and counts.removed == 1


def test_a_word_that_is_a_label_removes_no_row(tmp_path: Path) -> None:
    assert list_removals(("a", "b")) == REMOVE and list_removals(("a", "-")) == ("drop",)
    fixes = read_fixes(write(tmp_path / "r.csv", [fix(1, "none")]))
    for labels, removing in ((["-", "+"], "; 'drop' removes the row"), (["-", "drop"], "")):
        with pytest.raises(DataError, match=rf"known: {re.escape(', '.join(labels))}{removing}\)"):
            apply_fixes(fixes, "data", build(labels * 4), ())


WRONG = [
    ([fix(2, "goood")], "r.csv, row 1: no label 'goood'; did you mean 'good'?"),
    ([fix(1, ""), fix(2, "bad", key="t0")], "r.csv, row 2: .* has another text there .row 2."),
    ([fix(1, "good") | {"row": 99}], "r.csv, row 1: .* has no such row .* .row 99."),
    ([fix(1, "good") | {"row": "one"}], "r.csv, row 1: column 'row' holds 'one', not a row number"),
    ([fix(1, "good"), fix(1, "bad")], "r.csv, row 2: row 1 is 'bad' here, but 'good' in row 1"),
    ([fix(1, "good", table="train")], "r.csv, row 1: the table 'train' is none of data, validation, test"),
    ([{"row": 1, "label": "good"}], "no column 'correct_label'"),
    ([{"row": 1, "correct_label": "good"}], "neither a column 'key' nor 'text'"),
]


@pytest.mark.parametrize(("rows", "message"), WRONG, ids=[message[-30:] for _, message in WRONG])
def test_what_does_not_fit_is_refused_with_file_and_row(rows: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        apply_fixes(read_fixes(write(tmp_path / "r.csv", rows)), "data", build(SINGLE), ())


def test_all_problems_come_at_once_and_few_are_shown(tmp_path: Path) -> None:
    fixes = read_fixes(write(tmp_path / "r.csv", [fix(i, "none") for i in range(1, 9)]))
    with pytest.raises(DataError, match=r"(?s)row 5.*and 3 more"):
        apply_fixes(fixes, "data", build(SINGLE), ())


def test_fixes_of_rows_that_are_held_out_for_testing_are_warned_of(tmp_path: Path) -> None:
    rows = [{"text": f"a film number {i}", "label": "ab"[i % 2]} for i in range(60)]
    settings = {"data": str(write(tmp_path / "rows.csv", rows)), "validation_fraction": 0.2, "test_fraction": 0.3}
    plain = prepare_data(build_config(settings))
    assert plain.test is not None
    for part, count in ((plain.test, 3), (plain.test, 1), (plain.train, 0)):
        chosen = part.rows().tolist()[: max(count, 1)]
        filled = [fix(r, "a") | {"key": make_key(f"a film number {r - 1}")} for r in chosen]
        path = write(tmp_path / f"review{count}.csv", filled)
        fixed = prepare_data(build_config(settings | {"fixes": str(path)}))
        told = [w for w in fixed.warnings if path.name in w]
        assert len(told) == (count > 0)
        assert not count or told[0].startswith(f"{count} of the 18 test rows {'was' if count == 1 else 'were'} checked")


def test_each_table_has_its_own_fixes(tmp_path: Path) -> None:
    texts = [f"a film number {i}" for i in range(40)]
    for name in ("train", "test"):
        write(tmp_path / f"{name}.csv", [{"text": f"{name} {t}", "label": "ab"[i % 2]} for i, t in enumerate(texts)])
    rows = [
        {"table": t, "row": r, "correct_label": x, "key": make_key(f"{k} a film number {r - 1}")}
        for t, k, r, x in (("data", "train", 1, "b"), ("test", "test", 2, "a"), ("test", "test", 3, "-"))
    ]
    path = write(tmp_path / "review.csv", rows)
    settings = {"data": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv"), "validation_fraction": 0}
    plain, fixed = (prepare_data(build_config(settings | more)) for more in ({}, {"fixes": str(path)}))
    assert fixed.fixed == FixedRows("review.csv", changed=2, removed=1) and plain.fixed is None
    assert "fixes: 2 labels changed, 1 row removed by review.csv" in fixed.notes
    assert fixed.train.labels()[:3] == ["b", "b", "a"] and plain.train.labels()[:3] == ["a", "b", "a"]
    assert fixed.test.labels()[:3] == ["a", "a", "b"] and len(fixed.test) == 39
    assert fixed.fingerprint != plain.fingerprint
    told = "1 of the 39 test rows was checked or corrected in review.csv, which chose them by a model's answers"
    assert [w for w in fixed.warnings if "review.csv" in w] == [f"{told}; scores will be too optimistic"]
    assert not [w for w in plain.warnings if "optimistic" in w]
    held = prepare_data(build_config(settings | {"fixes": str(path)}), hold_test=True)
    assert held.test is None and held.fixed == FixedRows("review.csv", changed=1)
    with pytest.raises(DataError, match=r"row 2: fixes row 2 of test=, but no such table is given"):
        prepare_data(build_config({k: v for k, v in settings.items() if k != "test"} | {"fixes": str(path)}))
    with pytest.raises(DataError, match=r"nowhere.csv"):
        prepare_data(build_config(settings | {"fixes": str(tmp_path / "nowhere.csv")}))


def test_without_a_filled_cell_nothing_changes(tmp_path: Path) -> None:
    examples = build(SINGLE)
    fixes = read_fixes(write(tmp_path / "r.csv", [fix(1, ""), fix(2, " ")]))
    assert fixes.rows == () and apply_fixes(fixes, "data", examples, ())[0] is examples
