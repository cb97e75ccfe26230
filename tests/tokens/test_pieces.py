"""Long texts are read in pieces, and have the same tokens as when they are read as a whole."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from textune.config import TRUNCATE, LongText
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.pieces import PieceReader, drop_middle

CORPUS = [
    "the quick brown fox isn't jumping over 12345 lazy dogs , is it ?",
    "a good film and a bad film , very good and very bad !",
    "\u4e16\u754c\u4f60\u597d\uff0c\u8fd9\u662f\u4e00\u4e2a\u6d4b\u8bd5\u3002 caf\u00e9 na\u00efve r\u00e9sum\u00e9",
    "def f ( x ) :\n\n    return x + 1\n\t# comment  with   blanks",
]
FRAGMENTS = st.one_of(
    st.sampled_from(" ".join(CORPUS).split()),
    st.sampled_from([" ", "  ", "\n", "\n\n", "\t", " \n ", " \r\n", "\u00a0", "\u3000", "\u200b"]),
    st.integers(0, 60).map(lambda n: " " * n),
    st.integers(1, 40).map(lambda n: "ab1"[n % 3] * n),
    st.sampled_from(
        ["[SEP]", "<mask>", "</s>", "two words", " <mask>", "e\u0301", "'s", "'", "...", "\uff0c", "\U0001f600"]
    ),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=4),
)
TEXTS = st.lists(FRAGMENTS, max_size=40).map("".join) | st.lists(FRAGMENTS, max_size=30).map(" ".join)
BLOB = base64.b64encode(random.Random(1).randbytes(9_000)).decode()
ODD = {
    "leading blanks": " " * 5_000 + "a good film and a bad film",
    "leading lines": "\n" * 5_000 + "a good film and a bad film",
    "blanks in the middle": "a good " + " \n\t" * 2_000 + "film and a bad film",
    "a blob first": BLOB + " a good film and a bad film",
    "a blob last": "a good film and " + BLOB,
    "one word": "good" * 2_000,
    "zero width": "\u200b" * 5_000 + "a good film",
    "control characters": "\x00\x01" * 2_000 + "a good film",
    "no blanks": "\u4e16\u754c\u4f60\u597d" * 2_000,
    "digits": "12345" * 2_000 + " good film",
    "words": "a good film and a bad film " * 800,
    "punctuation": "..." * 2_000 + "a good film",
}


def build_tokenizer(kind: str) -> Any:
    """Return a small tokenizer that is built like those of a family of models."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    special = ["[UNK]", "<s>", "</s>"]
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
    elif kind == "xlm-roberta":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="[UNK]")
    elif kind == "t5":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "\u2581")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="[UNK]")
    elif kind == "llama":  # no words at all: merges may run over the whole text
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special)
    else:
        tokenizer = Tokenizer(models.BPE())
        first = {
            "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False),
            "roberta": pre_tokenizers.ByteLevel(add_prefix_space=True, trim_offsets=True),
            "qwen": pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(
                        Regex(
                            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                        ),
                        "isolated",
                    ),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            ),
        }
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = first[kind]
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    if kind == "llama":
        tokenizer.pre_tokenizer = None
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("[SEP]"), AddedToken("two words")])
    ids = {word: tokenizer.token_to_id(word) for word in ("<s>", "</s>")}
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=list(ids.items()))
    return tokenizer


KINDS = ("bert", "xlm-roberta", "t5", "llama", "gpt2", "roberta", "qwen")
TOKENIZERS = {kind: build_tokenizer(kind) for kind in KINDS}


def whole(tokenizer: Any, text: str, max_length: int, form: LongText) -> list[list[int]]:
    """Return the windows of a text that is read at once."""
    if form.form == "head_tail":
        tokenizer.no_truncation()
        encoding = tokenizer.encode(text)
        ids = drop_middle(np.asarray(encoding.ids), encoding.special_tokens_mask, max_length, form.head_fraction)
        return [ids.tolist()]
    tokenizer.enable_truncation(max_length, stride=form.overlap)
    encoding = tokenizer.encode(text)
    return [window.ids for window in [encoding, *encoding.overflowing][: form.max_windows]]


