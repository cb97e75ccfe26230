"""The small tables and the tiny base model that the documentation's commands work on."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

GOOD = ("great fun", "a warm and lovely film", "superb acting", "funny and bright", "a fine story, well told")
BAD = ("a dull story", "boring and slow", "awful music", "weak jokes and a grim end", "a poor, bad film")
_ROWS = 60


def write_workplace(folder: Path) -> Path:
    """Write nine tables (reviews.csv and so on), models/my-bert and an adapter for it; return the folder."""
    rows = _draw_reviews(_ROWS, seed=1)
    films = [(text, "positive" if stars == "5" else "negative") for text, stars, _ in rows]
    _write(folder / "films.csv", ("text", "label"), films)
    _write(folder / "reviews.csv", ("content", "stars", "customer"), rows)
    _write(folder / "march.csv", ("content", "stars"), [row[:2] for row in _draw_reviews(40, seed=2)])
    _write(folder / "last_year.csv", ("body", "rating"), [row[:2] for row in _draw_reviews(30, seed=3)])
    feedback = [(f"note {i}", text, stars) for i, (text, stars, _) in enumerate(rows)]
    _write(folder / "feedback.csv", ("subject", "body", "stars"), feedback, delimiter=";")
    questions = [("How was it?", text, "yes" if stars == "5" else "no") for text, stars, _ in rows]
    _write(folder / "questions.csv", ("question", "answer", "helpful"), questions)
    moods = [_draw_moods(i) for i in range(_ROWS)]
    _write(folder / "emotions.csv", ("text", "labels"), [(text, "|".join(labels)) for text, labels in moods])
    marks = {"toxic": "anger", "insult": "joy", "threat": "surprise"}
    comments = [(text, *(str(int(mood in labels)) for mood in marks.values())) for text, labels in moods]
    _write(folder / "comments.csv", ("text", *marks), comments)
    old = [(f"long ago {text}", *marked) for text, *marked in comments[:20]]
    _write(folder / "old_comments.csv", ("text", *(f"is_{name}" for name in marks)), old)
    _build_backbone(folder / "models" / "my-bert")
    _build_adapter(folder / "models" / "my-bert", folder / "downloads" / "stars-adapter")
    return folder


def _draw_reviews(rows: int, seed: int) -> list[tuple[str, str, str]]:
    """Return (text, stars, customer) with two classes of equal size; no text comes twice."""
    draw = random.Random(seed)
    reviews = []
    for i in range(rows):
        said = draw.choice(GOOD if i % 2 else BAD)
        reviews.append(
            (f"{said}, said visitor {seed}{i:03} of {draw.randint(100, 999)}", "51"[i % 2 - 1], f"c{i // 3}")
        )
    return reviews


def _draw_moods(number: int) -> tuple[str, list[str]]:
    """Return a text and its moods, each told by a word; every row has one at least."""
    told = {"anger": "awful", "joy": "lovely", "surprise": "bright"}
    moods = [mood for bit, mood in enumerate(told) if (number % 7 + 1) >> bit & 1]
    return f"said visitor {number}: {' and '.join(told[mood] for mood in moods)} story", moods


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])


def _build_backbone(folder: Path) -> None:
    """Save a random BERT of two layers with a tokenizer of whole words and letters."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = sorted({word.strip(",") for text in (*GOOD, *BAD) for word in text.split()})
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789")]
    pieces = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = transformers.BertTokenizerFast(tokenizer_object=tokenizer)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(str(folder))
    fast.save_pretrained(str(folder))


def _build_adapter(backbone: Path, folder: Path) -> None:
    """Save an untrained adapter as plain peft does."""
    import peft
    import transformers

    base = transformers.AutoModelForSequenceClassification.from_pretrained(str(backbone), num_labels=2)
    peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS")).save_pretrained(str(folder))
