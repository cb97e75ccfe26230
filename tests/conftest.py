"""What every test relies on: no network, a cache of its own, and tiny backbones built from configurations."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: later it has no effect
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Tiny models gain nothing from threads, and processes side by side would wait for each other's barriers.
os.environ["OMP_NUM_THREADS"] = "1"

import gc
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

from children import Forked
from graphs import Graphs
from preloaded import RARE, skip_flush
from textune.export.onnx import _write_graph as write_graph
from textune.run import Run
from tiny import Backbones, train_tiny, write_reviews

# A fixed seed, so that a commit gives the same answer nearly always; a busy machine is slow now and then.
settings.register_profile("textune", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)  # pytest --hypothesis-profile explore: other examples every time
settings.load_profile("textune")

skip_flush()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-support", metavar="FILE", help="write which cells passed every contract test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process; those of the contract go family by family."""
    for item in items:
        group = str(item.path.relative_to(item.config.rootpath))
        if item.path.name.endswith("contract.py") and hasattr(item, "callspec"):
            group += item.callspec.params.get("family", "")
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the collector what stays to the end, modules and test items, and let it look less often at the rest.

    Each costs a tenth of the suite's time. Tests that wait for an object to go call gc.collect themselves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARE)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-support") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SupportRecorder(Path(config.getoption("--record-support"))))


PROVEN, MEAN, WRITING = "proven", "mean", "writing"
"""What is recorded: methods on classifiers, the same with mean pooling, and methods on models that write."""


class SupportRecorder:
    """Writes which cells of the support matrix passed all of a contract's tests; the other contract's record stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed: dict[str, dict[str, set[str]]] = {}
        self._failed: set[tuple[str, str]] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = re.fullmatch(r"tests/methods/test_(\w+).py::(\w+)\[(.+)\]", report.nodeid.partition("@")[0])
        kind = None if found is None else {"contract": PROVEN, "writing_contract": WRITING}.get(found[1])
        if found is None or kind is None or found[3].count("-") == 0:
            return
        cell = found[3].removesuffix(f"-{MEAN}")
        kind = kind if cell == found[3] else MEAN
        if report.when == "call" and report.passed:
            self._passed.setdefault(kind, {}).setdefault(cell, set()).add(found[2])
        elif not report.passed:
            self._failed.add((kind, cell))

    def _list_tests(self, kind: str) -> list[str]:
        return sorted(set().union(*self._passed.get(kind, {}).values()))

    def pytest_sessionfinish(self) -> None:
        from textune.backbones.families import families
        from textune.methods.support import list_rows
        from textune.version import list_versions

        versions = {name: version.partition("+")[0] for name, version in list_versions().items()}  # +cpu is a build
        record = (
            json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {"tests": [], PROVEN: {}}
        )
        record["versions"] = versions
        for kind in (kind for kind in (PROVEN, MEAN, WRITING) if kind in self._passed):
            tests = set(self._list_tests(kind))
            record["tests"] = sorted(tests) if kind == PROVEN else record["tests"]
            record[kind] = {
                row: [family for family in families.names()
                      if self._passed[kind].get(f"{row}-{family}") == tests
                      and (kind, f"{row}-{family}") not in self._failed]
                for row in list_rows()
            }  # fmt: skip
        self._path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def textune_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the tests out of the person's own cache."""
    place = tmp_path_factory.mktemp("cache")
    os.environ["TEXTUNE_CACHE"] = str(place)
    return place


@pytest.fixture(autouse=True)
def _unlinked_environment(monkeypatch: pytest.MonkeyPatch, textune_cache: Path) -> None:
    """Undoe what a test did to the variables that textune reads."""
    monkeypatch.setenv("TEXTUNE_CACHE", str(textune_cache))
    for name in ("HF_TOKEN", "COLUMNS", "LINES"):  # the last two come from whatever terminal started the tests
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _quick_children() -> Iterator[None]:
    """Fork what a command of this process starts. Commands in processes of their own start theirs as always."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textune.process.child.subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": Forked}))
        yield


@pytest.fixture(scope="session", autouse=True)
def _graphs_written_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Export the same model to the same ONNX graph only once, for all workers: it takes five seconds each time."""
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "graphs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textune.export.onnx._write_graph", Graphs(place, write_graph))
        yield


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> folder of a tiny random model with its tokenizer, each built when it is first asked for."""
    return Backbones(tmp_path_factory.mktemp("backbones"))


@pytest.fixture(scope="session")
def backbone(backbones: dict[str, Path]) -> Path:
    """The smallest of them, where the family does not matter."""
    return backbones["distilbert"]


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 60 easy reviews: text, label (negative, positive), stars."""
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", rows=60)


@pytest.fixture(scope="session")
def few_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many as the shortest run needs that can be interrupted."""
    return write_reviews(tmp_path_factory.mktemp("few") / "reviews.csv", rows=20)


@pytest.fixture(scope="session")
def fewest_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Too few to calibrate on, which would train every case twice more."""
    return write_reviews(tmp_path_factory.mktemp("fewest") / "reviews.csv", rows=15)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, backbone: Path, reviews: Path) -> Run:
    """One finished LoRA run, begun with contrast as the rules have it. Tests that change a run copy it first."""
    return train_tiny(reviews, backbone, tmp_path_factory.mktemp("finished") / "reviews", epochs=4, contrast_steps=None)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
