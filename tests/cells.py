"""The cells of the support matrix, method by family, and what a test of one needs: generated from the registries."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from textune import bundle
from textune.backbones import load_classifier, resolve_backbone
from textune.backbones.families import families
from textune.backbones.pooling import MEAN, Pooling, explain_refusal
from textune.config import build_config, write_settings
from textune.engine import Precision, ReferenceEngine, predict_logits
from textune.files import read_json
from textune.inference import Predictor
from textune.methods import Rates, methods, resolve
from textune.methods.support import list_rows
from textune.progress import Progress, Silent
from textune.run.api import train_and_save
from textune.run.prepare import prepare
from textune.run.save import BundleFacts, TrainedModel, write_bundle
from textune.tasks.single_label import SoftmaxLoss
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import EncodedSplit, collate
from textune.training.head import Network, set_head, start_head, straighten_hidden_layer
from tiny import UNEQUAL, make_rows, open_forkserver, settings_for

_FOR_TINY = {"adapter": {"reduction_factor": 4}}  # a bottleneck of two is soon dead under ReLU
ROWS = {row: (name, _FOR_TINY.get(name, {}) | dict(options)) for row, (name, options) in list_rows().items()}
CELLS = [
    pytest.param(row, family, id=f"{row}-{family}")
    for row, (method, _) in ROWS.items()
    for family in families.names()
    if methods.get(method).refusal(families.get(family)) is None
]
MEAN_CELLS = [
    pytest.param(row, family, MEAN, id=f"{row}-{family}-{MEAN}")
    for row, family in (cell.values for cell in CELLS)
    if explain_refusal(families.get(family)) is None and (family == "bert" or row == "lora")
]
"""Every method on one family, and one method on every family, with the mean over tokens and a solved head."""
POOLED_CELLS = [pytest.param(*cell.values, None, id=cell.id) for cell in CELLS] + MEAN_CELLS

Logits = np.ndarray[Any, Any]


class Case:
    """One method on one family, trained for a few steps by hand.

    pooling: None: the architecture's own, below a random head; "mean" or "first": as in a run, below a solved one.
    """

    untrained: Logits
    """Its logits before the first step, where they were noted."""

    def __init__(self, row: str, folder: Path, classes: int = 2, pooling: str | None = None) -> None:
        name, options = ROWS[row]
        self.backbone = resolve_backbone(str(folder))
        self.method = resolve(name, options)
        self.labels = tuple(f"c{i}" for i in range(classes))
        self.pooling = pooling
        family = self.backbone.family
        torch.manual_seed(1)
        module, self.new_modules = load_classifier(
            self.backbone,
            self.labels,
            load_kwargs=self.method.load_kwargs(family),
            pooling=None if pooling is None else Pooling(pooling, self.method.tokens_before_text),
        )
        if pooling is not None:
            straighten_hidden_layer(module, family, self.new_modules)
        self.model = self.method.apply(module, family, self.new_modules).train()
        self.longest = self.backbone.max_positions - self.method.virtual_tokens
        texts, values = zip(*make_rows(12, classes), strict=True)
        targets = np.unique(values, return_inverse=True)[1].astype(np.int64)
        tokens = encode_texts(load_tokenizer(folder), texts, None, self.longest)
        self.split = EncodedSplit(tokens, targets, np.arange(12))
        self.engine: ReferenceEngine | None = None
        if pooling is not None:
            self._solve_head()
        self.before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self._random = torch.get_rng_state()
        self.restart()

    def _solve_head(self) -> None:
        engine = self.open_engine(self.model.eval())
        network = Network(engine, self.backbone.family, len(self.labels), self.backbone.padding)
        set_head(network, start_head(network, self.split, SoftmaxLoss(), seed=1, strength=1.0))
        engine.release()

    def restart(self, rate: float | None = None) -> Case:
        """Put the trained weights back to where they began; return the case, as if it were newly built."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(self.before[name])
                    parameter.grad = None
        rate = rate or self.method.learning_rate
        groups = self.method.param_groups(self.model.train(), self.backbone.family, Rates(rate, rate, 0.0))
        self.optimizer = torch.optim.AdamW(groups)
        if self.engine is not None:
            self.engine.release()
        self.engine = self.open_engine(self.model)
        torch.set_rng_state(self._random)
        return self

    def open_engine(self, model: torch.nn.Module, precision: str = "fp32") -> ReferenceEngine:
        family = self.backbone.family
        equal_lengths = self.method.needs_equal_lengths(family)
        return ReferenceEngine(model, Precision(precision, "test"), family, equal_lengths=equal_lengths)

    def loss(self) -> torch.Tensor:
        """The mean loss of the one batch that this case has."""
        batch = collate(self.split.tokens, range(12), self.backbone.padding, self.split.targets)
        return torch.nn.functional.cross_entropy(self.engine(batch), torch.from_numpy(batch.targets))

    def step(self) -> None:
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def logits(self, model: torch.nn.Module | None = None) -> np.ndarray[Any, Any]:
        """Logit of UNEQUAL, as one padded batch, by the trained model or another."""
        tokens = encode_texts(load_tokenizer(self.backbone.folder), UNEQUAL, None, self.longest)
        engine = self.engine if model is None else self.open_engine(model)
        split = EncodedSplit(tokens, np.zeros(len(UNEQUAL), int), np.zeros(len(UNEQUAL), int))
        return predict_logits(engine, split, self.backbone.padding)

    def save(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        write_settings(build_config({}), folder / "config.yaml")
        facts = BundleFacts(
            labels=self.labels,
            label_values=self.labels,
            columns=bundle.TextColumns(),
            max_length=self.longest,
            seed=1,
            data_fingerprint="-",
            engine={"name": "reference"},
            pooling=self.pooling,
        )
        write_bundle(folder, TrainedModel(self.model, self.method, self.backbone, self.new_modules), facts)
        return folder

    def load(self, folder: Path, **options: Any) -> Predictor:
        return Predictor.load(folder, backbone=str(self.backbone.folder), precision="fp32", device="cpu", **options)


def has_no_gradient(name: str) -> bool:
    """Softmax ignores what is added to every score alike: the bias of the keys has no gradient but rounding."""
    return name.endswith(("key.bias", "k_lin.bias", "k_proj.bias", "key_proj.bias", "attn.k.bias"))


@contextmanager
def open_fresh_process() -> Iterator[Callable[[Path, Path], Logits]]:
    """Yield what asks one new process, which never trained anything, for the logits of a saved folder."""
    context = open_forkserver()
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs,), daemon=True)
    process.start()

    def ask(run: Path, backbone: Path) -> Logits:
        ours.send((run, backbone))
        answer = ours.recv()
        if isinstance(answer, str):
            raise AssertionError(answer)
        return np.asarray(answer)

    yield ask
    ours.close()
    process.join(10)
    process.kill()


