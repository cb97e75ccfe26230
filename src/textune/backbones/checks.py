"""Checks that config, tokenizer and weights of a backbone belong together.

What does not fit is not refused by the libraries: weights under other names or of other shapes start at random, and
texts of another vocabulary become unknown tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from textune.backbones.families import Family
from textune.errors import ModelError, suggest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from textune.tokens import Tokenized

MUCH_UNKNOWN, NEARLY_ALL_UNKNOWN = 0.1, 0.5
_SPECIAL = re.compile(r"[<\[].+[>\]]", re.DOTALL)
"""What special tokens look like: <pad>, [PAD], <|endoftext|>."""
_POOLER = re.compile(r"(^|\.)pooler(\.|$)")
_NO_MATTER = frozenset(
    (
        "architectures",
        "auto_map",
        "dtype",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "initializer_range",
        "label2id",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "task_specific_params",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    )
)
"""Keys of config.json that change no logit of a classifier that textune loads."""
_BUFFERS = ("attn.bias", "attn.masked_bias")
"""Masks that older files of GPT-2 hold."""
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block)\.(\d+)\.")


def check_loaded(
    model_id: str, family: Family, info: Mapping[str, Any], names: Sequence[str], random_weights: Sequence[str] = ()
) -> None:
    """Raise ModelError where anything but the head, or a pooler that the checkpoint lacks, would start at random.

    info: what `from_pretrained(..., output_loading_info=True)` says. names: of all parameters. random_weights: modules
    and parameters that are allowed to, too.
    """

    def is_refused(name: str) -> bool:
        return not _may_start_random(name, family) and not is_inside(name, random_weights)

    missing = sorted(filter(is_refused, info["missing_keys"]))
    mismatched = sorted(key for key in info["mismatched_keys"] if is_refused(key[0]))
    unexpected = sorted(info["unexpected_keys"])
    modules = cover_names({*missing, *(key[0] for key in mismatched)}, names)
    setting = f"random_weights={','.join(sorted({*modules, *random_weights}))}"
    hint = "give the config.json and the weights of the same model, saved by save_pretrained"
    hint += f"; or add {setting} to start from random weights there"
    if mismatched:
        name, stored, expected = mismatched[0][:3]
        raise ModelError(
            f"backbone {model_id}: its weights do not fit its config.json: {name} has the shape {_shape(stored)}, the "
            f"config asks for {_shape(expected)}{_more(mismatched)}",
            hint=hint,
        )
    if missing:
        other = f"; the file has names such as {unexpected[0]}" if unexpected else ""
        raise ModelError(
            f"backbone {model_id}: its weights lack {missing[0]}{_more(missing)}, which would start at random{other}",
            hint=hint,
        )
    unused = [name for name in unexpected if _LAYER.search(name) and not name.endswith(_BUFFERS)]
    stored, known = ({int(found[1]) for name in every if (found := _LAYER.search(name))} for every in (unused, names))
    if beyond := sorted(stored - known):
        raise ModelError(
            f"backbone {model_id}: its weights have a layer {beyond[-1]} that its config.json does not",
            hint="correct the number of layers in its config.json, or remove the layer from the weights",
        )
    if unused:
        raise ModelError(
            f"backbone {model_id}: its weights have {unused[0]}{_more(unused)}, which {family.name} does not use",
            hint="use a checkpoint of this architecture: without these weights its outputs would differ",
        )


def is_inside(name: str, modules: Sequence[str]) -> bool:
    """Return whether a parameter is one of these, or lies in one of these modules."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def cover_names(names: set[str], every: Sequence[str]) -> list[str]:
    """Return the fewest modules that hold these parameters and no others. every: the names of all parameters."""
    others = [name for name in every if name not in names]
    modules = set()
    for name in names:
        parts = name.split(".")
        prefixes = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        modules.add(next(prefix for prefix in prefixes if not any(is_inside(other, [prefix]) for other in others)))
    return sorted(modules)


def check_random_weights(model_id: str, random_weights: Sequence[str], new_modules: Sequence[str]) -> None:
    """Raise ModelError for a module that is allowed to start at random, but is in the checkpoint."""
    for name in random_weights:
        if not any(is_inside(module, [name]) or is_inside(name, [module]) for module in new_modules):
            raise ModelError(
                f"random_weights={name}: the weights of {model_id} lack no such module{suggest(name, new_modules)}",
                hint="leave it out",
            )


