"""The forecast of evaluation: what it does for a limited number of rows does not grow with the rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from textune.config import build_config
from textune.errors import ModelError
from textune.plan import measuring
from textune.plan.measuring import Measuring
from textune.progress import Silent
from textune.run.explained_errors import count_explained
from textune.run.fit import SolvedHead
from textune.run.prepare import Prepared, prepare
from tiny import build_causal, settings_for, write_prompts, write_reviews

ANSWER_ROWS = 100


class Machine:
    """A clock that jobs advance by what they take, in place of the jobs."""

    def __init__(self, prepared: Prepared, monkeypatch: pytest.MonkeyPatch, *, explains: bool = True) -> None:
        self.now, self._explains, self._prepared = 0.0, explains, prepared
        self.manifest: Any = SimpleNamespace(writing={"answer_rows": ANSWER_ROWS, "max_new_tokens": 50}, seed=1)
        generator = SimpleNamespace(
            answer_rows=ANSWER_ROWS,
            plan=lambda prompts: [range(at, min(at + 32, len(prompts))) for at in range(0, len(prompts), 32)],
            write=lambda prompts: self._pass(0.01 * len(prompts)),
        )
        predictor = SimpleNamespace(load=lambda *_, **__: SimpleNamespace(generator=generator))
        monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(measuring, "Predictor", predictor)
        monkeypatch.setattr(measuring, "update_manifest", self._update)
        monkeypatch.setattr(measuring, "explain_errors", self._explain)
        monkeypatch.setattr(measuring, "evaluate", lambda part, _, __, manifest, ___: self.evaluate(part, manifest))

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def _update(self, folder: Path, writing: dict[str, int]) -> Any:
        self.manifest = SimpleNamespace(writing=writing, seed=1)
        return self.manifest

    def _explain(self, *_: Any) -> None:
        if not self._explains:
            raise ModelError("its answers cannot be explained")
        self._pass(0.3)

    def evaluate(self, part: Prepared, manifest: Any) -> Any:
        rows = len(part.data.evaluation[1])
        self._pass(0.5 + 0.001 * rows)
        if part.task.writes:
            answers, tokens = min(rows, manifest.writing["answer_rows"]), manifest.writing["max_new_tokens"]
            self._pass(2 * 0.01 * answers * tokens / 50)
            return SimpleNamespace(rows=(), errors=(), explanations={})
        explained = count_explained(rows) if self._explains else 0
        likelihood = 1 + 0.005 * min(rows, 200)
        self._pass(0.3 * explained + likelihood)
        row = SimpleNamespace(key="likelihood", seconds=likelihood, evaluation=SimpleNamespace(rows=min(rows, 200)))
        return SimpleNamespace(rows=(row,), errors=(None,) * 20, explanations=dict.fromkeys(range(explained)))

    def forecast(self, folder: Path, many: int) -> tuple[float, float]:
        """Return the forecast from parts of so many rows, and what the whole takes."""
        prepared, written = self._prepared, self.manifest
        found = Measuring(prepared, SolvedHead(), folder, written, Silent())
        read = 2 + len(prepared.train) / len(prepared.data.evaluation[1])
        seconds = found.forecast(per_row=0.01, budget=read * 0.01 * (many + 0.5))
        assert vars(self.manifest) == vars(written), "the manifest is as it was"
        started_at = self.now
        self.evaluate(prepared, written)
        return seconds, self.now - started_at


@pytest.mark.parametrize("many", [32, 400, 2_000])
def test_answers_are_written_to_a_limited_number_of_rows(
    many: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, test = write_prompts(tmp_path / "data.jsonl"), write_prompts(tmp_path / "test.jsonl", rows=1_000)
    backbone = build_causal(tmp_path / "llama")
    flat = settings_for(
        data, backbone, tmp_path / "run", task="generation", test=str(test), contrast_steps=None
    )  # fmt: skip
    machine = Machine(prepare(build_config(flat), Silent()), monkeypatch)
    seconds, real = machine.forecast(tmp_path, many)
    assert real == pytest.approx(0.5 + 1 + 2)
    assert seconds == pytest.approx(real, abs=0.01)


@pytest.mark.parametrize("explains", [True, False])
@pytest.mark.parametrize("many", [32, 150, 700, 2_000])
def test_likelihood_and_explanations_do_not_grow_with_the_rows(
    many: int, explains: bool, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, test = write_reviews(tmp_path / "data.csv"), write_reviews(tmp_path / "test.csv", rows=2_000)
    config = build_config(settings_for(data, backbone, tmp_path / "run", test=str(test)))
    machine = Machine(prepare(config, Silent()), monkeypatch, explains=explains)
    seconds, real = machine.forecast(tmp_path, many)
    assert real == pytest.approx(0.5 + 2 + 2 + 5 * 0.3 * explains)
    assert seconds == pytest.approx(real)
