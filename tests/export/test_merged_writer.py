"""A merged model that writes chats with transformers alone, in a process that has neither textune nor peft."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

import textune
from textune.errors import BundleError
from textune.run import Run
from tiny import CHAT_TEMPLATE, build_causal, train_tiny, write_prompts

METHODS: dict[str, dict[str, Any]] = {"qlora": {}, "lora": {"dora": True}}
CHATS = [
    [{"role": "user", "content": "red 1"}],
    [{"role": "system", "content": "be short"}, {"role": "user", "content": "blue 2"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "cold 3"}],
]
ALONE = """
import json, sys
sys.modules.update(dict.fromkeys(("textune", "peft", "bitsandbytes")))  # whoever imports them gets an ImportError
import transformers
answers = {}
for folder in sys.argv[2:]:
    pipe = transformers.pipeline("text-generation", folder)
    answers[folder] = [pipe(chat)[0]["generated_text"] for chat in json.loads(sys.argv[1])]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    place = tmp_path_factory.mktemp("writers")
    llama, data = build_causal(place / "llama", template=CHAT_TEMPLATE), write_prompts(place / "rows.jsonl", 24)
    settings = {
        "task": "generation",
        "answer_rows": 1,
        "contrast_steps": None,
        "epochs": 2,
        "max_new_tokens": 8,
        "max_length": 56,
    }
    return {
        name: train_tiny(data, llama, place / name, method={"name": name, **options}, **settings)
        for name, options in METHODS.items()
    }


@pytest.fixture(scope="module")
def merged(runs: dict[str, Run]) -> dict[str, Path]:
    return {name: textune.export(run) for name, run in runs.items()}


def test_a_4_bit_base_is_nf4_with_double_quantisation(runs: dict[str, Run]) -> None:
    model = textune.load(runs["qlora"], device="cpu").model
    states = [p.quant_state for p in model.parameters() if hasattr(p, "quant_state")]
    assert len(states) == 14, "seven layers of each of two blocks"
    assert all(state.quant_type == "nf4" and state.nested for state in states)


@pytest.mark.parametrize("method", METHODS)
def test_no_weight_of_a_merged_model_is_quantised(method: str, merged: dict[str, Path]) -> None:
    folder = merged[method]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {str(weights.get_tensor(name).dtype) for name in weights.keys()} == {"torch.float32"}  # noqa: SIM118
        assert not [name for name in weights.keys() if "lora" in name or "absmax" in name]  # noqa: SIM118


def test_the_card_of_a_model_that_writes_tells_of_no_labels(merged: dict[str, Path]) -> None:
    for folder in merged.values():
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "This folder holds a whole model. It needs transformers alone." in card


def test_it_chats_in_a_process_without_textune(runs: dict[str, Run], merged: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(CHATS), *map(str, merged.values())],
        capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, folder in merged.items():
        model = textune.load(runs[name], precision="fp32", device="cpu", merge=True)
        for chat, whole in zip(CHATS, found[str(folder)], strict=True):
            answer = {"role": "assistant", "content": model.predict(json.dumps(chat))}
            assert whole == [*chat, answer], name


def test_what_is_changed_after_the_proof_is_not_exported(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    save = transformers.LlamaForCausalLM.save_pretrained

    def save_badly(self: Any, folder: str, **options: Any) -> None:
        self.model.layers[0].mlp.down_proj.weight.data *= 1.5
        save(self, folder, **options)

    monkeypatch.setattr(transformers.LlamaForCausalLM, "save_pretrained", save_badly)
    with pytest.raises(BundleError, match="the merged model's logits differ from the run's"):
        textune.export(runs["qlora"], tmp_path / "merged")
    assert not list(tmp_path.iterdir()), "nothing half-written is left"
