"""Python code that loads a run, with and without textune, for the report and the model card."""

from __future__ import annotations

import json
from pathlib import Path

from textune.backbones.families import Family, families
from textune.backbones.pooling import EPSILON, FIRST, MEAN, WITH_POOLER, Pooling, needs_hook, pooling_settings
from textune.backbones.pooling_layer import can_add_layer
from textune.bundle import MANIFEST, Manifest
from textune.methods import resolve_saved
from textune.methods.base import DELTA_FILE
from textune.report.writer_snippets import PROMPT, name_base, reload_merged_writer, reload_writer
from textune.tokens import load_tokenizer, text_between

TEXT, SECOND_TEXT = "a text to classify", "a second text"
"""What the lines classify."""
_PLACE = "  # the path of this folder"
_MOST_LABELS = 50
"""Lists of more labels are read from the run's manifest instead of being written out."""


def reload_by_textune(manifest: Manifest, name: str) -> str:
    """Return the lines that load a run and answer with textune. name: what they call the folder."""
    texts = [PROMPT] if manifest.writing else [TEXT]
    if manifest.columns.text_pair is not None:
        texts.append(SECOND_TEXT)
    answer = f"print(model.predict({', '.join(f'[{quote(text)}]' for text in texts)}))"
    return f"import textune\nfolder = {quote(name)}{_PLACE}\nmodel = textune.load(folder)\n{answer}"


def name_library(manifest: Manifest) -> str:
    """Return the library that loads a run's folder, as the hub calls it."""
    if "adapter_config.json" in manifest.files:
        return "peft"
    return "transformers" if _is_plain(manifest) else "textune"


def reload_without_textune(manifest: Manifest, name: str, folder: Path | None = None) -> str:
    """Return the lines that load a run and classify a text with peft or transformers only; else those with textune.

    name: what the lines call the folder. folder: where it is, whose tokenizer says how pairs of texts are joined.
    """
    if manifest.writing:
        return reload_writer(manifest, name) or _reload_by_textune_alone(manifest, name)
    by_peft = "adapter_config.json" in manifest.files
    if not by_peft and not _is_plain(manifest):
        return _reload_by_textune_alone(manifest, name)
    family, imports = _find_family(manifest), ["transformers"]
    lines = [f"folder = {quote(name)}{_PLACE}, or its id on the hub"]
    arguments = [f"id2label={_name_labels(manifest)}", 'dtype="float32"']
    if _has_many(manifest):
        stored = f'transformers.utils.cached_file(folder, "{MANIFEST}")'
        lines.append(f'run = json.load(open({stored}, encoding="utf-8"))')
    if family is not None:
        if family.decoder:  # few decoders define a pad token, and without one they take one text at a time
            arguments.append(f"pad_token_id={manifest.pad_token_id}")
        arguments += resolve_saved(manifest.method, manifest.method_options).plain_load(family) if by_peft else []
        if manifest.pooling is not None:
            arguments += [f"{k}={v!r}" for k, v in pooling_settings(family, Pooling(manifest.pooling)).items()]
    if by_peft:
        imports.insert(0, "peft")
        lines += _load_by_peft(manifest, ", ".join(arguments))
    elif "model.safetensors" in manifest.files:
        lines += [
            f'config = transformers.AutoConfig.from_pretrained(folder, subfolder="backbone", {", ".join(arguments)})',
            f"model = {_LOAD}(folder, config=config)",
        ]
    else:
        imports[:] = ["safetensors.torch", "transformers"]
        delta = f'transformers.utils.cached_file(folder, "{DELTA_FILE}")'
        lines += [
            name_base(manifest),
            f"model = {_load_base(manifest, ', '.join(arguments))}",
            f"safetensors.torch.load_model(model, {delta}, strict=False)",
        ]
    pooled = _pool(manifest, "model.get_base_model()", _count_prefix(manifest)) if by_peft else _pool_in_two(manifest)
    if "torch." in "".join((*pooled, *arguments)):
        imports.insert(len(imports) - 1, "torch")
    cut = "" if manifest.long_text.form == "truncate" else "  # only textune handles texts longer than max_length"
    lines.append(f"tokenizer = transformers.AutoTokenizer.from_pretrained(folder){cut}")
    if _has_many(manifest):
        imports.insert(0, "json")
    return "\n".join([f"import {', '.join(imports)}", *lines, *pooled, *_classify(manifest, folder)])


def _has_many(manifest: Manifest) -> bool:
    return len(manifest.labels) > _MOST_LABELS


def _name_labels(manifest: Manifest) -> str:
    """Return each label's name by its number, as Python."""
    if _has_many(manifest):
        return 'dict(enumerate(run["labels"]))'
    return f"{{{', '.join(f'{i}: {label!r}' for i, label in enumerate(manifest.labels))}}}"


