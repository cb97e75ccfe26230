"""Tiny models, tables and runs for the tests: built here, in about a second, from nothing."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from textune.bundle import read_manifest
from textune.config import build_config
from textune.files import hash_files
from textune.progress import Silent
from textune.run import Run, train_config
from textune.run.save import update_manifest

GOOD = ("good", "great", "warm", "funny", "lovely", "fine", "superb", "bright")
BAD = ("bad", "awful", "dull", "slow", "boring", "poor", "weak", "grim")
NEUTRAL = ("the", "film", "was", "a", "story", "with", "and", "its", "actors", "scene", "music", "very", "quite")

_SHARED = {"num_labels": 2, "vocab_size": 200, "initializer_range": 0.2}  # wide, so that logits differ much
_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_WORD_PIECES = _SHARED | {"pad_token_id": 0, "max_position_embeddings": 64}
_BYTE_PAIRS = _SHARED | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_DECODER = _BYTE_PAIRS | _BERT | {"num_key_value_heads": 1, "head_dim": 12, "max_position_embeddings": 64}
_DECODER_SQUARE = _DECODER | {"head_dim": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": _WORD_PIECES | _BERT | {"type_vocab_size": 2},
    "distilbert": _WORD_PIECES | {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "roberta": _BYTE_PAIRS | _BERT | {"max_position_embeddings": 66, "type_vocab_size": 1},
    "xlm-roberta": _BYTE_PAIRS | _BERT | {"max_position_embeddings": 66, "type_vocab_size": 1},
    "electra": _WORD_PIECES | _BERT | {"embedding_size": 24},
    "albert": _WORD_PIECES | _BERT | {"embedding_size": 24},
    "deberta-v2": _WORD_PIECES | _BERT | {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "type_vocab_size": 0,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False},
    "modernbert": _WORD_PIECES | _BERT | {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2,
                                          "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "mpnet": _BYTE_PAIRS | _BERT | {"max_position_embeddings": 66},
    "gpt2": _SHARED | {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 2,
                       "eos_token_id": 2},
    "llama": _DECODER_SQUARE | {"pad_token_id": None},
    "qwen2": {k: v for k, v in _DECODER_SQUARE.items() if k != "head_dim"},
    "qwen3": _DECODER,
    "gemma": _DECODER,
    "gemma2": _DECODER,
    "gemma3_text": _DECODER | {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
}  # fmt: skip
"""A family that is registered and stands not here fails the contract tests: give it a tiny configuration."""

FAST: dict[str, Any] = {
    "epochs": 2, "batch_size": 8, "max_length": 32, "threads": 1, "precision": "fp32", "device": "cpu",
    "learning_rate": 5e-3, "validation_fraction": 0.15, "contrast_steps": 0,
}  # fmt: skip
"""Settings of a run of about a second. Left open, contrast alone takes forty steps on so few rows."""

COMMAND = (sys.executable, "-c", "from textune.cli import main; main()")

UNEQUAL = ("good", "the film was a dull and slow story", "lovely music and a very funny scene with its actors " * 2)
"""Texts of quite unequal length, so that a batch of them is padded."""


def build_backbone(family: str, folder: Path, seed: int = 0) -> Path:
    """Save a random encoder with its tokenizer as save_pretrained does; return the folder."""
    import torch
    import transformers
    from tokenizers import normalizers

    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family])
    transformers.AutoModel.from_config(config).save_pretrained(str(folder), safe_serialization=True)
    tokenizer = build_byte_pairs() if FAMILIES[family].get("eos_token_id") == 2 else build_word_pieces()
    if family == "qwen2":  # transformers gives it this form whatever the file says, as real ones do
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    tokenizer.save_pretrained(str(folder))
    return folder


CHAT_TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
WORDS = ("red", "blue", "green", "cold")


def build_causal(folder: Path, family: str = "llama", template: str | None = None, seed: int = 0) -> Path:
    """Save a random causal model with its output layer and a tokenizer of bytes; return the folder."""
    import torch
    import transformers

    torch.manual_seed(seed)
    settings = {k: v for k, v in FAMILIES[family].items() if k != "num_labels"} | {"eos_token_id": 2}
    config = transformers.AutoConfig.for_model(family, **settings)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(str(folder), safe_serialization=True)
    tokenizer = build_byte_pairs()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(str(folder), save_jinja_files=False)
    return folder


def make_prompts(rows: int) -> list[dict[str, str]]:
    """Return prompts, no two alike, whose answer is told by their first word."""
    return [{"prompt": f"{WORDS[i % 4]} {i}", "completion": WORDS[(i + 1) % 4]} for i in range(rows)]


def write_prompts(path: Path, rows: int = 40) -> Path:
    """Write prompts and answers as JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in make_prompts(rows)), encoding="utf-8")
    return path


