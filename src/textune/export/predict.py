"""Classify texts with the exported model in this folder, by onnxruntime, tokenizers and numpy alone.

python predict.py "a text to classify" "another text"
python predict.py --json < texts.txt
python predict.py --abstain 0.9 --sets 0.9 "a text to classify"

One text per argument or line. A model of text pairs takes two arguments each, or two texts per line with a tab between.
"""

from __future__ import annotations

import argparse
import codecs
import functools
import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and what Python calls the encodings that they tell."""
FILLERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0").union(map(chr, range(0xFE00, 0xFE10)))
"""Characters that do not print, though Unicode counts them as letters, marks or symbols."""


class Classifier:
    """The model of an exported folder. threads: 0 for one per core. pairs: whether it classifies pairs of texts."""

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        path = Path(folder)
        model = self._manifest = json.loads((path / "textune.json").read_text(encoding="utf-8"))
        self._decisions = model.get("decisions", {})
        self.labels, self.pairs = model["labels"], model["columns"]["text_pair"] is not None
        self._long, self._max_length = model["long_text"], model["max_length"]
        self._tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        one, two = (self._tokenizer.num_special_tokens_to_add(pair) for pair in (False, True))
        self._between = "" if two > one else "\n"  # some tokenizers put nothing between two texts
        if self._long["form"] != "head_tail":
            overlap = self._long["overlap"]
            self._tokenizer.enable_truncation(self._max_length, stride=overlap, strategy="longest_first")
        self._most_characters = max(64 * self._max_length, 4096)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, threads
        self._session = onnxruntime.InferenceSession(str(path / "model.onnx"), options, ["CPUExecutionProvider"])
        self._inputs = [graph_input.name for graph_input in self._session.get_inputs()]

    def classify(
        self, *texts: str, abstain: float | bool | None = None, sets: float | bool | None = None
    ) -> dict[str, Any]:
        """Return the label, or the labels, of a text or a pair, with all probabilities; ValueError for no such text.

        abstain: the confidence below which the label is None. sets: the coverage of a set of labels. True: as the model
        was trained for.
        """
        below, quantiles = self._read_abstain(abstain), self._read_quantiles(sets)
        if len(texts) != 1 + self.pairs:
            raise ValueError(f"expected {'two texts' if self.pairs else 'one text'}, not {len(texts)}")
        if not all(map(holds_text, texts)):
            raise ValueError("a text is empty")
        "".join(texts).encode()  # raises ValueError for half a character
        logits = self._predict_logits(*texts) / np.float32(self._manifest["temperature"])
        if self._manifest["thresholds"] is None:
            values = np.exp((logits - logits.max()).astype(np.float64))
            values /= values.sum()
            best = self._choose(values)
            confidence = values[best]
            answer: dict[str, Any] = {"label": self.labels[best], "probability": float(values[best])}
        else:
            with np.errstate(over="ignore"):
                values = 1 / (1 + np.exp(-logits.astype(np.float64)))
            reached = values >= self._manifest["thresholds"]
            confidence = np.where(reached, values, 1 - values).min()
            answer = {"labels": [self.labels[i] for i in np.flatnonzero(reached)]}
        answer["probabilities"] = dict(zip(self.labels, values.tolist(), strict=True))
        if below is not None:
            answer["abstained"] = bool(confidence < below)
            if answer["abstained"]:
                answer["label" if "label" in answer else "labels"] = None
        if quantiles is not None:
            answer["set"] = self._list_set(values, quantiles)
        return answer

    def _choose(self, values: Any) -> int:
        """Return the number of the label that costs, or one label's threshold, or the highest probability decide on."""
        costs, label, cutoff = (self._decisions.get(name) for name in ("costs", "label", "cutoff"))
        if costs is not None:
            return int((values @ np.asarray(costs, np.float64)).argmin())
        if label is None or cutoff is None:
            return int(values.argmax())
        if values[label] >= cutoff:
            return int(label)
        others = values.copy()
        others[label] = -1
        return int(others.argmax())

    def _read_abstain(self, value: float | bool | None) -> float | None:
        if value is None or value is False:
            return None
        below = self._decisions.get("abstain_below") if value is True else float(value)
        if below is None:
            raise ValueError("the model has no confidence to abstain below; give a probability, such as 0.9")
        return float(below)

    def _read_quantiles(self, value: float | bool | None) -> list[float] | None:
        if value is None or value is False:
            return None
        kept = self._decisions.get("quantiles", {})
        name = f"{float(self._decisions.get('coverage', 0.9) if value is True else value):g}"
        if name not in kept:
            raise ValueError(f"the model has no sets of coverage {name}; it has {', '.join(kept) or 'none'}")
        return list(kept[name])

    def _list_set(self, values: Any, quantiles: list[float]) -> list[str]:
        """Return the labels that cannot be ruled out, most probable first; with one label per text at least one."""
        inside = 1 - values <= np.asarray(quantiles, np.float64)
        if self._manifest["thresholds"] is None:
            inside[values.argmax()] = True
        chosen = np.flatnonzero(inside)
        return [self.labels[i] for i in chosen[np.argsort(-values[chosen], kind="stable")]]

    def _predict_logits(self, first: str, second: str | None = None) -> Any:
        """Return the logits, averaged over the windows of a long text: float32 [labels]."""
        encoding = (
            self._tokenizer.encode(first)
            if second is None
            else self._tokenizer.encode(self._cut(first), self._between + self._cut(second))
        )
        windows = [encoding.ids, *(window.ids for window in encoding.overflowing)][: self._long["max_windows"]]
        if self._long["form"] == "head_tail":
            windows = [self._drop_middle(encoding.ids, encoding.special_tokens_mask)]
        second_start = [*encoding.sequence_ids, 1].index(1)
        batches = [windows]
        if self._manifest["exported"]["equal_lengths"]:  # padding would change the answers of this model
            batches = [[w for w in windows if len(w) == length] for length in sorted({len(w) for w in windows})]
        return np.concatenate([self._run(batch, second_start) for batch in batches]).mean(0)

    def _run(self, windows: Sequence[Sequence[int]], second_start: int) -> Any:
        """Run the graph on windows, padded to the longest: float32 [windows, labels]."""
        padding, longest = self._manifest["exported"]["padding"], max(len(ids) for ids in windows)
        arrays = {name: np.zeros((len(windows), longest), np.int64) for name in self._inputs}
        arrays["input_ids"][:] = padding["pad_token_id"]
        for row, ids in enumerate(windows):
            start = 0 if padding["side"] == "right" else longest - len(ids)
            arrays["input_ids"][row, start : start + len(ids)] = ids
            arrays["attention_mask"][row, start : start + len(ids)] = 1
            if "token_type_ids" in arrays and self.pairs:
                arrays["token_type_ids"][row, start + second_start : start + len(ids)] = 1
        return self._session.run(["logits"], arrays)[0]

    def _cut(self, text: str) -> str:
        """Cut a very long text of a pair: the tokenizer would make a part for each two parts of both texts."""
        most = self._most_characters
        return text if len(text) <= most else text.lstrip()[:most]

    def _drop_middle(self, ids: list[int], special: Sequence[int]) -> list[int]:
        """Keep the first and the last tokens of a long text, and the special tokens around it."""
        if len(ids) <= self._max_length:
            return ids
        before, after = special.index(0), special[::-1].index(0)
        room = self._max_length - before - after
        head = round(room * self._long["head_fraction"])
        return [*ids[: before + head], *ids[len(ids) - after - (room - head) :]]


