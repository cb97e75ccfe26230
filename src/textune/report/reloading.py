"""The lines of Python that load a run, with textune and without it, for the report and the model card."""

from __future__ import annotations

from textune.bundle import Manifest
from textune.families import families
from textune.methods import resolve_saved


def reload_by_textune(name: str) -> str:
    """Returns the lines that load a run by textune."""
    return f'import textune\nmodel = textune.load("{name}")\nmodel.predict(["a text to classify"])'


def reload_without_textune(manifest: Manifest, name: str) -> str:
    """Returns the lines that load a run by peft or transformers alone; by textune where there is no other way."""
    if "adapter_config.json" in manifest.files:
        return _reload_by_peft(manifest, name)
    if not resolve_saved(manifest.method, manifest.method_options).mergeable:
        return f"# {manifest.method} adds parts that no plain model has\n{reload_by_textune(name)}"
    return (
        f"# once, with textune: textune export {name} --to merged --output merged\n"
        "from transformers import pipeline\n"
        'classify = pipeline("text-classification", "merged", truncation=True'
        + (", top_k=None)" if manifest.thresholds else ")")
        + _apply_thresholds(manifest, merged=True)
    )


def _reload_by_peft(manifest: Manifest, name: str) -> str:
    names = ", ".join(f"{i}: {label!r}" for i, label in enumerate(manifest.labels))
    imports, arguments = ["AutoTokenizer"], ["num_labels=len(labels)", "id2label=labels"]
    if manifest.base_model.family in families.names():
        family = families.get(manifest.base_model.family)
        if family.decoder:  # which seldom names one, and then takes one text at a time
            arguments.append(f"pad_token_id={manifest.pad_token_id}")
        more_imports, more_arguments = resolve_saved(manifest.method, manifest.method_options).plain_load(family)
        imports += more_imports
        arguments += more_arguments
    return (
        "from peft import AutoPeftModelForSequenceClassification\n"
        + ("import torch\n" if any("torch." in argument for argument in arguments) else "")
        + f"from transformers import {', '.join(sorted(imports))}\n"
        f"labels = {{{names}}}\n"
        "model = AutoPeftModelForSequenceClassification.from_pretrained(\n"
        f"    {name!r}, {', '.join(arguments)})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({name!r})"
        + ("" if manifest.long_text.form == "truncate" else "  # texts longer than max_length: with textune only")
        + _apply_thresholds(manifest)
    )


def _apply_thresholds(manifest: Manifest, *, merged: bool = False) -> str:
    """Returns the lines that turn probabilities into labels; nothing with one label per text."""
    if manifest.thresholds is None:
        return ""
    if merged:
        return (
            "\n# every label with its probability; a text has those at or above merged/thresholds.json"
            '\nprint(classify("a text to classify"))'
        )
    cuts = ", ".join(f"{threshold:.4f}" for threshold in manifest.thresholds)
    return (
        f"\nthresholds = [{cuts}]  # of each label, in their order"
        '\nlogits = model.eval()(**tokenizer("a text to classify", truncation=True, return_tensors="pt")).logits[0]'
        f"\nprobabilities = (logits / {manifest.temperature:g}).sigmoid().tolist()"
        "\nprint([labels[i] for i, p in enumerate(probabilities) if p >= thresholds[i]])"
    )
