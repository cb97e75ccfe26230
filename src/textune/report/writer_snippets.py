"""Python code that loads a model that writes, with peft or transformers alone."""

from __future__ import annotations

import json

from textune.backbones.families import families
from textune.backbones.smollm import SMOLLM2
from textune.bundle import Manifest
from textune.methods import resolve_saved

PROMPT = "a prompt"
"""What the lines answer."""
_PLACE = "  # the path of this folder"


def reload_writer(manifest: Manifest, name: str) -> str | None:
    """Return the lines that load a run and answer a prompt without textune; None where only textune can."""
    folder = f"folder = {json.dumps(name)}{_PLACE}, or its id on the hub"
    if "adapter_config.json" in manifest.files:
        family = families.get(manifest.base_model.family) if manifest.base_model.family in families.names() else None
        method = resolve_saved(manifest.method, manifest.method_options)
        arguments = ", ".join(['dtype="float32"', *([] if family is None else method.plain_load(family))])
        imports = "import peft, transformers" if "torch." not in arguments else "import peft, torch, transformers"
        load = _load_by_peft(manifest, arguments)
    elif "model.safetensors" in manifest.files:
        imports = "import transformers"
        load = [
            'config = transformers.AutoConfig.from_pretrained(folder, subfolder="backbone")',
            'model = transformers.AutoModelForCausalLM.from_pretrained(folder, config=config, dtype="float32")',
        ]
    else:
        return None
    return "\n".join([imports, folder, *load, *_answer(manifest)])


def _load_by_peft(manifest: Manifest, arguments: str) -> list[str]:
    if manifest.base_model.local:  # the adapter's file names its base, but not where it is
        base = f"transformers.AutoModelForCausalLM.from_pretrained(base, {arguments})"
        return [name_base(manifest), f"model = peft.PeftModel.from_pretrained({base}, folder)"]
    return [f"model = peft.AutoPeftModelForCausalLM.from_pretrained(folder, {arguments})"]


def name_base(manifest: Manifest) -> str:
    """Return the lines that say which base model a run needs."""
    if manifest.base_model.sha256 == SMOLLM2.sha256:
        return "\n".join(
            [
                f"# textune makes this base model from a package: {SMOLLM2.how_to_install}",
                "# `textune export RUN -o FOLDER` writes a whole model for transformers alone.",
                "from textune.backbones import resolve_backbone",
                f"base = str(resolve_backbone({json.dumps(SMOLLM2.name)}).folder)",
            ]
        )
    where = "  # the path of the base model, which was a local folder" if manifest.base_model.local else ""
    return f"base = {json.dumps(manifest.base_model.id, ensure_ascii=False)}{where}"


def _answer(manifest: Manifest) -> list[str]:
    options = ", ".join(f"{name}={value!r}" for name, value in list_options(manifest).items())
    prompt = json.dumps(PROMPT)
    inputs = f'tokenizer({prompt} + "\\n", return_tensors="pt")'
    if manifest.writing["chat_template"] is not None:
        message = f'[{{"role": "user", "content": {prompt}}}]'
        more = 'add_generation_prompt=True, return_dict=True, return_tensors="pt"'
        inputs = f"tokenizer.apply_chat_template({message}, {more})"
    return [
        "tokenizer = transformers.AutoTokenizer.from_pretrained(folder)",
        f"inputs = {inputs}",
        "model.generation_config = transformers.GenerationConfig()  # the arguments alone decide",
        f"ids = model.generate(**inputs, {options})",
        'print(tokenizer.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))',
    ]


def list_options(manifest: Manifest) -> dict[str, object]:
    """Return the arguments of transformers' generate that write as the run does."""
    stored = manifest.writing
    options: dict[str, object] = {"max_new_tokens": stored.get("max_new_tokens", 256), "do_sample": False}
    if stored.get("temperature"):
        options |= {"do_sample": True, "temperature": stored["temperature"], "top_p": stored.get("top_p") or 1.0}
        options["top_k"] = 0
    stops = list(stored.get("stop_token_ids") or ())
    return options | ({"eos_token_id": stops} if stops else {}) | {"pad_token_id": manifest.pad_token_id}


def reload_merged_writer(manifest: Manifest, name: str) -> str:
    """Return the lines that load a merged model with transformers and answer a prompt."""
    prompt = json.dumps(PROMPT)
    if manifest.writing["chat_template"] is not None:
        prompt = f'[{{"role": "user", "content": {prompt}}}]'
    else:
        prompt += ' + "\\n"'
    return "\n".join(
        [
            "from transformers import pipeline",
            f"folder = {json.dumps(name)}{_PLACE}, or its id on the hub",
            'write = pipeline("text-generation", folder)',
            f'print(write({prompt}, return_full_text=False)[0]["generated_text"])',
        ]
    )
