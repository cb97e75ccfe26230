"""Learning rates by layer: what each parameter gets, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cells import Case
from textune.backbones import load_classifier, resolve_backbone
from textune.backbones.families import families
from textune.config import build_config
from textune.errors import ConfigError
from textune.files import read_json_lines
from textune.methods import Rates, resolve
from textune.methods.rates import EMBEDDINGS, parse_layer_rates
from tiny import train_tiny


def rates_of(case: Case, **options: Any) -> dict[str, float]:
    """Parameter name -> its learning rate."""
    names = {id(p): n for n, p in case.model.named_parameters()}
    groups = case.method.param_groups(case.model, case.backbone.family, Rates(1e-3, 5e-3, 0.0, **options))
    return {names[id(p)]: g["lr"] for g in groups for p in g["params"]}


def test_lower_and_upper_half_of_full_tuning(backbones: dict[str, Path]) -> None:
    found = rates_of(Case("full", backbones["bert"]), layer_rates=(("lower", 5e-5), ("upper", 1e-4)))
    for name, rate in found.items():
        below = "embeddings" in name or "layer.0." in name
        expected = 5e-5 if below else 1e-4 if "layer.1." in name else 5e-3 if "classifier" in name else 1e-3
        assert rate == expected, name
    assert set(found.values()) == {5e-5, 1e-4, 1e-3, 5e-3}, "the pooler learns at the rate of the rest"


def test_embeddings_may_be_named_apart_and_decay_goes_down(backbones: dict[str, Path]) -> None:
    case = Case("full", backbones["electra"])
    apart = rates_of(case, layer_rates=(("embeddings", 1e-6), ("lower", 5e-5)))
    assert all((rate == 1e-6) == ("embeddings" in name) for name, rate in apart.items())
    decayed = rates_of(case, layer_decay=0.1)
    assert {round(r, 9) for n, r in decayed.items() if "layer.1." in n} == {1e-3}
    assert {round(r, 9) for n, r in decayed.items() if "layer.0." in n} == {1e-4}
    assert {round(r, 9) for n, r in decayed.items() if "embeddings" in n} == {1e-5}


def test_lora_plus_composes_with_rates_by_layer(backbones: dict[str, Path]) -> None:
    found = rates_of(Case("lora+lora_plus", backbones["distilbert"]), layer_decay=0.5)
    for name, rate in found.items():
        if "lora_" in name:
            assert rate == pytest.approx(1e-3 * (0.5 if "layer.0." in name else 1) * (4 if "lora_B" in name else 1))


@pytest.mark.parametrize("row", ["head", "prompt", "p_tuning"])
def test_method_that_trains_nothing_inside_the_layers_says_so(row: str, backbones: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="no effect"):
        rates_of(Case(row, backbones["roberta"]), layer_decay=0.9)


def test_shared_layers_and_two_ways_at_once_are_refused(backbones: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="share the same weights"):
        rates_of(Case("full", backbones["albert"]), layer_decay=0.9)
    with pytest.raises(ConfigError, match="cannot be combined"):
        rates_of(Case("full", backbones["bert"]), layer_decay=0.9, layer_rates=(("lower", 1e-4),))


@given(st.integers(2, 48).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 2))))
def test_spans_cover_what_they_name(layers: tuple[int, int]) -> None:
    count, cut = layers
    given_rates = parse_layer_rates(((f"0-{cut}", 1.0), (f"{cut + 1}-{count - 1}", 2.0)), count)
    assert given_rates == {i: 1.0 if i <= cut else 2.0 for i in range(count)}
    halves = parse_layer_rates((("lower", 1.0), ("upper", 2.0)), count)
    assert halves == {i: 1.0 if i < count // 2 else 2.0 for i in range(EMBEDDINGS, count)}


@pytest.mark.parametrize(
    ("words", "reason"),
    [("middle", "unknown layers"), ("0-9", "no layers"), ("3-1", "no layers"), ("-1", "unknown layers")],
)
def test_layers_that_are_not_there_are_refused(words: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_layer_rates(((words, 1e-3),), 6)


def test_layer_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"layer 2 is named twice, in '2' and in '1-4'"):
        parse_layer_rates((("2", 1e-3), ("1-4", 1e-3)), 6)


def test_settings_reach_the_optimizer(backbone: Path, reviews: Path, tmp_path: Path) -> None:
    config = build_config({"layer_rates": "lower=5e-5, upper=1e-4"})
    assert config.training.layer_rates == (("lower", 5e-5), ("upper", 1e-4))
    assert build_config({"layer_rates": {"0": 1e-3}}).training.layer_rates == (("0", 1e-3),)
    with pytest.raises(ConfigError, match="of the form lower=5e-5"):
        build_config({"layer_rates": "lower"})
    run = train_tiny(reviews, backbone, tmp_path / "run", epochs=1, layer_rates="lower=0,upper=0")
    steps = [line for line in read_json_lines(run.folder / "metrics.jsonl") if line["kind"] == "step"]
    assert steps and "layer_rates" in (run.folder / "config.yaml").read_text()


@pytest.mark.parametrize("rank", [1, 2])
def test_weight_decay_is_that_of_any_rank(rank: int, backbones: dict[str, Path]) -> None:
    module, new_modules = load_classifier(resolve_backbone(str(backbones["bert"])), ("a", "b"))
    method, family = resolve("lora", {"r": rank}), families.get("bert")
    groups = method.param_groups(method.apply(module, family, new_modules), family, Rates(1e-3, 5e-3, 0.1))
    decayed = sum(len(group["params"]) for group in groups if group["weight_decay"] and "head" not in group["name"])
    assert decayed == sum(len(group["params"]) for group in groups if "head" not in group["name"]) > 0
