"""Export a run that writes as one merged model, which transformers' text-generation pipeline loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.backbones.quiet import quiet_transformers
from textune.engine.same_logits import PROBES, require_same
from textune.errors import BundleError
from textune.export.marker import write_marker
from textune.export.readme import write_merged_readme
from textune.export.tokenizer import copy_tokenizer
from textune.files import write_folder
from textune.inference import Predictor
from textune.report.writer_snippets import list_options


def write_merged_writer(run: Path, output: Path, predictor: Predictor) -> Path:
    """Write the folder: weights, tokenizer with its chat template, and how answers are written.

    It is loaded again and must give the run's logits after the same prompts. Raises BundleError.
    """
    import transformers

    expected = predictor.predict_logits(PROBES)
    model: Any = predictor.model
    model.config._name_or_path = ""
    with write_folder(output) as partial, quiet_transformers():
        model.generation_config = transformers.GenerationConfig(**list_options(predictor.manifest))
        model.save_pretrained(str(partial), safe_serialization=True)
        copy_tokenizer(run, partial, predictor)
        write_merged_readme(partial, run, predictor.manifest, output.name, [])
        _check(partial, predictor, expected)
        write_marker(partial, "merged")
    return output


def _check(folder: Path, predictor: Predictor, expected: NDArray[Any]) -> None:
    import torch
    import transformers

    assert predictor.generator is not None
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), local_files_only=True, dtype=torch.float32, output_loading_info=True
    )
    if info["missing_keys"]:
        raise BundleError(f"{folder}: the merged model lacks weights: {', '.join(sorted(info['missing_keys']))}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    logits = []
    for prompt, ids in zip(PROBES, predictor.generator.encode(PROBES), strict=True):
        with torch.inference_mode():
            logits.append(model.eval()(torch.tensor([ids])).logits[0, -1].float().numpy())
        _check_template(folder, predictor, tokenizer, prompt, ids)
    require_same(expected, np.stack(logits), f"{folder}: the merged model's logits differ from the run's")


def _check_template(folder: Path, predictor: Predictor, tokenizer: Any, prompt: str, ids: list[int]) -> None:
    """Raise BundleError where transformers would write a chat otherwise."""
    if predictor.manifest.writing["chat_template"] is None:
        return
    message = [{"role": "user", "content": prompt}]
    theirs = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]
    if list(theirs)[-len(ids) :] != ids:
        raise BundleError(f"{folder}: its chat template gives other tokens than the run's: {json.dumps(prompt)}")