class Backbones(dict[str, Path]):
    """Family -> folder of its tiny model, built when it is first asked for."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self._place = place

    def __missing__(self, family: str) -> Path:
        self[family] = build_backbone(family, self._place / f"tiny-{family}")
        return self[family]


def build_word_pieces() -> Any:
    """Return a BERT tokenizer over the words of the tables, and letters for all others."""
    import transformers

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?=-'\""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *(w for w in NEUTRAL if len(w) > 1)]
    words += [*letters, *(f"##{letter}" for letter in letters)]
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=64)


def build_byte_pairs() -> Any:
    """Return a RoBERTa tokenizer of bytes alone, without merges: an id below 200 stands for most ASCII characters."""
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    characters = [*sorted(ByteLevel.alphabet())[: 199 - len(special)], "Ġ"]
    vocabulary = {token: i for i, token in enumerate([*special, *dict.fromkeys(characters)])}
    return transformers.RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=64)


def make_rows(rows: int, classes: int = 2) -> list[tuple[str, str]]:
    """Return (text, label) rows, no two alike, whose class is told by one word."""
    names = ("negative", "positive") if classes == 2 else tuple(f"class{i}" for i in range(classes))
    words = (BAD, GOOD) if classes == 2 else tuple((w,) for w in (*BAD, *GOOD)[:classes])
    made = []
    for i in range(rows):
        label = i % classes
        filler = " ".join(NEUTRAL[(i * k + k) % len(NEUTRAL)] for k in range(1, 3 + i % 7))
        made.append((f"{filler} {words[label][i // classes % len(words[label])]} {i}", names[label]))
    return made


def write_reviews(path: Path, rows: int = 40, classes: int = 2) -> Path:
    """Write a CSV with the columns text, label and number."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label", "number"))
        writer.writerows((text, label, i) for i, (text, label) in enumerate(make_rows(rows, classes)))
    return path


def settings_for(data: Path | str, backbone: Path | str, folder: Path, **settings: Any) -> dict[str, Any]:
    """Return flat settings of a run of about a second that goes to `folder`."""
    place = {"name": folder.name, "runs_dir": str(folder.parent)}
    return FAST | {"data": str(data), "backbone": str(backbone), **place} | settings


def train_tiny(data: Path | str, backbone: Path | str, folder: Path, progress: Any = None, **settings: Any) -> Run:
    """Train in this process."""
    return train_config(build_config(settings_for(data, backbone, folder, **settings)), progress=progress or Silent())


def copy_changeable(run: Path, place: Path) -> Path:
    """Copy a run without the hashes of its figures, which older runs have none of, so that a test may change them."""
    shutil.copytree(run, place)
    update_manifest(place, figures={})
    return place


def mark_exported(folder: Path) -> None:
    """Let a copy of a run say that it is an ONNX export."""
    (folder / "model.onnx").write_bytes(b"a graph")
    files = dict(read_manifest(folder).files) | hash_files(folder, ["model.onnx"])
    update_manifest(folder, exported={"form": "onnx", "padding": {"pad_token_id": 0}}, files=files)


