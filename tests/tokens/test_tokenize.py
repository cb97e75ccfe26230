"""Token ids: the same as transformers', cut alike, kept on disk once, and quick for whatever comes."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textune import cache
from textune.backbones import resolve_backbone
from textune.errors import ConfigError, DataError, ModelError
from textune.tokens import Tokenized, encode_cached, encode_texts, load_tokenizer
from textune.tokens import tokenize as tokens
from textune.tokens.pieces import PieceReader
from tiny import FAMILIES, GOOD, NEUTRAL

UNICODE = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)
TEXTS = ["a good film", "the dull story was bad " * 10, "fine, isn't it? — 漢字 é"]


def rows_of(tokenized: Tokenized) -> list[list[int]]:
    return [tokenized.ids[a:b].tolist() for a, b in zip(tokenized.offsets, tokenized.offsets[1:], strict=False)]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_length", [6, 32])
def test_ids_are_those_of_transformers(family: str, max_length: int, backbones: dict[str, Path]) -> None:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(str(backbones[family]))
    ours = load_tokenizer(backbones[family])

    @given(st.lists(st.tuples(UNICODE, UNICODE), min_size=1, max_size=4))
    @settings(max_examples=40, deadline=None)
    def compare(rows: list[tuple[str, str]]) -> None:
        first, second = (list(side) for side in zip(*rows, strict=True))
        expected = theirs(first, truncation=True, max_length=max_length)["input_ids"]
        assert rows_of(encode_texts(ours, first, None, max_length)) == expected
        expected = theirs(first, second, truncation="longest_first", max_length=max_length)["input_ids"]
        assert rows_of(encode_texts(ours, first, second, max_length)) == expected

    compare()


def test_second_text_begins_where_transformers_says(backbones: dict[str, Path]) -> None:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(str(backbones["bert"]))
    tokenized = encode_texts(load_tokenizer(backbones["bert"]), TEXTS, TEXTS[::-1], 32)
    expected = theirs(TEXTS, TEXTS[::-1], truncation="longest_first", max_length=32, return_token_type_ids=True)
    assert tokenized.second_starts is not None
    assert tokenized.second_starts.tolist() == [ids.index(1) for ids in expected["token_type_ids"]]


def test_known_ids_of_minilm() -> None:
    tokenizer = load_tokenizer(resolve_backbone("minilm").folder)
    assert tokenizer.encode("I heart Generative AI").tokens[1:-1] == ["i", "heart", "genera", "##tive", "ai"]
    expected = [101, 1045, 2540, 11416, 6024, 9932, 102]
    assert rows_of(encode_texts(tokenizer, ["I heart Generative AI"], None, 32)) == [expected]


def test_cut_texts_are_counted(backbones: dict[str, Path]) -> None:
    texts = [" ".join(GOOD[:n]) for n in (1, 4, 8)]
    tokenized = encode_texts(load_tokenizer(backbones["bert"]), texts, None, 6)
    assert tokenized.full_lengths.tolist() == [3, 6, 10]
    assert tokenized.lengths.tolist() == [3, 6, 6]
    assert tokenized.cut_share == pytest.approx(1 / 3)
    assert tokenized.ids.dtype == np.uint16


def test_truncation_and_padding_of_the_file_are_switched_off(backbones: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(backbones["bert"], folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert encode_texts(load_tokenizer(folder), ["a good film was very good"], None, 32).lengths.tolist() == [8]


def test_large_vocabularies_take_wider_ids() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "far": 70_000} | {f"w{i}": i for i in range(1, 70_000)}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenized = encode_texts(tokenizer, ["far w65536"], None, 8)
    assert tokenized.ids.dtype == np.int32 and tokenized.ids.tolist() == [70_000, 65_536]


def test_cache_is_hit_by_the_same_and_missed_by_anything_else(
    own_cache: Path, backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = tokens.encode_texts
    monkeypatch.setattr(tokens, "encode_texts", lambda *a: calls.append(1) or original(*a))
    bert, roberta = (load_tokenizer(backbones[family]) for family in ("bert", "roberta"))
    first = encode_cached(bert, TEXTS, None, 32, "data")
    again = encode_cached(load_tokenizer(backbones["bert"]), TEXTS, None, 32, "data")
    encode_cached(bert, TEXTS, None, 32, "data")
    assert len(calls) == 1 and rows_of(first) == rows_of(again) and isinstance(again.ids, np.memmap)
    assert again.full_lengths.tolist() == first.full_lengths.tolist()
    encode_cached(bert, TEXTS, None, 16, "data")
    encode_cached(bert, TEXTS, None, 32, "other data")
    encode_cached(roberta, TEXTS, None, 32, "data")
    pairs = encode_cached(bert, TEXTS, TEXTS, 32, "data")
    assert len(calls) == 5 and pairs.second_starts is not None
    assert len(cache.list_entries()) == 5 == len(list(own_cache.iterdir()))


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy", "full_lengths.npy", "tokens.json"])
@pytest.mark.parametrize("harm", ["cut", "empty", "gone", "a bit"])
def test_damaged_cache_is_made_anew(name: str, harm: str, own_cache: Path, backbones: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(backbones["bert"])
    expected = rows_of(encode_cached(tokenizer, TEXTS, None, 32, "data"))
    (entry,) = own_cache.iterdir()
    path = entry / name
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:middle], "empty": b"", "a bit": flipped}[harm])
    assert rows_of(encode_cached(tokenizer, TEXTS, None, 32, "data")) == expected
    assert (own_cache / entry.name / name).read_bytes() == content


def test_cache_that_cannot_be_written_stops_nothing(
    own_cache: Path, backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", refuse)
    tokenized = encode_cached(load_tokenizer(backbones["bert"]), TEXTS, None, 32, "data")
    assert len(tokenized) == 3 and not list(own_cache.iterdir())


def test_cache_is_bounded_and_the_least_recently_used_goes_first(own_cache: Path, backbones: dict[str, Path]) -> None:
    import os

    tokenizer = load_tokenizer(backbones["bert"])
    for number, name in enumerate("abc"):
        encode_cached(tokenizer, TEXTS, None, 32, name)
        newest = max(own_cache.iterdir(), key=lambda p: p.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    entries = cache.list_entries()
    assert [e.used for e in entries] == [0, 1, 2]
    freed = cache.clean(entries[-1].bytes + entries[-2].bytes)
    assert freed == entries[0].bytes and [e.path for e in cache.list_entries()] == [e.path for e in entries[1:]]
    assert cache.clean() > 0 and cache.list_entries() == []


def test_line_of_twenty_megabytes_is_quick_and_marked_as_cut(backbones: dict[str, Path]) -> None:
    text = " ".join(NEUTRAL) + " "
    text *= 20_000_000 // len(text)
    started = time.process_time()
    tokenized = encode_texts(load_tokenizer(backbones["bert"]), [text, "good"], None, 32)
    assert time.process_time() - started < 2.0
    assert tokenized.lengths.tolist() == [32, 3] and tokenized.cut_share == 0.5


def test_many_rows_come_in_their_order(backbones: dict[str, Path]) -> None:
    texts = [f"good {i}" for i in range(2_500)]
    tokenizer = load_tokenizer(backbones["bert"])
    tokenized = encode_texts(tokenizer, texts, None, 32)
    for row in (0, 999, 1000, 2499):
        assert rows_of(tokenized)[row] == tokenizer.encode(texts[row]).ids


def test_what_is_no_text_or_no_tokenizer_is_told(backbones: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(backbones["bert"])
    with pytest.raises(DataError, match="text 1002: contains a lone surrogate"):
        encode_texts(tokenizer, ["good"] * 1001 + ["\ud800"], None, 32)
    with pytest.raises(ModelError, match=r"no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(ModelError, match=r"tokenizer\.json: the tokenizer cannot be read"):
        load_tokenizer(tmp_path)
    assert len(encode_texts(tokenizer, [], None, 8)) == 0


def test_a_pair_of_two_long_texts_is_encoded_once(backbones, monkeypatch):
    tokenizer, text = load_tokenizer(backbones["bert"]), "a good film " * 300
    parts, cut = [], PieceReader.cut_pair
    monkeypatch.setattr(
        PieceReader, "cut_pair", lambda self, whole, length: parts.append(whole.overflowing) or cut(self, whole, length)
    )
    read = encode_texts(tokenizer, [text, "a film"], [text, "good"], 64)
    assert read.full_lengths.tolist() == [
        len(tokenizer.encode(*pair).ids) for pair in ((text, text), ("a film", "good"))
    ]
    assert read.lengths.tolist()[0] == 64
    assert parts == [[], []], "each part for two parts of both texts takes memory"


def test_ids_beyond_the_size_of_a_vocabulary_are_kept():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "good": 70_000, "bad": 4_464, "[CLS]": 1, "[SEP]": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert encode_texts(tokenizer, ["bad", "good bad"], None, 16).ids.tolist() == [4_464, 70_000, 4_464]


@pytest.mark.parametrize("max_length", [1, 3])
def test_a_length_without_room_for_a_pair_is_refused(backbones, max_length):
    with pytest.raises(ConfigError, match="leaves no room for text"):
        encode_texts(load_tokenizer(backbones["bert"]), ["a"], ["b"], max_length)