def _answer(pipe: Any) -> None:
    torch.set_num_threads(1)
    while True:
        try:
            run, backbone = pipe.recv()
        except EOFError:
            return
        try:
            predictor = Predictor.load(run, backbone=str(backbone), precision="fp32", device="cpu", merge=False)
            pipe.send(predictor.predict_logits(UNEQUAL))
        except Exception as error:  # the other process raises it
            pipe.send(f"{type(error).__name__}: {error}")


def train_cell(
    row: str, data: Path, backbone: Path, folder: Path, progress: Progress | None = None, *, proven: bool = True,
    **settings: Any,
) -> Path:  # fmt: skip
    """Train and save one cell as a run does, without measuring it, or resume it.

    proven: whether the reload test is made; another run of the same weights may have passed it.
    """
    name, options = ROWS[row]
    config = build_config(settings_for(data, backbone, folder, method={"name": name, **options}, **settings))
    prepared = prepare(config, progress or Silent())
    folder.mkdir(parents=True, exist_ok=True)
    plan = read_json(folder / bundle.PLAN, "plan") if bundle.has_begun(folder) else None
    with nullcontext() if proven else mock.patch("textune.run.save.check_reload", return_value=0.0):
        train_and_save(prepared, folder, progress or Silent(), plan)
    shutil.rmtree(folder / "checkpoints")
    return folder
