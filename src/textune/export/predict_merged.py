"""Classify texts with the merged model in this folder, by transformers and torch alone.

python predict.py "a text to classify" "another text"

A model of text pairs takes two arguments each.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

FILLERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0").union(map(chr, range(0xFE00, 0xFE10)))
"""Characters that do not print, though Unicode counts them as letters, marks or symbols."""


class Classifier:
    """The model of a merged folder. pairs: whether it classifies pairs of texts."""

    def __init__(self, folder: str | Path, pairs: bool | None = None) -> None:
        import transformers

        path = Path(folder)
        load = transformers.AutoModelForSequenceClassification.from_pretrained
        self._model = load(str(path), local_files_only=True).eval()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        self.labels = [self._model.config.id2label[i] for i in range(self._model.config.num_labels)]
        form = json.loads((path / "space.json").read_text(encoding="utf-8")) if (path / "space.json").is_file() else {}
        self.pairs = bool(form.get("pairs")) if pairs is None else pairs
        thresholds = path / "thresholds.json"
        self._thresholds = json.loads(thresholds.read_text(encoding="utf-8")) if thresholds.is_file() else None
        backend = self._tokenizer.backend_tokenizer
        one, two = (backend.num_special_tokens_to_add(pair) for pair in (False, True))
        self._between = "" if two > one else "\n"  # some tokenizers put nothing between two texts

    def classify(self, *texts: str) -> dict[str, Any]:
        """Return the label, or the labels, of a text or a pair, with all probabilities; ValueError for no such text."""
        import torch

        if len(texts) != 1 + self.pairs:
            raise ValueError(f"expected {'two texts' if self.pairs else 'one text'}, not {len(texts)}")
        if not all(map(holds_text, texts)):
            raise ValueError("a text is empty")
        "".join(texts).encode()  # raises ValueError for half a character
        second = [self._between + texts[1]] if self.pairs else []
        inputs = self._tokenizer(texts[0], *second, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(**inputs).logits[0].double()
        if self._thresholds is None:
            values = logits.softmax(0)
            best = int(values.argmax())
            answer: dict[str, Any] = {"label": self.labels[best], "probability": float(values[best])}
        else:
            values = logits.sigmoid()
            least = [self._thresholds[name] for name in self.labels]
            labels = [
                name for name, value, low in zip(self.labels, values.tolist(), least, strict=True) if value >= low
            ]
            answer = {"labels": labels}
        return answer | {"probabilities": dict(zip(self.labels, values.tolist(), strict=True))}


def holds_text(text: str) -> bool:
    """Return whether a text holds anything that prints."""
    kinds = ((char, unicodedata.category(char)) for char in text)
    return any(not (kind.startswith("Z") or kind in ("Cc", "Cf") or char in FILLERS) for char, kind in kinds)


def main() -> None:
    """Print the answer for every text as JSON."""
    classifier = Classifier(Path(__file__).parent)
    step = 1 + classifier.pairs
    for start in range(1, len(sys.argv), step):
        try:
            answer = classifier.classify(*sys.argv[start : start + step])
        except ValueError as error:
            sys.exit(f"error: {error}")
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