def refuse_other_config(model_id: str, stored: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise ModelError where the config of a run's base model has changed in what decides its answers."""
    changed = compare_configs(stored, found)
    if changed:
        shown = ", ".join(f"{key} is {now!r}, was {then!r}" for key, then, now in changed[:3])
        raise ModelError(
            f"backbone {model_id}: its config.json is not the one that the run was trained with: {shown}",
            hint="give the model that the run was trained on with backbone=FOLDER",
        )


def compare_configs(stored: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return key, value then and value now of what decides a model's answers and differs."""
    then, now = _with_defaults(stored), _with_defaults(found)
    keys = sorted(then.keys() | now.keys())
    return [(key, then.get(key), now.get(key)) for key in keys if then.get(key) != now.get(key) and _matters(key)]


def _with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config with the defaults that it leaves out: transformers writes them or not, by version."""
    import transformers

    values = {key: value for key, value in config.items() if key != "model_type"}
    try:
        filled: dict[str, Any] = transformers.AutoConfig.for_model(str(config["model_type"]), **values).to_dict()
    except Exception:  # an architecture's own code runs here, and own code has no defaults
        return config
    return filled


def _matters(key: str) -> bool:
    """Return whether a key of config.json can change an answer: labels are textune's own, dropout is off."""
    return not key.startswith("_") and "drop" not in key and key not in _NO_MATTER


def check_tokenizer(model_id: str, family: Family, config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Raise ModelError where the tokenizer gives ids that the word embeddings do not have, or marks no beginning."""
    size = config.get("vocab_size")
    if size is not None:
        token, largest = max(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        if largest >= int(size):
            raise ModelError(
                f"backbone {model_id}: its tokenizer has the token '{token}' with id {largest:,}, its embeddings only "
                f"ids below {int(size):,} (vocab_size)",
                hint="give the tokenizer that the model was trained with",
            )
        pad = config.get("pad_token_id")
        if pad is not None and int(pad) >= int(size):
            raise ModelError(
                f"backbone {model_id}: pad_token_id {pad} is not below vocab_size {size}",
                hint="correct pad_token_id in its config.json",
            )
    pad = config.get("pad_token_id")
    word = None if pad is None or int(pad) < 0 else tokenizer.id_to_token(int(pad))
    if word is not None and int(pad or 0) not in tokenizer.get_added_tokens_decoder() and not _SPECIAL.fullmatch(word):
        raise ModelError(
            f"backbone {model_id}: pad_token_id {pad} is the ordinary token '{word}' of its tokenizer, which would be "
            "taken for padding",
            hint="correct pad_token_id in its config.json, or give the tokenizer that the model was trained with",
        )
    if not family.decoder and not tokenizer.num_special_tokens_to_add(False):
        raise ModelError(
            f"backbone {model_id}: its tokenizer adds no special token to a text, and a {family.name} model reads one",
            hint="give the tokenizer that the model was trained with",
        )


def measure_unknown(tokenizer: Tokenizer, tokens: Tokenized) -> float:
    """Return the share of unknown tokens among the words of these texts; 0 where every character is known."""
    unknown = _find_unknown_id(tokenizer)
    if unknown is None:
        return 0.0
    special = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special and i != unknown]
    words = tokens.ids[~np.isin(tokens.ids, special)]
    return float((words == unknown).mean()) if len(words) else 0.0


def describe_unknown(model_id: str, share: float) -> str | None:
    """Return a warning where many tokens are unknown; raises ModelError where most are."""
    if share <= MUCH_UNKNOWN:
        return None
    sentence = f"{share:.0%} of the tokens of these texts are unknown to the tokenizer of {model_id}"
    if share > NEARLY_ALL_UNKNOWN:
        raise ModelError(
            f"{sentence}: there is next to nothing to learn from",
            hint="choose a backbone= that was trained on this language",
        )
    return f"{sentence}: another backbone= may suit this language better"


def _find_unknown_id(tokenizer: Tokenizer) -> int | None:
    name = getattr(tokenizer.model, "unk_token", None)
    candidates: Iterable[str] = (name,) if isinstance(name, str) else ("[UNK]", "<unk>")
    return next((i for token in candidates if (i := tokenizer.token_to_id(token)) is not None), None)


def _may_start_random(name: str, family: Family) -> bool:
    parts = name.split(".")
    return any(module in parts for module in family.head_modules) or _POOLER.search(name) is not None


def _shape(value: Any) -> str:
    return "x".join(map(str, value))


def _more(names: list[Any]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
