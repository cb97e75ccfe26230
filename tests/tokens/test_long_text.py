"""Texts longer than max_length: cut, read at both ends, or read in windows; the same in training and ever after."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.config import LongText, build_config
from textune.config.defaults import choose_long_text
from textune.engine import pool_windows, predict_logits
from textune.errors import ConfigError
from textune.run.facts import advise_on_cuts, describe_long_texts
from textune.tokens import Tokenized, encode_cached, encode_texts
from textune.tokens import tokenize as tokens_module
from textune.tokens.batches import (
    Batch,
    EncodedSplit,
    Padding,
    collate,
    plan_epoch,
    plan_inference,
    split_micro_batches,
)

TEMPLATES = {"bert": "[CLS] $A [SEP]", "llama": "<s> $A", "gpt2": None, "t5": "$A </s>", "odd": "<s> [CLS] $A [SEP]"}
WORDS = st.lists(st.sampled_from([f"w{i}" for i in range(20)] + ["[SEP]", "[CLS]"]), max_size=60).map(" ".join)
WINDOW = LongText("window", 2, 16)


def build_tokenizer(template: str | None) -> Any:
    """Return a tokenizer of whole words with special tokens where the template has them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[UNK]", "[CLS]", "[SEP]", "<s>", "</s>"]
    words = [*special, *(f"w{i}" for i in range(20))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    if template is not None:
        used = [(w, words.index(w)) for w in template.split() if w != "$A"]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return tokenizer


def ends_of(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after a text."""
    around = tokenizer.encode("w0")
    place = around.special_tokens_mask.index(0)
    return around.ids[:place], around.ids[place + 1 :]


def windows_of(tokenized: Tokenized, row: int) -> list[list[int]]:
    chosen = tokenized.list_windows(np.asarray([row]))
    return [tokenized.ids[tokenized.offsets[w] : tokenized.offsets[w + 1]].tolist() for w in chosen]


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@given(text=WORDS, max_length=st.integers(4, 20), fraction=st.floats(0, 1))
@settings(max_examples=50)
def test_both_ends_are_kept_between_the_special_tokens(
    template: str | None, text: str, max_length: int, fraction: float
) -> None:
    tokenizer = build_tokenizer(template)
    before, after = ends_of(tokenizer)
    content = tokenizer.encode(text, add_special_tokens=False).ids
    room = max_length - len(before) - len(after)
    head = round(room * fraction)
    expected = content if len(content) <= room else content[:head] + content[len(content) - (room - head) :]
    read = encode_texts(tokenizer, [text], None, max_length, LongText("head_tail", head_fraction=fraction))
    assert read.ids.tolist() == before + expected + after
    assert read.full_lengths.tolist() == [len(before) + len(content) + len(after)]
    assert read.cut_share == read.long_share == float(len(content) > room)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@given(texts=st.lists(WORDS, min_size=1, max_size=4), max_length=st.integers(6, 20), data=st.data())
@settings(max_examples=50)
def test_windows_hold_the_whole_text_in_order(
    template: str | None, texts: list[str], max_length: int, data: st.DataObject
) -> None:
    tokenizer = build_tokenizer(template)
    before, after = ends_of(tokenizer)
    room = max_length - len(before) - len(after)
    overlap, most = data.draw(st.integers(0, room - 1)), data.draw(st.integers(1, 8))
    read = encode_texts(tokenizer, texts, None, max_length, LongText("window", overlap, most))
    assert len(read) == len(texts)
    assert read.capacity == max_length + (most - 1) * (room - overlap)
    for row, text in enumerate(texts):
        content = build_tokenizer(template).encode(text, add_special_tokens=False).ids
        windows = windows_of(read, row)
        assert 1 <= len(windows) <= most and all(len(w) <= max_length for w in windows)
        assert all(w[: len(before)] == before and w[len(w) - len(after) :] == after for w in windows)
        inside = [w[len(before) : len(w) - len(after)] for w in windows]
        again = inside[0] + [t for w in inside[1:] for t in w[overlap:]]
        assert again == content[: len(again)]
        whole = len(before) + len(content) + len(after)
        assert read.full_lengths[row] == whole and read.lengths[row] == sum(map(len, windows))
        assert (again == content) == (whole <= read.capacity)
        assert read.longest_windows[row] == max(map(len, windows))
    full = read.full_lengths
    assert read.cut_share == (full > read.capacity).mean() and read.long_share == (full > max_length).mean()
    assert read.count_windows().tolist() == [len(windows_of(read, row)) for row in range(len(texts))]


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_short_texts_are_read_alike_in_every_form(texts: list[str]) -> None:
    tokenizer = build_tokenizer(TEMPLATES["bert"])
    forms = (LongText(), LongText("head_tail", head_fraction=0.25), WINDOW)
    cut, ends, windows = (encode_texts(tokenizer, texts, None, 64, form) for form in forms)
    for other in (ends, windows):
        assert np.array_equal(cut.ids, other.ids) and np.array_equal(cut.offsets, other.offsets)
        batch = collate(other, range(len(texts)), Padding(0))
        assert batch.windows is None
        assert np.array_equal(batch.input_ids, collate(cut, range(len(texts)), Padding(0)).input_ids)


@pytest.mark.parametrize("form", [LongText("head_tail", head_fraction=0.5), LongText("window", 8, 16)])
def test_line_of_twenty_megabytes_is_quick(form: LongText) -> None:
    text = "w1 " * 6_666_666 + "w7"
    started = time.process_time()
    read = encode_texts(build_tokenizer(TEMPLATES["bert"]), [text, "w2"], None, 32, form)
    assert time.process_time() - started < 2.0
    assert read.cut_share == 0.5 and read.count_windows().tolist() == [form.max_windows, 1]
    if form.form == "head_tail":
        assert windows_of(read, 0)[0][-2:] == [12, 2]  # w7 [SEP]


def test_batches_of_documents_are_tokenised_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["w1 w2 " * n for n in (1, 400, 2, 700, 3, 4)]
    tokenizer = build_tokenizer(TEMPLATES["bert"])
    whole = encode_texts(tokenizer, texts, None, 8, WINDOW)
    monkeypatch.setattr(tokens_module, "_CHARACTERS_PER_BATCH", 2_000)
    rows = list(tokens_module._batch_rows(texts, None, 4_096))
    assert rows == [range(2), range(2, 4), range(4, 6)]
    pieces = encode_texts(tokenizer, texts, None, 8, WINDOW)
    assert np.array_equal(whole.ids, pieces.ids) and np.array_equal(whole.window_starts, pieces.window_starts)


def test_rows_are_taken_with_all_their_windows() -> None:
    texts = ["w1 " * n for n in (3, 40, 9, 0, 15)]
    read = encode_texts(build_tokenizer(TEMPLATES["bert"]), texts, None, 8, WINDOW)
    rows = np.asarray([4, 1, 3])
    taken = read.take(rows)
    assert [windows_of(taken, i) for i in range(3)] == [windows_of(read, r) for r in rows]
    assert taken.full_lengths.tolist() == [17, 42, 2] and taken.lengths.tolist() == read.lengths[rows].tolist()
    assert len(read.take(np.zeros(0, int))) == 0


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 9)), max_size=80), st.integers(1, 900), st.integers(1, 40))
def test_batches_keep_a_text_together_and_count_all_its_windows(
    rows: list[tuple[int, int]], tokens: int, most: int
) -> None:
    sizes, windows = (np.asarray([row[i] for row in rows], int) for i in (0, 1))
    batches = list(plan_inference(sizes, tokens, most, windows))
    assert sorted(int(r) for b in batches for r in b) == list(range(len(rows)))
    for batch in batches:
        total = windows[batch].sum()
        assert len(batch) == 1 or (total <= most and total * sizes[batch].max() <= tokens)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_micro_batches_are_bounded_by_their_windows(windows: list[int], size: int) -> None:
    counts = np.asarray(windows)
    pieces = split_micro_batches(np.arange(len(counts)), size, counts)
    assert np.concatenate(pieces).tolist() == list(range(len(counts)))
    assert all(len(piece) == 1 or counts[piece].sum() <= size for piece in pieces)
    joined = itertools.pairwise(pieces)
    assert all(counts[a].sum() + counts[b[0]] > size for a, b in joined), "two pieces could have been one"


def test_windows_are_averaged_row_by_row() -> None:
    logits = torch.randn(6, 3, requires_grad=True)
    empty = np.zeros((6, 1), np.int64)
    batch = Batch(empty, empty, None, np.arange(3), windows=np.asarray([1, 3, 2]))
    pooled = pool_windows(logits, batch)
    expected = torch.stack([logits[0], logits[1:4].mean(0), logits[4:].mean(0)])
    assert torch.equal(pooled, expected)
    pooled[1].sum().backward()
    assert torch.allclose(logits.grad[:, 0], torch.tensor([0, 1 / 3, 1 / 3, 1 / 3, 0, 0]))
    assert pool_windows(logits, dataclasses.replace(batch, windows=None)) is logits


class Bag(torch.nn.Module):
    """The smallest engine there is: the mean of word vectors, a linear layer, and the pooling of windows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.classifier = torch.nn.Embedding(30, 8), torch.nn.Linear(8, 2)
        self.most_windows = 0

    def refresh(self) -> None:
        """Nothing is derived."""

    def forward(self, batch: Batch) -> torch.Tensor:
        self.most_windows = max(self.most_windows, len(batch.input_ids))
        mask = torch.from_numpy(batch.attention_mask)[..., None]
        hidden = (self.words(torch.from_numpy(batch.input_ids)) * mask).sum(1) / mask.sum(1)
        return pool_windows(self.classifier(hidden), batch)


def test_a_step_is_split_where_its_windows_are_too_many_and_learns_the_same(tmp_path: Path) -> None:
    from textune.config import TrainingConfig
    from textune.progress import Silent
    from textune.tasks.single_label import CrossEntropy
    from textune.training.device import open_accelerator
    from textune.training.trainer import Trainer, TrainingRows, TrainingSetup

    draw = np.random.default_rng(0)
    targets = draw.integers(0, 2, 24)
    texts = [f"w{t} " * 3 + "w9 w5 " * int(draw.integers(0, 12)) for t in targets]
    read = encode_texts(build_tokenizer(TEMPLATES["bert"]), texts, None, 8, WINDOW)
    split = EncodedSplit(read, targets, np.arange(24))
    assert read.count_windows().max() > 4

    def run(name: str, micro_batch_size: int | None, batch_size: int = 8) -> Bag:
        engine = Bag()
        config = TrainingConfig(epochs=3, batch_size=batch_size, micro_batch_size=micro_batch_size, learning_rate=0.01)
        groups = [{"name": "head", "params": list(engine.parameters()), "lr": 0.01, "weight_decay": 0.0}]
        (tmp_path / name).mkdir()
        rows = TrainingRows(split, split, Padding(0))
        setup = TrainingSetup(config, CrossEntropy(config.label_smoothing), "plan")
        Trainer(engine, groups, rows, setup, tmp_path / name, Silent(), open_accelerator("cpu")).run()
        return engine

    whole, bounded, single = run("whole", 10_000), run("bounded", None), run("single", 1)
    for other in (bounded, single):
        for theirs, ours in zip(whole.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=0)
    batches = plan_epoch(read.lengths, 8, 42, 0)
    assert max(read.count_windows(b).sum() for b in batches) > 8  # else nothing would have to be split
    logits = predict_logits(bounded, split, Padding(0))
    alone = [predict_logits(bounded, EncodedSplit(read.take(np.asarray([i])), targets[[i]], targets[[i]]), Padding(0))
             for i in range(24)]  # fmt: skip
    np.testing.assert_allclose(logits, np.concatenate(alone), atol=1e-6)


def test_settings_that_do_not_fit_are_refused() -> None:
    for form, wrong in (("truncate", "max_windows"), ("window", "head_fraction"), ("head_tail", "window_overlap")):
        with pytest.raises(ConfigError, match=f"{wrong}= only applies with long_text="):
            choose_long_text(build_config({"long_text": form, "max_length": 8, wrong: 1}))
    with pytest.raises(ConfigError, match="must be one of truncate, head_tail, window; did you mean 'window'"):
        build_config({"long_text": "windows"})
    tokenizer = build_tokenizer(TEMPLATES["bert"])
    with pytest.raises(ConfigError, match="smaller than the 6 text tokens in a window of max_length=8"):
        encode_texts(tokenizer, ["w1"], None, 8, LongText("window", 6, 4))
    with pytest.raises(ConfigError, match="leaves no room"):
        encode_texts(tokenizer, ["w1"], None, 2, LongText("head_tail"))


def test_what_is_open_is_decided_by_rule() -> None:
    config, form, decisions = choose_long_text(build_config({"max_length": 510}))
    assert (config.tokens.long_text, form, decisions) == ("truncate", LongText(), [])
    config, form, decisions = choose_long_text(build_config({"max_length": 64, "long_text": "window"}))
    assert form == LongText("window", 16, 16) and [d.setting for d in decisions] == ["window_overlap", "max_windows"]
    assert choose_long_text(config)[1:] == (form, [])
    form = choose_long_text(build_config({"max_length": 64, "long_text": "head_tail"}))[1]
    assert form == LongText("head_tail", head_fraction=0.25)
    # the best split of Sun and others: 128 and 382 of 510 tokens
    read = encode_texts(build_tokenizer(None), ["w1 " * 500 + "w2 " * 500], None, 510, form)
    assert read.ids.tolist().count(6) == 128 and read.ids.tolist().count(7) == 382


def test_cache_knows_the_form_and_mends_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTUNE_CACHE", str(tmp_path))
    tokenizer, texts = build_tokenizer(TEMPLATES["bert"]), ["w1 " * n for n in (2, 50, 9)]
    forms = (LongText(), LongText("head_tail", head_fraction=0.5), WINDOW, LongText("window", 2, 3))
    for form in forms:
        fresh = encode_texts(tokenizer, texts, None, 8, form)
        for _ in range(2):
            kept = encode_cached(tokenizer, texts, None, 8, "data", form)
            assert [windows_of(kept, i) for i in range(3)] == [windows_of(fresh, i) for i in range(3)]
            assert (kept.capacity, kept.cut_share) == (fresh.capacity, fresh.cut_share)
    entries = list((tmp_path / "tokens").iterdir())
    assert len(entries) == len(forms)
    (path, *_) = sorted(tmp_path.rglob("window_starts.npy"))
    content = path.read_bytes()
    for harm in (content[:-8], b""):
        path.write_bytes(harm)
        for form in forms:
            encode_cached(tokenizer, texts, None, 8, "data", form)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("form", "told", "advice"),
    [
        (
            LongText(),
            "50.0% of the texts are longer than max_length 8 and truncated",
            "long_text=window reads them in full",
        ),
        (
            LongText("head_tail", head_fraction=0.5),
            "only their first and last tokens",
            "long_text=window reads them in full",
        ),
        (LongText("window", 2, 16), "and read in up to 12 windows", None),
        (LongText("window", 2, 3), "and read in up to 3 windows; 25.0% are truncated", "A larger max_windows="),
    ],
)
def test_what_becomes_of_long_texts_is_told(form: LongText, told: str, advice: str | None) -> None:
    texts = ["w1 " * n for n in (2, 6, 7, 49)]
    read = encode_texts(build_tokenizer(TEMPLATES["bert"]), texts, None, 8, form)
    assert told in describe_long_texts(read, form)
    found = advise_on_cuts(read, form)
    assert found is None if advice is None else found is not None and advice in found
    few = encode_texts(build_tokenizer(TEMPLATES["bert"]), ["w1"] * 10 + texts[3:], None, 8, form)
    assert advise_on_cuts(few, form) is None
