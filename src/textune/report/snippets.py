"""Python code that loads a run, with and without textune, for the report and the model card."""

from __future__ import annotations

from pathlib import Path

from textune.backbones.families import Family, families
from textune.backbones.pooling import EPSILON, MEAN, WITH_POOLER, Pooling, needs_hook, pooling_settings
from textune.backbones.pooling_layer import can_add_layer
from textune.bundle import Manifest
from textune.errors import show_command
from textune.methods import resolve_saved


def reload_by_textune(name: str) -> str:
    """Return the lines that load a run with textune."""
    return f'import textune\nmodel = textune.load("{name}")\nmodel.predict(["a text to classify"])'


def reload_without_textune(manifest: Manifest, name: str) -> str:
    """Return the lines that load a run with peft or transformers only; with textune if there is no other way."""
    if "adapter_config.json" in manifest.files:
        return _reload_by_peft(manifest, name)
    if not resolve_saved(manifest.method, manifest.method_options).mergeable:
        return f"# {manifest.method} adds modules that transformers does not have\n{reload_by_textune(name)}"
    family = _find_family(manifest)
    in_the_layers = manifest.pooling != MEAN or family is None or can_add_layer(family)
    return (
        f"# once, with textune: {show_command('export', Path(name), '--to', 'merged', '--output', 'merged')}\n"
        + ("" if in_the_layers else "import torch\n")
        + "from transformers import pipeline\n"
        'classify = pipeline("text-classification", "merged", truncation=True'
        + (", top_k=None)" if manifest.thresholds else ")")
        + ("" if in_the_layers else _pool(manifest, "classify.model", 0))
        + _apply_thresholds(manifest, merged=True)
    )


def _find_family(manifest: Manifest) -> Family | None:
    name = manifest.base_model.family
    return families.get(name) if name in families.names() else None


def _reload_by_peft(manifest: Manifest, name: str) -> str:
    names = ", ".join(f"{i}: {label!r}" for i, label in enumerate(manifest.labels))
    arguments = [f"id2label={{{names}}}"]
    family, imports = _find_family(manifest), ["peft", "transformers"]
    if family is not None:
        if family.decoder:  # few decoders define a pad token, and without one they take one text at a time
            arguments.append(f"pad_token_id={manifest.pad_token_id}")
        method = resolve_saved(manifest.method, manifest.method_options)
        arguments += method.plain_load(family)
        if manifest.pooling is not None:
            arguments += [f"{k}={v!r}" for k, v in pooling_settings(family, Pooling(manifest.pooling)).items()]
    pooled = _pool(manifest, "model.get_base_model()", _count_prefix(manifest))
    if pooled or any("torch." in argument for argument in arguments):
        imports.insert(1, "torch")
    return (
        f"import {', '.join(imports)}\n"
        f"model = peft.AutoPeftModelForSequenceClassification.from_pretrained({name!r}, {', '.join(arguments)})\n"
        f"tokenizer = transformers.AutoTokenizer.from_pretrained({name!r})"
        + ("" if manifest.long_text.form == "truncate" else "  # only textune handles texts longer than max_length")
        + pooled
        + _apply_thresholds(manifest)
    )


def _count_prefix(manifest: Manifest) -> int:
    """Return the number of virtual tokens before the text in the attention mask."""
    return resolve_saved(manifest.method, manifest.method_options).virtual_tokens


def _pool(manifest: Manifest, model: str, prefix: int) -> str:
    """Return the lines that make a plain model pool its tokens as the run does; empty if it does so already."""
    family = _find_family(manifest)
    if family is None or manifest.pooling is None:
        return ""
    skip = resolve_saved(manifest.method, manifest.method_options).tokens_before_text
    if not needs_hook(family, Pooling(manifest.pooling, skip)):
        return ""
    native = family.pooling_setting is not None
    states = f"out[0][:, {skip}:]" if skip else "out[0]"
    if manifest.pooling == MEAN:
        mask = 'kwargs["attention_mask"]' + (f"[:, {prefix}:]" if prefix else "")
        why = f"the head reads the {'' if native else 'normalised '}mean over the tokens of the text"
        means = f"torch.stack([h[m == 1].mean(0) for h, m in zip({states}, {mask})])"
        value = means if native else f"torch.nn.functional.layer_norm({means}, out[0].shape[-1:], eps={EPSILON})"
    else:
        why = "the head reads the first token of the text, not the first virtual one"
        value = {
            "bert": f"body.pooler({states})",
            "albert": f"body.pooler_activation(body.pooler({states}[:, 0]))",
        }.get(family.name, f"{states}[:, 0]")
    pooled = family.name in WITH_POOLER
    key, value = ("pooler_output", value) if pooled else ("last_hidden_state", f"{value}[:, None]")
    value += ".expand_as(out[0])" if native else ""
    return (
        f"\ndef pool(body, args, kwargs, out):  # {why}\n"
        f'    out["{key}"] = {value}\n'
        f"{model}.base_model.register_forward_hook(pool, with_kwargs=True)"
    )


def _apply_thresholds(manifest: Manifest, *, merged: bool = False) -> str:
    """Return the lines that turn probabilities into labels; empty for single-label runs."""
    if manifest.thresholds is None:
        return ""
    if merged:
        return (
            "\n# every label with its probability; a text gets the labels at or above merged/thresholds.json"
            '\nprint(classify("a text to classify"))'
        )
    cuts = ", ".join(f"{threshold:.4f}" for threshold in manifest.thresholds)
    return (
        f"\nthresholds = [{cuts}]  # one per label, in order"
        '\nlogits = model.eval()(**tokenizer("a text to classify", truncation=True, return_tensors="pt")).logits[0]'
        f"\nprobabilities = (logits / {manifest.temperature:g}).sigmoid().tolist()"
        "\nprint([model.config.id2label[i] for i, p in enumerate(probabilities) if p >= thresholds[i]])"
    )