def holds_text(text: str) -> bool:
    """Return whether a text holds anything that prints."""
    kinds = ((char, unicodedata.category(char)) for char in text)
    return any(not (kind.startswith("Z") or kind in ("Cc", "Cf") or char in FILLERS) for char, kind in kinds)


def read_lines() -> Iterator[str]:
    """Yield the lines of standard input.

    A byte order mark tells UTF-16 and UTF-32; else lines that are not UTF-8 are read as Windows-1252, or else Latin-1.
    """
    for number, line in enumerate(decode_lines(), 1):
        if "\0" in line:
            sys.exit(f"error: line {number}: contains a NUL character; save the text as UTF-8")
        if "\r" in line:
            sys.exit(f"error: line {number}: a bare carriage return; save the text with Unix or Windows line endings")
        yield line


def decode_lines() -> Iterator[str]:
    """Yield the lines of standard input without their ends."""
    stream: Any = sys.stdin.buffer
    first = stream.peek(4)
    if found := next(((mark, codec) for mark, codec in MARKS if first.startswith(mark)), None):
        stream.read(len(found[0]))
        yield from decode_wide_lines(stream, found[1])
        return
    for number, raw in enumerate(stream):
        line = raw.removesuffix(b"\n").rstrip(b"\r").removeprefix(b"" if number else b"\xef\xbb\xbf")
        for encoding in ("utf-8", "cp1252", "latin-1"):
            try:
                yield line.decode(encoding)
                break
            except UnicodeDecodeError:
                continue