def reload_merged(manifest: Manifest, name: str, folder: Path) -> str:
    """Return the lines that load a merged model with transformers and classify a text.

    name: what the lines call its folder. folder: of the run or the merged model, for its tokenizer.
    """
    if manifest.writing:
        return reload_merged_writer(manifest, name)
    pooled = _pool(manifest, "classify.model", 0) if needs_lines_to_pool(manifest) else []
    inputs = quote(TEXT)
    if manifest.columns.text_pair is not None:
        inputs = f'{{"text": {quote(TEXT)}, "text_pair": {quote_second(folder)}}}'
    lines = [
        *(["import torch"] if pooled else []),
        "from transformers import pipeline",
        f"folder = {quote(name)}{_PLACE}, or its id on the hub",
        'classify = pipeline("text-classification", folder, truncation=True, top_k=None)',
        *pooled,
        f'probabilities = {{row["label"]: row["score"] for row in classify([{inputs}])[0]}}',
    ]
    if manifest.thresholds is None:
        return "\n".join([*lines, *_note_decision(manifest), "print(probabilities)"])
    cuts = ", ".join(f"{label!r}: {cut!r}" for label, cut in zip(manifest.labels, manifest.thresholds, strict=True))
    lines += [
        f"thresholds = {{{cuts}}}",
        "print([label for label in thresholds if probabilities[label] >= thresholds[label]])",
    ]
    return "\n".join(lines)


def needs_lines_to_pool(manifest: Manifest) -> bool:
    """Return whether a merged model gives the run's answers only with lines that add its mean pooling."""
    family = _find_family(manifest)
    if family is None or manifest.pooling != MEAN or can_add_layer(family):
        return False
    return needs_hook(family, Pooling(MEAN))


def reload_onnx(manifest: Manifest, name: str, folder: Path) -> str:
    """Return the lines that run an exported graph with onnxruntime and tokenizers, or by the folder's predict.py.

    name: what the lines call the folder. folder: where the tokenizer is.
    """
    pair = manifest.columns.text_pair is not None
    texts = f"{quote(TEXT)}, {quote_second(folder)}" if pair else quote(TEXT)
    if manifest.long_text.form != "truncate":
        return (
            f"import sys\nfolder = {quote(name)}{_PLACE}\nsys.path.insert(0, folder)\n"
            "from predict import Classifier  # reads all of a long text that the run reads\n"
            f"print(Classifier(folder).classify({texts}))"
        )
    types = ', "token_type_ids": encoding.type_ids' if manifest.exported["padding"]["token_types"] else ""
    lines = [
        "import numpy, onnxruntime, tokenizers",
        f"folder = {quote(name)}{_PLACE}",
        f"labels = {list(manifest.labels)!r}",
        'tokenizer = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")',
        f"tokenizer.enable_truncation({manifest.max_length})",
        'session = onnxruntime.InferenceSession(folder + "/model.onnx")',
        f"encoding = tokenizer.encode({texts})",
        f'inputs = {{"input_ids": encoding.ids, "attention_mask": encoding.attention_mask{types}}}',
        "inputs = {name: numpy.array([ids]) for name, ids in inputs.items()}",
        f'logits = session.run(["logits"], inputs)[0][0]{_cool(manifest)}',
    ]
    if manifest.thresholds is None:
        lines += [
            "shares = numpy.exp(logits - logits.max())",
            "probabilities = dict(zip(labels, (shares / shares.sum()).tolist()))",
            *_note_decision(manifest),
            "print(probabilities)",
        ]
    else:
        lines += [
            "probabilities = dict(zip(labels, (1 / (1 + numpy.exp(-logits))).tolist()))",
            f"thresholds = {list(manifest.thresholds)!r}  # one per label, in order",
            "print([label for label, cut in zip(labels, thresholds) if probabilities[label] >= cut])",
        ]
    return "\n".join(lines)


def _note_decision(manifest: Manifest) -> list[str]:
    """Return a comment where the run does not give the most probable label."""
    decisions = manifest.decisions
    if decisions.get("cutoff") is not None:
        label = manifest.labels[decisions["label"]]
        return [
            f"# the run gives {label!r} from a probability of {decisions['cutoff']!r} on, else the most probable other"
        ]
    return [] if decisions.get("costs") is None else ["# the run gives the label of the lowest expected cost"]


def quote(text: str) -> str:
    """Return a text as Python's and JSON's literal."""
    return json.dumps(text, ensure_ascii=False)


def quote_second(folder: Path | None) -> str:
    """Return the second text as the tokenizer must be given it."""
    return quote(("" if folder is None else text_between(load_tokenizer(folder))) + SECOND_TEXT)


def _is_plain(manifest: Manifest) -> bool:
    method = resolve_saved(manifest.method, manifest.method_options)
    return method.plain_weights and not {"model.safetensors", DELTA_FILE}.isdisjoint(manifest.files)


def _reload_by_textune_alone(manifest: Manifest, name: str) -> str:
    return f"# {manifest.method} adds modules that transformers does not have\n{reload_by_textune(manifest, name)}"


