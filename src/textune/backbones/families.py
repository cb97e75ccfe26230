"""The family table: what textune knows about each architecture, and a guess for unknown ones.

No torch here except for the guess, so a method that a family does not support is refused before weights are read.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textune.registry import Registry

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class Family:
    """What textune knows about one architecture.

    layers: dotted name of the list of layers, lowest first. embeddings: the modules below them.
    linear, norms: linear layers (LoRA's default targets) and layer norms, by the end of their names.
    key_value: the modules that compute keys and values, by name inside a layer.
    attention_output, feed_forward_output: modules whose outputs join the residual stream, by name inside a layer.
    head_modules: modules above the encoder that a checkpoint may lack.
    prompt_size: config key of the width of a word embedding.
    prefix: how prefixes are added: "past_keys" (the model accepts past keys and values), "attention" (textune
        inserts them in the attention), or None (not supported).
    shared_layers: whether all layers share their weights.
    rounded_modules: modules whose output must be bf16 if the model computes in bf16, even when wrapped by a method.
    takes_token_types: whether sentence pairs need token_type_ids.
    decoder: whether attention is causal; the last token is then classified.
    dropouts: config keys set by the `dropout` setting.
    first_position: position of the first token; that many position embeddings are unused.
    positions_follow_padding: whether positions begin after the padding id, which a checkpoint may move.
    padding_side: side on which batches are padded. attention: the only attention implementation, or None for any.
    hidden_layer: the head's layer between the pooled vector and the output layer, and what follows it; empty: none.
    pooling_setting: config key with which the model itself switches between first-token and mean pooling.
    quirk: a peculiarity, for the docs.
    output: modules that turn states into words, for models that write; they are never quantized.
    packs: whether examples in one row stay apart by mask and positions (tests/run/test_packing.py holds it).
    """

    name: str
    layers: str
    embeddings: tuple[str, ...]
    linear: tuple[str, ...]
    key_value: tuple[str, ...]
    attention_output: str
    feed_forward_output: str
    norms: tuple[str, ...]
    head_modules: tuple[str, ...]
    prompt_size: str = "hidden_size"
    prefix: str | None = "past_keys"
    rounded_modules: tuple[str, ...] = ()
    shared_layers: bool = False
    takes_token_types: bool = False
    decoder: bool = False
    dropouts: tuple[str, ...] = (*_DROPOUTS, "classifier_dropout")
    first_position: int = 0
    positions_follow_padding: bool = False
    padding_side: str = "right"
    attention: str | None = None
    hidden_layer: tuple[str, str] = ("", "")
    pooling_setting: str | None = None
    quirk: str = ""
    output: tuple[str, ...] = ()
    packs: bool = False
    guessed: bool = field(default=False, compare=False)

    def find_first_position(self, pad_token_id: int | None) -> int:
        """Return the position of the first token in a checkpoint with this padding id."""
        follows = self.positions_follow_padding and pad_token_id is not None
        return int(pad_token_id) + 1 if follows and pad_token_id is not None else self.first_position


families: Registry[Family] = Registry("family")


def _add(name: str, base: Mapping[str, Any], **fields: Any) -> None:
    families.register(name)(Family(name, **(dict(base) | fields)))


_BERT: dict[str, Any] = {
    "linear": ("query", "key", "value", "dense"),
    "key_value": ("attention.self.key", "attention.self.value"),
    "attention_output": "attention.output.dense",
    "feed_forward_output": "output.dense",
    "norms": ("LayerNorm",),
    "head_modules": ("classifier",),
}
_LLAMA: dict[str, Any] = {
    "layers": "model.layers",
    "embeddings": ("model.embed_tokens",),
    "linear": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "key_value": ("self_attn.k_proj", "self_attn.v_proj"),
    "attention_output": "self_attn.o_proj",
    "feed_forward_output": "mlp.down_proj",
    "norms": ("input_layernorm", "post_attention_layernorm", "model.norm"),
    "head_modules": ("score",),
    "decoder": True,
    "packs": True,
    "dropouts": ("attention_dropout",),
}
_BOTH_SIDES = ("pre_feedforward_layernorm", "post_feedforward_layernorm")

_add("bert", _BERT, layers="bert.encoder.layer", embeddings=("bert.embeddings",), takes_token_types=True)
_add(
    "distilbert",
    {},
    layers="distilbert.transformer.layer",
    embeddings=("distilbert.embeddings",),
    linear=("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    norms=("sa_layer_norm", "output_layer_norm", "LayerNorm"),
    key_value=("attention.k_lin", "attention.v_lin"),
    attention_output="attention.out_lin",
    feed_forward_output="ffn.lin2",
    head_modules=("pre_classifier", "classifier"),
    prompt_size="dim",
    hidden_layer=("pre_classifier", "relu"),
    prefix="attention",
    dropouts=("dropout", "attention_dropout", "seq_classif_dropout"),
    quirk="does not accept past keys",
)
_add(
    "roberta",
    _BERT,
    layers="roberta.encoder.layer",
    embeddings=("roberta.embeddings",),
    first_position=2,
    positions_follow_padding=True,
    hidden_layer=("classifier.dense", "tanh"),
    quirk="counts positions from 2",
)
_add(
    "xlm-roberta",
    _BERT,
    layers="roberta.encoder.layer",
    embeddings=("roberta.embeddings",),
    first_position=2,
    positions_follow_padding=True,
    hidden_layer=("classifier.dense", "tanh"),
    quirk="counts positions from 2",
)
_add(
    "electra",
    _BERT,
    layers="electra.encoder.layer",
    embeddings=("electra.embeddings", "electra.embeddings_project"),
    hidden_layer=("classifier.dense", "gelu"),
    prompt_size="embedding_size",
    takes_token_types=True,
    quirk="word embeddings may be narrower than the layers",
)
_add(
    "albert",
    {},
    layers="albert.encoder.albert_layer_groups.0.albert_layers",
    embeddings=("albert.embeddings", "albert.encoder.embedding_hidden_mapping_in"),
    linear=("query", "key", "value", "attention.dense", "ffn", "ffn_output"),
    norms=("full_layer_layer_norm", "LayerNorm"),
    key_value=("attention.key", "attention.value"),
    attention_output="attention.dense",
    feed_forward_output="ffn_output",
    head_modules=("classifier",),
    prompt_size="embedding_size",
    prefix="attention",
    shared_layers=True,
    takes_token_types=True,
    dropouts=(*_DROPOUTS, "classifier_dropout_prob"),
    quirk="all layers share their weights, also the trained ones",
)
_add(
    "deberta-v2",
    _BERT,
    layers="deberta.encoder.layer",
    embeddings=("deberta.embeddings",),
    linear=("query_proj", "key_proj", "value_proj", "dense"),
    hidden_layer=("pooler.dense", "gelu"),
    key_value=("attention.self.key_proj", "attention.self.value_proj"),
    head_modules=("pooler", "classifier"),
    prefix=None,
    dropouts=(*_DROPOUTS, "pooler_dropout", "cls_dropout"),
    rounded_modules=("query_proj",),  # the mask is filled with the lowest value of the queries' dtype
    attention="eager",
    quirk="checkpoints have no pooler; eager attention only",
)
_add(
    "modernbert",
    {},
    layers="model.layers",
    embeddings=("model.embeddings",),
    linear=("Wqkv", "Wo", "Wi"),
    norms=("embeddings.norm", "attn_norm", "mlp_norm", "final_norm"),
    key_value=("attn.Wqkv",),
    attention_output="attn.Wo",
    feed_forward_output="mlp.Wo",
    head_modules=("head", "classifier"),
    prefix="attention",
    hidden_layer=("head.dense", "gelu, norm"),
    dropouts=("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
    pooling_setting="classifier_pooling",
    quirk="queries, keys and values share one matrix; does not accept past keys",
)
_add(
    "mpnet",
    _BERT,
    layers="mpnet.encoder.layer",
    embeddings=("mpnet.embeddings",),
    linear=("q", "k", "v", "o", "dense"),
    key_value=("attention.attn.k", "attention.attn.v"),
    attention_output="attention.attn.o",
    prefix=None,
    first_position=2,
    attention="eager",
    hidden_layer=("classifier.dense", "tanh"),
    quirk="counts positions from 2; eager attention only",
)
_add(
    "gpt2",
    {},
    layers="transformer.h",
    embeddings=("transformer.wte", "transformer.wpe"),
    linear=("c_attn", "c_proj", "c_fc"),
    norms=("ln_1", "ln_2", "ln_f"),
    key_value=("attn.c_attn",),
    attention_output="attn.c_proj",
    feed_forward_output="mlp.c_proj",
    head_modules=("score",),
    prompt_size="n_embd",
    decoder=True,
    packs=True,
    dropouts=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    quirk="weights are stored transposed; pads on the right only",
)
_add("llama", _LLAMA)
_add("qwen2", _LLAMA)
_add("qwen3", _LLAMA, norms=(*_LLAMA["norms"], "q_norm", "k_norm"))
_add("gemma", _LLAMA)
_add("gemma2", _LLAMA, norms=(*_LLAMA["norms"], *_BOTH_SIDES), attention="eager", quirk="soft-caps attention scores")
_add("gemma3_text", _LLAMA, norms=(*_LLAMA["norms"], *_BOTH_SIDES, "q_norm", "k_norm"))


def guess_family(model_type: str, config: Mapping[str, Any]) -> Family | str:
    """Return a guess at an unknown architecture from its modules, or the reason why it cannot be guessed.

    The model is built without weights. Adapters, IA3 and prefixes need modules that cannot be guessed. Those fields
    stay empty, and these methods refuse the family.
    """
    import torch
    import transformers

    try:
        known = transformers.AutoConfig.for_model(model_type, **{k: v for k, v in config.items() if k != "model_type"})
        with torch.device("meta"):
            model = transformers.AutoModelForSequenceClassification.from_config(known)
    except Exception as error:  # any architecture's own code runs here
        return f"transformers cannot build a classifier for it ({str(error).splitlines()[0][:120]})"
    body = getattr(model, "base_model_prefix", "")
    if not body or not hasattr(model, body):
        return "its modules do not separate the encoder from the head"
    head = tuple(n for n, m in model.named_children() if n != body and any(True for _ in m.parameters()))
    stacks = [
        (sum(p.numel() for p in m.parameters()), n)
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.ModuleList) and n.startswith(f"{body}.") and len(m) > 1
    ]
    if not stacks or not head:
        return "it has no list of layers below a head"
    layers = max(stacks)[1]
    inside = {n: m for n, m in model.named_modules() if n.startswith(f"{layers}.")}
    linear = sorted({n.rpartition(".")[2] for n, m in inside.items() if isinstance(m, torch.nn.Linear)})
    leaves = {n: m for n, m in inside.items() if not any(True for _ in m.children())}
    norms = sorted({n.rpartition(".")[2] for n, m in leaves.items() if "norm" in type(m).__name__.lower()})
    if not linear:
        return "its layers have no linear modules"
    dropouts = tuple(k for k, v in config.items() if "drop" in k and isinstance(v, int | float) and 0 <= v < 1)
    tables = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Embedding) and n not in inside}
    # as in RoBERTa: the first position follows the padding position
    first = max(
        (m.padding_idx + 1 for n, m in tables.items() if "position" in n and m.padding_idx is not None), default=0
    )
    types = "token_type_ids" in inspect.signature(model.forward).parameters
    return Family(
        model_type,
        layers,
        tuple(tables),
        tuple(linear),
        (),
        "",
        "",
        tuple(norms),
        head,
        prefix=None,
        first_position=first,
        takes_token_types=types and (getattr(known, "type_vocab_size", 0) or 0) > 1,
        decoder=any("CausalLM" in name for name in config.get("architectures") or ()),
        dropouts=dropouts,
        attention="eager" if not getattr(model, "_supports_sdpa", False) else None,
        guessed=True,
    )


def describe_guess(family: Family) -> str:
    """Return a warning that describes the guess."""
    return (
        f"the family '{family.name}' is not tested. Guessed from its modules: layers {family.layers}, linear modules "
        f"{', '.join(family.linear)}, head {', '.join(family.head_modules)}. Padding may change its results, so only "
        "texts of equal length share a forward pass, which is slower"
    )