FORMS = (TRUNCATE, LongText("window", 2, 3), LongText("head_tail", head_fraction=0.5))


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS, characters=st.integers(1, 60), max_length=st.integers(6, 12), form=st.sampled_from(FORMS))
@example(text=" " * 200 + "a good film", characters=50, max_length=6, form=TRUNCATE)
@settings(max_examples=150, deadline=None)
def test_pieces_have_the_tokens_of_the_whole(
    kind: str, text: str, characters: int, max_length: int, form: LongText
) -> None:
    tokenizer = TOKENIZERS[kind]
    expected = whole(tokenizer, text, max_length, form)
    reader = PieceReader(tokenizer, characters, 2 + form.overlap, max_length)
    if form.form == "head_tail":
        read = [reader.read_ends(text, max_length, form.head_fraction)[0]]
    else:
        read = reader.read_windows(text, form.max_windows)[0]
    assert [ids.tolist() for ids in read] == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_texts_have_the_tokens_of_the_whole(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    for form in FORMS:
        expected = whole(tokenizer, text, 16, form)
        read = encode_texts(tokenizer, ["short", text, "short"], None, 16, form)
        windows = read.list_windows(np.asarray([1]))
        assert [read.ids[read.offsets[w] : read.offsets[w + 1]].tolist() for w in windows] == expected
        tokenizer.no_truncation()
        assert (read.full_lengths[1] > read.capacity) == (len(tokenizer.encode(text).ids) > read.capacity)


@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_odd_texts_are_read_as_transformers_reads_them(family: str, backbones: dict[str, Path]) -> None:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(str(backbones[family]))
    ours = load_tokenizer(backbones[family])
    texts = list(ODD.values())
    expected = theirs(texts, truncation=True, max_length=16)["input_ids"]
    read = encode_texts(ours, texts, None, 16)
    assert [ids.tolist() for ids in np.split(read.ids, read.offsets[1:-1])] == expected
    short = ["a good film"] * len(texts)
    for length, first, second in ((17, texts, short), (17, short, texts)):
        expected = theirs(first, second, truncation="longest_first", max_length=length)["input_ids"]
        read = encode_texts(ours, first, second, length)
        assert [ids.tolist() for ids in np.split(read.ids, read.offsets[1:-1])] == expected


PAIRS = st.tuples(TEXTS, TEXTS)


@pytest.mark.parametrize("kind", KINDS)
@given(pair=PAIRS, characters=st.integers(1, 60), max_length=st.integers(8, 20))
@settings(max_examples=80, deadline=None)
def test_pairs_are_truncated_as_the_tokenizer_does(
    kind: str, pair: tuple[str, str], characters: int, max_length: int
) -> None:
    from tokenizers import processors

    tokenizer = build_copy(kind)
    ids = [(word, tokenizer.token_to_id(word)) for word in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=ids
    )
    tokenizer.enable_truncation(max_length)
    expected = tokenizer.encode(*pair)
    sides = expected.sequence_ids
    second = next((i for i, side in enumerate(sides) if side == 1), len(sides))
    read, begin, _ = PieceReader(tokenizer, characters, 4, max_length).read_pair(*pair, max_length)
    assert (read.tolist(), begin) == (expected.ids, second)
    tokenizer.no_truncation()
    whole = tokenizer.encode(*pair)
    reader = PieceReader(tokenizer, characters, 4, max_length)
    read, begin, tokens = reader.cut_pair(whole, max_length)
    assert (read.tolist(), begin, tokens) == (expected.ids, second, len(whole.ids))
    read, begin, _ = reader.read_pair(*pair, max_length)
    assert (read.tolist(), begin) == (expected.ids, second)


def build_copy(kind: str) -> Any:
    """Return a tokenizer that may be changed."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(TOKENIZERS[kind].to_str())


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "llama", "gpt2"])
def test_most_of_a_long_text_of_words_is_never_tokenized(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = TOKENIZERS[kind]
    tokenizer.enable_truncation(16)
    seen: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def encode(self, text: str) -> Any:
            seen.append(len(text))
            return tokenizer.encode(text)

    PieceReader(Counting(), 1_000, 2, 16).read_windows(ODD["words"], 1)  # type: ignore[arg-type]
    assert seen == [1_000]