def _find_family(manifest: Manifest) -> Family | None:
    name = manifest.base_model.family
    return families.get(name) if name in families.names() else None


_LOAD = "transformers.AutoModelForSequenceClassification.from_pretrained"


def _load_base(manifest: Manifest, arguments: str) -> str:
    """Return the call that loads the base model with a head of the run's size."""
    revision = manifest.base_model.revision
    pinned = "" if revision is None else f"revision={quote(revision)}, "
    return f"{_LOAD}(base, {pinned}{arguments}, ignore_mismatched_sizes=True)"


def _load_by_peft(manifest: Manifest, arguments: str) -> list[str]:
    if manifest.base_model.local:  # the adapter's file names its base, but not where it is
        return [
            name_base(manifest),
            f"model = peft.PeftModel.from_pretrained({_load_base(manifest, arguments)}, folder)",
        ]
    load = "model = peft.AutoPeftModelForSequenceClassification.from_pretrained"
    return [f"{load}(folder, {arguments}, ignore_mismatched_sizes=True)"]


def _cool(manifest: Manifest) -> str:
    return "" if manifest.temperature == 1 else f" / {manifest.temperature!r}"


def _count_prefix(manifest: Manifest) -> int:
    """Return the number of virtual tokens before the text in the attention mask."""
    return resolve_saved(manifest.method, manifest.method_options).virtual_tokens


def _pool_in_two(manifest: Manifest) -> list[str]:
    """Return `_pool` in two lines, for methods that load in more lines than adapters and have no virtual tokens."""
    if not _pool(manifest, "model", 0):
        return []
    family = families.get(manifest.base_model.family)
    mean = _write_mean("out[0]", 'kwargs["attention_mask"]')
    values = f"out[0], {mean}[:, 0]" if family.name in WITH_POOLER else mean
    hook = "with_kwargs=True, hook=lambda body, args, kwargs, out: type(out)("
    return [f"model.base_model.register_forward_hook({hook}  # mean pooling", f"    {values}))"]


def _pool(manifest: Manifest, model: str, prefix: int) -> list[str]:
    """Return the lines that make a plain model pool its tokens as the run does; none if it does so already."""
    family = _find_family(manifest)
    if family is None or manifest.pooling is None:
        return []
    skip = resolve_saved(manifest.method, manifest.method_options).tokens_before_text
    if not needs_hook(family, Pooling(manifest.pooling, skip)):
        return []
    native, pooled = family.pooling_setting is not None, family.name in WITH_POOLER
    states = f"out[0][:, {skip}:]" if skip else "out[0]"
    if manifest.pooling == MEAN:
        mask = 'kwargs["attention_mask"]' + (f"[:, {prefix}:]" if prefix else "")
        why = f"the head reads the {'' if native else 'normalised '}mean over the tokens of the text"
        means = f"torch.stack([h[m == 1].mean(0) for h, m in zip({states}, {mask})])[:, None]"
        value = means if native else _write_mean(states, mask)
    else:
        why = "the head reads the first token of the text, not the first virtual one"
        value = f"{states}[:, :1]"
    if pooled:
        value = {
            (FIRST, "bert"): f"body.pooler({states})",
            (FIRST, "albert"): f"body.pooler_activation(body.pooler({states}[:, 0]))",
        }.get((manifest.pooling, family.name), f"{value}[:, 0]")
    key = "pooler_output" if pooled else "last_hidden_state"
    value += ".expand_as(out[0])" if native else ""
    return [
        f"def pool(body, args, kwargs, out):  # {why}",
        f'    out["{key}"] = {value}',
        f"{model}.base_model.register_forward_hook(pool, with_kwargs=True)",
    ]


def _write_mean(states: str, mask: str) -> str:
    """Return the normalised mean of a text's states as [rows, 1, width]; it is that of their sum as well."""
    return f"torch.layer_norm({mask}[:, None].float() @ {states}, out[0].shape[-1:], eps={EPSILON})"


def _classify(manifest: Manifest, folder: Path | None) -> list[str]:
    """Return the lines that give the probabilities of a text, and its labels where it can have several."""
    texts = quote(TEXT) + ("" if manifest.columns.text_pair is None else f", {quote_second(folder)}")
    inputs = f'tokenizer({texts}, truncation=True, return_tensors="pt")'
    scores = "sigmoid()" if manifest.thresholds is not None else "softmax(-1)"
    logits = f"model.eval()(**{inputs}).logits[0]"
    lines = [f"logits = {logits}", f"probabilities = (logits{_cool(manifest)}).{scores}.tolist()"]
    if manifest.thresholds is None:
        return [*lines, *_note_decision(manifest), "print(dict(zip(model.config.id2label.values(), probabilities)))"]
    listed = 'run["thresholds"]' if _has_many(manifest) else f"{list(manifest.thresholds)!r}"
    return [
        f"thresholds = {listed}  # one per label, in order",
        *lines,
        "print([model.config.id2label[i] for i, p in enumerate(probabilities) if p >= thresholds[i]])",
    ]