def decode_wide_lines(stream: Any, codec: str) -> Iterator[str]:
    """Yield the lines of UTF-16 or UTF-32; exit with an error behind those before a damaged one."""
    decoder, rest, number, chunk = codecs.getincrementaldecoder(codec)(), "", 1, b"\n"
    while chunk:
        chunk, damaged = stream.read1(1 << 16), False
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            text, damaged = error.object[: error.start].decode(codec), True
        *lines, rest = (rest + text).split("\n")
        yield from (line.rstrip("\r") for line in lines)
        number += len(lines)
        if damaged:
            name = codec[:6].upper()
            sys.exit(f"error: line {number}: is not {name}, as the byte order mark says; save the text as UTF-8")
    if rest:
        yield rest.rstrip("\r")


def read_shares(words: list[str]) -> list[str]:
    """Return the words with --abstain and --sets joined to the number after them, if there is one."""
    joined: list[str] = []
    for place, word in enumerate(words):
        last = joined[-1] if joined else ""
        if "--" not in words[:place] and last in ("--abstain", "--sets") and is_share(word):
            joined[-1] = f"{last}={word}"
        else:
            joined.append(word)
    end = joined.index("--") if "--" in joined else len(joined)
    return [f"{w}=own" if w in ("--abstain", "--sets") and i < end else w for i, w in enumerate(joined)]


def is_share(word: str) -> bool:
    """Return whether a word is a number from 0 to 1."""
    try:
        return 0 <= float(word) <= 1
    except ValueError:
        return False


def read_share(word: str) -> float | bool:
    """Return the number, or True for a value that was left out; ValueError for anything else."""
    if word == "own":
        return True
    if not is_share(word):
        raise ValueError(word)
    return float(word)


def show_label(label: str) -> str:
    """Return a label on one line, with escapes for characters that do not print."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in label)


def main() -> None:
    """Print label and probability of every text, or all probabilities as JSON; nothing for a blank line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object per text, with all probabilities")
    parser.add_argument("--abstain", type=read_share, metavar="[P]", help="no label below this confidence")
    parser.add_argument("--sets", type=read_share, metavar="[P]", help="sets that hold the true label in this share")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="default: the lines of standard input")
    arguments = parser.parse_args(read_shares(sys.argv[1:]))
    # for a few texts more threads take longer to start than they save
    classifier = Classifier(Path(__file__).parent, threads=1 if arguments.texts else 0)
    classify = functools.partial(classifier.classify, abstain=arguments.abstain, sets=arguments.sets)
    texts, step = arguments.texts, 1 + classifier.pairs
    rows: Any = [texts[i : i + step] for i in range(0, len(texts), step)] or (
        line.split("\t", 1) if classifier.pairs else [line] for line in read_lines()
    )
    for number, row in enumerate(rows, 1):
        try:
            blank = not texts and not holds_text("".join(row))
            answer: dict[str, Any] = {"label": None} if blank else classify(*row)
        except ValueError as error:
            sys.exit(f"error: text {number}: {error}")
        shown = {"text": row[0]} | ({"text_pair": row[1]} if len(row) > 1 else {}) | answer
        if arguments.json:
            line = json.dumps(shown, ensure_ascii=False)
        else:
            names = answer.get("labels") or [name for name in [answer.get("label")] if name]
            values = [f"{answer['probabilities'][name]:.4f}" for name in names]
            line = ", ".join(map(show_label, names)) + "\t" + ", ".join(values)
            line = "(abstained)\t" if answer.get("abstained") else line
            line += f"\t{{{', '.join(map(show_label, answer['set']))}}}" if "set" in answer else ""
        sys.stdout.buffer.write(line.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # whoever read the answers has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