class StopAt(Silent):
    """Raises a signal in this process when so many steps are taken; keeps what was said."""

    def __init__(self, step: int | None = None, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.said: list[str] = []
        self._step, self._number, self._taken, self._training = step, number, 0, False

    def say(self, line: str) -> None:
        self.said.append(line)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[StopAt]:
        self._training = name == "training"  # what comes before has no checkpoint to go on from
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._taken += steps if self._training else 0
        if self._taken == self._step:
            signal.raise_signal(self._number)


def hash_weights(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the weight files at the top of a run folder."""
    from textune.files import hash_file

    return {p.name: hash_file(p) for p in folder.glob("*.safetensors")}


@dataclass
class Command:
    """A command line at work in a process of its own."""

    process: Any
    output: Path
    errors: Path

    @property
    def stdout(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self.errors.read_text(encoding="utf-8")

    def wait(self) -> int:
        """Return the exit code; a signal's is negative."""
        self.process.join(600)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"it does not end: {self.stderr}")
        return int(self.process.exitcode)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


def open_forkserver() -> ForkServerContext:
    """Return the context whose processes are forked from a server that has imported torch and the rest once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parent), before))
    try:
        forkserver.ensure_running()  # which hands no sys.path on
    finally:
        os.environ["PYTHONPATH"] = before
    return context


def run_in_two_processes(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in two processes at once, with its rank before the arguments; raise what they raise."""
    import torch

    open_forkserver()
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method="forkserver")


def start_textune(
    *words: str,
    cwd: Path,
    stdin: str = "",
    terminal: str | None = None,
    die_in: tuple[str, int] | None = None,
    main: str = "textune.cli:main",
) -> Command:
    """Start the command line, or another main function, in a process of its own.

    stdin: what standard input holds; terminal: the device that it is, instead.
    die_in: ("module:function", n): the process kills itself, as kill -9 does, when it enters that function the n-th
    time.
    """
    context = open_forkserver()
    place = Path(tempfile.mkdtemp(prefix="command-", dir=cwd.parent))
    (place / "stdin").write_text(stdin, encoding="utf-8")
    process = context.Process(target=_run_here, args=(main, words, cwd, place, terminal, dict(os.environ), die_in))
    process.start()
    return Command(process, place / "stdout", place / "stderr")


def call_textune(*words: str, cwd: Path, code: int | None = 0, **options: Any) -> Command:
    """Run the command line to its end and checks the exit code."""
    command = start_textune(*words, cwd=cwd, **options)
    found = command.wait()
    assert code is None or found == code, f"exit code {found}, expected {code}: {command.stderr}"
    return command


def call_here(capsys: Any, *words: str) -> tuple[int, str, str]:
    """Run a command in this process: exit code, standard output, standard error."""
    import pytest

    from textune.cli import main as run_command

    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run_command(words)
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out, shown.err


def _run_here(
    main: str, words: Sequence[str], cwd: Path, place: Path, terminal: str | None, environment: dict[str, str],
    die_in: tuple[str, int] | None,
) -> None:  # fmt: skip
    import torch

    for name in {"COLUMNS", "LINES"} - environment.keys():  # readline sets them in the server's environment
        os.environ.pop(name, None)
    os.environ.update(environment)
    os.chdir(cwd)
    torch.set_num_threads(1)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        path = Path(terminal) if terminal and name == "stdin" else place / name
        stream = path.open(mode, encoding="utf-8", buffering=1)
        os.dup2(stream.fileno(), number)
        setattr(sys, name, stream)
    if die_in is not None:
        _die_in(*die_in)
    module, _, name = main.partition(":")
    sys.exit(getattr(importlib.import_module(module), name)(words))


def _die_in(place: str, number: int) -> None:
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), itertools.count(1)

    def die(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, die)


def call_in_subprocess(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a fresh interpreter."""
    return subprocess.run(
        [*COMMAND, *words], cwd=cwd, env=os.environ | environment, text=True, capture_output=True, timeout=600,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as the words of the command line."""
    return [f"{key}={value}" for key, value in settings.items()]
