"""Hashes of rows: exact ones are right for any text, near ones for a few changes, and no text is in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.data import Examples, HashedRows, compute_probe, hash_rows, list_keys, match_rows
from textune.data import row_hashes as module
from textune.data.checks import fold_text
from textune.data.row_hashes import TRAINING_EXACT, TRAINING_NEAR, UNSEEN, VALIDATION_EXACT, VALIDATION_NEAR

SALT = b"salt"
PROBE = "3b9d7ae54ab26a8d"
"""Where this changes, the hashes of earlier bundles are of no use any more."""
TEXTS = st.one_of(
    st.text(min_size=1, max_size=30),
    st.lists(st.sampled_from(["a", "A", "b", "ß", "ss", " ", "\t", "c d"]), min_size=1, max_size=6).map("".join),
)
WORDS = st.lists(st.sampled_from([f"word{i}" for i in range(500)]), min_size=12, max_size=60)


def make_examples(texts: Sequence[str], pairs: Sequence[str] | None = None) -> Examples:
    columns = {"row": pa.array(np.arange(1, len(texts) + 1)), "text": pa.array(texts, pa.large_string())}
    if pairs is not None:
        columns["text_pair"] = pa.array(pairs, pa.large_string())
    return Examples(pa.table(columns), "rows")


def find(training: Sequence[str], validation: Sequence[str], other: Sequence[str]) -> list[int]:
    hashed = {"training": hash_rows(make_examples(training), SALT)}
    if validation:
        hashed["validation"] = hash_rows(make_examples(validation), SALT)
    found, notes = match_rows(hashed, list_keys(other), SALT)
    assert not notes
    return found.tolist()


@given(st.lists(TEXTS, max_size=8), st.lists(TEXTS, max_size=8), st.lists(TEXTS, max_size=8))
def test_exact_rows_are_those_of_the_same_text(training: list[str], validation: list[str], new: list[str]) -> None:
    other = [*new, *(text.upper() for text in training), *(f"  {text}\n" for text in validation)]
    in_training, in_validation = ({fold_text(text) for text in part} for part in (training, validation))
    expected = [
        TRAINING_EXACT if fold_text(t) in in_training else VALIDATION_EXACT if fold_text(t) in in_validation else UNSEEN
        for t in other
    ]
    found = find(training, validation, other)
    assert [code if code in (TRAINING_EXACT, VALIDATION_EXACT) else UNSEEN for code in found] == expected


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6), st.lists(st.tuples(TEXTS, TEXTS), max_size=6))
def test_of_pairs_both_texts_must_be_the_same(training: list[tuple[str, str]], new: list[tuple[str, str]]) -> None:
    other = [*new, *training, *((b, a) for a, b in training), *((a, b + " more") for a, b in training)]
    keys = list_keys(*zip(*other, strict=True))
    found, _ = match_rows({"training": hash_rows(make_examples(*zip(*training, strict=True)), SALT)}, keys, SALT)
    seen = {(fold_text(a), fold_text(b)) for a, b in training}
    assert [code == TRAINING_EXACT for code in found] == [(fold_text(a), fold_text(b)) in seen for a, b in other]


@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(WORDS, max_size=6))
def test_near_rows_differ_in_a_few_characters(training: list[list[str]], validation: list[list[str]]) -> None:
    texts, held_out = ([" ".join(words) for words in part] for part in (training, validation))
    changed = [f'"{text.replace(" ", ", ", 1)}!"' for text in texts]
    assert set(find(texts, held_out, changed)) == {TRAINING_NEAR}
    held_out = [f"{text} and its end" for text in held_out if text not in texts]
    alone = find(["nothing of the kind was ever said here"], held_out, [f"{text} !" for text in held_out])
    assert set(alone) <= {VALIDATION_NEAR}


@given(st.lists(WORDS, min_size=1, max_size=8, unique_by=tuple), st.integers(0, 499))
def test_other_texts_are_not_near(training: list[list[str]], shift: int) -> None:
    other = [" ".join(f"thing{int(word[4:]) + shift}" for word in words) for words in training]
    assert set(find([" ".join(words) for words in training], [], other)) == {UNSEEN}


def test_short_texts_are_exact_or_new() -> None:
    assert find(["good film"], ["bad film"], ["Good  film", "bad film", "good film!"]) == [
        TRAINING_EXACT, VALIDATION_EXACT, UNSEEN,
    ]  # fmt: skip


def test_scripts_without_spaces_have_near_rows() -> None:
    text = "这部电影的故事非常精彩演员的表演也很出色值得一看"
    assert find([text], [], [f"{text}。", "今天天气很好我们去公园散步吧然后一起吃晚饭好不好"]) == [
        TRAINING_NEAR,
        UNSEEN,
    ]


def test_hashes_are_small_and_hold_no_text() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 5_000, 20)) for _ in range(1_000)]
    hashed = hash_rows(make_examples(texts), SALT)
    assert hashed.exact.nbytes + hashed.near.nbytes == 24 * len(texts)
    assert not any(word.encode() in hashed.near.tobytes() for word in ("w1", "w12"))
    other = hash_rows(make_examples(texts), b"other")
    assert not np.isin(hashed.exact, other.exact).any()
    found, _ = match_rows({"training": hashed}, list_keys(texts), b"other")
    assert not found.any()


def test_hashes_are_the_same_in_every_process_and_version() -> None:
    code = "from textune.data import compute_probe; print(compute_probe(b'salt'))"
    words = [sys.executable, "-c", code]
    there = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert there == compute_probe(SALT) == PROBE


def test_of_very_many_rows_a_sample_is_kept_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EXACT", 100)
    monkeypatch.setattr(module, "MAX_NEAR_ROWS", 50)
    texts = [f"a film with the number {i} and story {i * 7} of {i * 13} actors" for i in range(300)]
    hashed = hash_rows(make_examples(texts), SALT)
    assert len(hashed.exact) == 100 and len(hashed.near) == 50 and not hashed.complete
    found, notes = match_rows({"training": hashed}, list_keys(texts), SALT)
    assert (found == TRAINING_EXACT).sum() == 100
    assert "hashes of 100 texts and 50 near ones stand for 300 training rows" in notes[0] and "50 of 200" in notes[1]
    shuffled = hash_rows(make_examples(texts[::-1]), SALT)
    assert np.array_equal(hashed.exact, shuffled.exact)


def test_joined_hashes_know_the_rows_of_both() -> None:
    first, second = ([f"{name} film number {i} with a story" for i in range(5)] for name in ("good", "bad"))
    both = hash_rows(make_examples(first), SALT).join(hash_rows(make_examples(second), SALT))
    assert both.rows == 10 and both.complete
    found, _ = match_rows({"training": both}, list_keys([*first, *second, "new"]), SALT)
    assert found.tolist() == [TRAINING_EXACT] * 10 + [UNSEEN]


def test_no_rows_are_no_error() -> None:
    nothing = HashedRows(np.zeros(0, np.uint64), np.zeros((0, 16), np.uint8), 0)
    assert match_rows({"training": nothing}, [], SALT)[0].tolist() == []
    assert match_rows({"training": nothing}, list_keys(["a text of more than five words"]), SALT)[0].tolist() == [0]
