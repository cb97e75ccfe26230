"""A peft adapter made elsewhere -> run folder, after a proof that both give the same logits.

An adapter that a method of textune builds exactly becomes a run of that method. Any other keeps peft's own
configuration and becomes a run that predicts, is measured and exported, but is not trained further.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textune.backbones import SMOLLM2, Backbone, find_embedded, remember_local, resolve_backbone
from textune.backbones.quiet import quiet_bitsandbytes
from textune.bundle import SETTINGS, Manifest, TextColumns, expand_home, name_run, refuse_current, run_path
from textune.config import RunConfig, build_config, write_settings
from textune.config.defaults import choose_max_length
from textune.config.values import LabelPairs
from textune.data.spelling import find_same_labels, reveal
from textune.engine.same_logits import PROBES, pair_probes, require_same
from textune.errors import BundleError, ConfigError, ModelError, flag
from textune.files import write_folder
from textune.inference import LoadOptions, Predictor
from textune.methods import Method, check_fit, longest_text, resolve, resolve_saved
from textune.methods.adopted import list_exact
from textune.peft_import.loading import list_shapes, load_base, load_by_peft
from textune.peft_import.reader import ForeignAdapter, dump_settings, read_adapter, read_label_names, read_task
from textune.progress import Progress, Silent
from textune.report import CardInput, render_unmeasured_card
from textune.report.snippets import reload_without_textune
from textune.run.save import BundleFacts, TrainedModel, update_manifest, write_bundle
from textune.tasks import build_task, default_task, find_task
from textune.tokens import encode_texts, load_tokenizer
from textune.tokens.batches import EncodedSplit
from textune.version import __version__

if TYPE_CHECKING:
    import torch

_SETTINGS = frozenset(
    {"name", "runs_dir", "max_length", "text", "text_pair", "label", "label_separator", "joiner", "task", "trust"}
)
_SEEN_IN_TENSORS = frozenset({"target_modules", "exclude_modules", "feedforward_modules", "modules_to_save"})
"""Settings that say where the adapter lies; the names and shapes of the tensors show it."""
_NO_MATTER = frozenset(
    {
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "peft_version",
        "auto_mapping",
        "prompt_tuning_init",
        "init_lora_weights",
        "encoder_hidden_size",
    }
)


def import_adapter(
    folder: str | Path,
    backbone: str | None = None,
    labels: Any = None,
    *,
    output: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Path:
    """Make a run of an adapter folder as peft's `save_pretrained` writes it; return the run's folder.

    backbone: default: what the adapter names, where it is on this machine. labels: in the order of the head's rows, as
    for `textune.train`; names of the rows' numbers (`0=bad,1=good`) may come in any order. Default: the names in a
    config.json of the adapter or the backbone. output: default: runs_dir/name. settings: name, runs_dir, max_length,
    text, text_pair, label, label_separator, joiner, trust; and task, default: the problem_type of a config.json of the
    adapter or the backbone, else single_label. The thresholds of a multi_label run are 0.5.
    Raises ConfigError, ModelError or BundleError; nothing half-made is left then.
    """
    progress = progress or Silent()
    if useless := sorted(settings.keys() - _SETTINGS):
        raise ConfigError(
            f"{', '.join(useless)}: nothing to set when an adapter is imported",
            hint=f"settings: {', '.join(sorted(_SETTINGS))}",
        )
    arguments = {"backbone": backbone, "labels": labels} | settings
    config = build_config({key: value for key, value in arguments.items() if value is not None})
    adapter = read_adapter(expand_home(folder))
    target = _choose_target(adapter, config, output)
    base = _find_base(adapter, backbone, config.model.trust, progress)
    with warnings.catch_warnings(), quiet_bitsandbytes():
        warnings.simplefilter("ignore")  # peft's, about what is checked here
        _Adoption(adapter, base, config, progress).write(target)
    remember_local(base)
    return target


def _choose_target(adapter: ForeignAdapter, config: RunConfig, output: str | Path | None) -> Path:
    """Return the folder to write; raise BundleError or ConfigError where it is taken or leaves the workspace."""
    name = config.name or name_run(adapter.folder.resolve().name)
    target = run_path(config.runs_dir, name) if output is None else expand_home(output)
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise BundleError(f"{target}: already exists", hint=f"choose another {flag('output', '')} or name=")
    if target.is_dir():
        refuse_current(target, flag("output", ""))
    return target


def _find_base(adapter: ForeignAdapter, backbone: str | None, trust: str | None, progress: Progress) -> Backbone:
    """Return the named backbone, or the one that the adapter names if it is on this machine."""
    if backbone is not None:
        return resolve_backbone(backbone, trust=trust, revision=adapter.revision if backbone == adapter.base else None)
    hint = f"name the model it was trained on with {flag('backbone', '')}: a hub id, a folder or minilm"
    if adapter.base is None:
        raise ModelError(f"{adapter.folder}: the adapter does not say what its base model is", hint=hint)
    packaged = adapter.base == SMOLLM2.name or find_embedded(adapter.base) is not None
    if not packaged and not _is_here(adapter.base):
        raise ModelError(f"{adapter.folder}: its base model '{adapter.base}' is not on this machine", hint=hint)
    found = resolve_backbone(adapter.base, trust=trust, revision=adapter.revision)
    progress.say(f"backbone: {found.id} (what the adapter names)")
    return found


def _is_here(model: str) -> bool:
    import huggingface_hub

    if os.path.isdir(model):  # noqa: PTH112  Path's own raises where this system could have no such name
        return True
    try:
        return isinstance(huggingface_hub.try_to_load_from_cache(model, "config.json"), str)
    except ValueError:  # the path of another machine
        return False


def _refuse_same(labels: list[str], place: str) -> None:
    """Raise ConfigError for labels of a config.json that print the same."""
    for twins in find_same_labels(labels):
        raise ConfigError(
            f"the config.json of the {place} has the labels {' and '.join(map(reveal, twins))}, which differ only in "
            "spaces or in characters that do not print",
            hint=f"name all classes with {flag('labels', '')}",
        )


def _sort_numbered(labels: LabelPairs) -> LabelPairs:
    """Return labels that name the numbers 0 to n-1 in the order of these, which are the head's rows; others unchanged.

    Numbers without names are labels like any other.
    """
    rows = {str(row): row for row in range(len(labels))}
    if rows.keys() != {value for value, _ in labels} or all(value == name for value, name in labels):
        return labels
    return tuple(sorted(labels, key=lambda pair: rows[pair[0]]))


class _Adoption:
    """One adapter on its way into a run folder."""

    def __init__(self, adapter: ForeignAdapter, backbone: Backbone, config: RunConfig, progress: Progress) -> None:
        self.adapter, self.backbone, self.progress = adapter, backbone, progress
        if adapter.task_type is None:
            progress.warn("the adapter does not say what it is for (task_type); it is taken for a classifier")
        if adapter.revision not in (None, "main", backbone.revision):
            progress.warn(f"the adapter was made on revision {adapter.revision} of its base model")
        self.classes = adapter.classes or len(backbone.config.get("id2label") or ()) or 2
        if self.classes < 2:
            raise BundleError(f"{adapter.folder}: its head has one row: it gives a number, and no classes")
        self.plain, self.new_modules = load_by_peft(adapter, backbone, self.classes)
        self.labels = self._choose_labels(config.data.labels)
        self.task = self._choose_task(config.data.task, config.data.label or ())
        self.method = self._choose_method()
        self.tokenizer = self._choose_tokenizer()
        self.config = self._settle(config)

    def _list_configs(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Return the configurations that may name labels and task, the nearest to the adapter first."""
        return ("adapter", self.adapter.model_config), ("backbone", self.backbone.config)

    def _choose_labels(self, labels: LabelPairs | None) -> LabelPairs:
        """Return as many labels as the head has rows; raise ConfigError."""
        if labels is not None:
            if len(labels) != self.classes:
                raise ConfigError(
                    f"labels: {len(labels)} are given, but the adapter's head has {self.classes} classes",
                    hint="name every class, in the order of the head's rows",
                )
            return _sort_numbered(labels)
        for place, model_config in self._list_configs():
            found = read_label_names(model_config)
            if found is not None and len(found) == self.classes:
                _refuse_same([name for _, name in found], place)
                names = ", ".join(name for _, name in found)
                self.progress.warn(f"labels are taken from the config.json of the {place}: {names}; check their order")
                return found
        numbers = ",".join(f"{i}=NAME" for i in range(min(self.classes, 3))) + (",..." if self.classes > 3 else "")
        raise ConfigError(
            f"{self.adapter.folder}: nothing names the {self.classes} classes of the adapter's head",
            hint=f"name them in the order of the head's rows: {flag('labels', numbers)}",
        )

    def _choose_task(self, task: str | None, columns: tuple[str, ...]) -> str:
        """Return the task that is named, or is found beside the adapter or the backbone, or single_label.

        columns: the label columns; several are of several labels. Raises ConfigError where that is denied.
        """
        if len(columns) > 1 and task is not None and not find_task(task).reads_sets:
            raise ConfigError(f"task={task}, but label= names {len(columns)} columns", hint="leave task= out")
        if task is not None or len(columns) > 1:
            return task or default_task(reads_sets=True).name
        for place, model_config in self._list_configs():
            found = read_task(model_config, place)
            if found is not None:
                untuned = build_task(found).untuned(self.classes).thresholds
                more = f", with thresholds of {untuned[0]}" if untuned else ""
                self.progress.say(f"task: {found} (by the config.json of the {place}){more}")
                return found
        self.progress.say("task: single_label (nothing names another); task=multi_label takes it for several labels")
        return default_task(reads_sets=False).name

    def _choose_method(self) -> Method:
        """Return the method of textune that builds the very same, or the one that keeps peft's configuration."""
        adapter, family = self.adapter, self.backbone.family
        config = self.plain.peft_config["default"]
        exact = list_exact().get(adapter.peft_type)
        if exact is not None:
            options = {option: getattr(config, field) for option, field in exact.peft_fields.items()}
            if "targets" in options:  # by the ends of their names, or a pattern, or a word for all
                targets = adapter.settings.get("target_modules")
                options["targets"] = sorted(targets) if isinstance(targets, list) else _list_adapted(self.plain)
            try:
                method = resolve(exact.key, options)
                if method.refusal(family) is None and self._is_same(method, config):
                    self.progress.say(f"method: {exact.key}")
                    return method
            except (ConfigError, ModelError):
                pass  # an option beyond textune's bounds
        key = "peft_prompt" if config.is_prompt_learning else "peft"
        self.progress.say(
            f"method: {key}, by peft's own configuration ({adapter.peft_type}); it cannot be trained further"
        )
        return resolve_saved(key, {"peft_type": adapter.peft_type, "settings": dump_settings(adapter.settings)})

    def _is_same(self, method: Any, config: Any) -> bool:
        """Return whether a method lays the same tensors into the model, under the same settings."""
        model, new_modules = load_base(self.backbone, self.classes)
        family = self.backbone.family
        ours, theirs = _plain(method.build_peft_config(model, family, new_modules)), _plain(config)
        if any(ours[key] != theirs[key] for key in ours.keys() - _SEEN_IN_TENSORS - _NO_MATTER):
            return False
        return list_shapes(method.apply(model, family, new_modules)) == list_shapes(self.plain)

    def _choose_tokenizer(self) -> Backbone:
        """Return the backbone, or its like with the adapter's tokenizer where that has the same vocabulary."""
        folder = self.adapter.folder
        if not all((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
            return self.backbone
        tokenizer, base = load_tokenizer(folder), load_tokenizer(self.backbone.folder)
        if tokenizer.get_vocab() != base.get_vocab():
            self.progress.warn(
                "the adapter's tokenizer has another vocabulary than the backbone; the backbone's is taken"
            )
            return self.backbone
        return dataclasses.replace(self.backbone, folder=folder)

    def _settle(self, config: RunConfig) -> RunConfig:
        """Return the settings of the run; raise ConfigError for texts longer than the backbone reads."""
        check_fit(self.method, self.backbone, config.tokens.max_length)
        config, decisions = choose_max_length(config, longest_text(self.method, self.backbone))
        for decision in decisions:
            self.progress.say(f"{decision.setting}: {decision.value:g} ({decision.reason})")
        method = {"name": self.method.key, **self.method.resolved_options(self.backbone.family)}
        return config.replace(
            labels=self.labels,
            task=self.task,
            method=method,
            backbone=self.backbone.id,
            seed=0,
            text=config.data.text or ("text",),
        )

    def write(self, target: Path) -> None:
        """Write the run folder, whole or not at all."""
        with write_folder(target) as partial:
            self._write_into(partial, target.name)

    def _write_into(self, folder: Path, title: str) -> None:
        write_settings(dataclasses.replace(self.config, name=title, runs_dir="runs"), folder / SETTINGS)
        data, label = self.config.data, self.config.data.label or ()
        facts = BundleFacts(
            labels=tuple(name for _, name in self.labels),
            label_values=tuple(value for value, _ in self.labels),
            columns=TextColumns(
                data.text or ("text",),
                data.text_pair,
                data.joiner,
                label[0] if len(label) == 1 else None,
                indicators=label if len(label) > 1 else (),
                label_separator=data.label_separator,
            ),
            max_length=self.config.tokens.max_length or 0,
            seed=0,
            data_fingerprint="imported",
            engine={"name": "reference", "precision": {"name": "fp32", "reason": "imported"}, "device": "cpu"},
            task=self.task,
            thresholds=build_task(self.task).untuned(self.classes).thresholds,
        )
        model = TrainedModel(self.plain, self.method, self.backbone, self.new_modules)
        manifest = write_bundle(
            folder, model, facts, prove=lambda manifest: self._prove(folder, manifest), tokenizer=self.tokenizer
        )
        adapter = self.adapter
        manifest = update_manifest(
            folder,
            trainable_parameters=sum(int(np.prod(shape)) for shape in list_shapes(self.plain).values()),
            imported={"peft_type": adapter.peft_type, "peft_version": adapter.peft_version},
        )
        (folder / "README.md").write_text(self._render_card(folder, manifest, title), encoding="utf-8")

    def _prove(self, folder: Path, manifest: Manifest) -> None:
        """Compare the logits of plain peft with the run's, adapter apart and added in, on a padded batch.

        Raises BundleError where they differ.
        """
        from textune.engine import Precision, ReferenceEngine, predict_logits

        family = self.backbone.family
        pairs = pair_probes(manifest.columns.text_pair is not None)
        tokens = encode_texts(load_tokenizer(folder), PROBES, pairs, manifest.max_length)
        nothing = np.full(len(PROBES), -1)
        engine = ReferenceEngine(
            self.plain, Precision("fp32", "import"), family, equal_lengths=self.method.needs_equal_lengths(family)
        )
        expected = predict_logits(engine, EncodedSplit(tokens, nothing, nothing), self.backbone.padding)
        if not np.isfinite(expected).all():
            raise BundleError(f"{self.adapter.folder}: its logits are not finite: the weights are damaged")
        local_folder = str(self.backbone.folder) if self.backbone.local else None
        largest = 0.0
        for merge in (False, True)[: 1 + self.method.mergeable]:
            options = LoadOptions(local_folder, "cpu", "fp32", self.backbone.trust, merge)
            loaded = Predictor.from_manifest(folder, manifest, options)
            found = loaded.predict_logits(PROBES, pairs)
            how = "merged into the weights" if merge else "beside the weights"
            message = f"{self.adapter.folder}: cannot be imported: with the adapter {how}, the run differs from peft"
            largest = max(largest, require_same(expected, found, message))
        self.progress.say(f"the run gives the logits that peft gives ({largest:.1g} apart)")

    def _render_card(self, folder: Path, manifest: Manifest, title: str) -> str:
        imported = manifest.imported
        card = CardInput(
            title=title,
            textune_version=__version__,
            base_model=None if self.backbone.local else self.backbone.id,
            library_name="peft",
            labels=manifest.labels,
            split="",
            comparison=(),
            facts=[
                ("base model", f"{self.backbone.id} ({self.backbone.family.name})"),
                ("adapter", f"{imported['peft_type']}, made with peft {imported['peft_version']}"),
                ("parameters", f"{manifest.trainable_parameters:,} beside the base model"),
                ("max_length", f"{manifest.max_length} tokens"),
            ],
            warnings=["Its figures are not known here: measure it with textune evaluate."],
            reload_lines=reload_without_textune(manifest, title, folder),
            tags=[manifest.method],
            task=manifest.task,
        )
        return render_unmeasured_card(card, "Imported from an adapter that was made elsewhere.")


def _list_adapted(model: torch.nn.Module) -> list[str]:
    """Return the last parts of the names of the layers that the adapter lies in."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return sorted({name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)})


def _plain(config: Any) -> dict[str, Any]:
    """Return peft's configuration as JSON would hold it."""
    values: dict[str, Any] = config.to_dict()
    return {
        key: sorted(v) if isinstance(v, set) else list(v) if isinstance(v, tuple) else v for key, v in values.items()
    }
