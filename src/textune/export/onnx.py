"""Export a bundle as an ONNX folder, in fp32 or int8, which predicts without torch and transformers.

`Predictor.load` opens the folder like a run, so the same code handles long texts, pairs, temperature and thresholds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.bundle import GRAPH, GRAPH_WEIGHTS, Manifest, read_manifest, refuse_exported, write_manifest
from textune.data import Examples, describe_foreign
from textune.engine.same_logits import PROBES, require_same
from textune.engine.session import import_runtime
from textune.errors import BundleError, DataError, MissingExtraError, ModelError, TextuneError, flag
from textune.evaluation import compare_pair
from textune.export.marker import check_output, write_marker
from textune.export.merged import refuse_unmergeable
from textune.export.probes import list_second_probes
from textune.export.readme import write_onnx_companions
from textune.files import hash_files, is_disk_full, write_file, write_folder
from textune.inference import LoadOptions, Predictor
from textune.run.predicted_rows import read_own_settings
from textune.run.predictions import labels_of
from textune.run.tables import prepare_data
from textune.tokens.batches import collate

Array = NDArray[Any]
LARGEST_LOSS = 0.003
"""int8 is refused if a paired test shows that the score drops by more than this."""
_VAGUE = 10 * LARGEST_LOSS
"""Where a loss of more than this may be unseen, there were too few rows: about 100."""


@dataclass(frozen=True)
class Quality:
    """The change in score from int8 quantization on labelled rows.

    before, after: accuracy, or micro F1 for multi-label. low, high: paired 95% interval of after minus before.
    unknown: rows with a label that the model does not know.
    """

    figure: str
    rows: int
    source: str
    before: float
    after: float
    low: float
    high: float
    unknown: int = 0

    @property
    def vague(self) -> bool:
        """Whether the rows are too few to show a loss that matters."""
        return self.low < -_VAGUE

    @property
    def accepted(self) -> bool:
        """Whether the rows show no loss of more than LARGEST_LOSS."""
        return self.high >= -LARGEST_LOSS - 1e-12

    def describe(self) -> str:
        """Return both scores and the interval of the change as part of a sentence."""
        unknown = f", {self.unknown:,} of them with labels that the model does not know" if self.unknown else ""
        change = f"change {_points(self.after - self.before)} points, 95% interval {_points(self.low)} to"
        return (
            f"{self.figure} {self.before:.2%} in fp32, {self.after:.2%} in int8 ({change} {_points(self.high)}) "
            f"on {self.rows:,} {self.source}{unknown}"
        )


def _points(share: float) -> str:
    """Return a difference of shares as percentage points with a sign and two decimals."""
    return f"{100 * share:+.2f}".replace("-", "−")


def describe_doubt(quality: Quality | None) -> str | None:
    """Return what to be warned of, or None where enough rows show no loss."""
    if quality is None:
        return "int8 was not evaluated: there are no validation rows"
    if not quality.accepted:
        return f"int8 is less accurate: {quality.describe()}"
    if quality.vague:
        return f"int8 was evaluated on few rows: a loss of {100 * -quality.low:.0f} points would not be noticed"
    return None


def export_onnx(
    run: str | Path,
    output: Path,
    *,
    form: str = "onnx",
    measure_on: tuple[Examples, str] | None = None,
    force: bool = False,
    backbone: str | LoadOptions | None = None,
    overwrite: bool = False,
) -> Quality | None:
    """Write model.onnx, the tokenizer, config.json, textune.json and what runs them; return the quality of int8.

    backbone: where the base model is; as LoadOptions also with the `trust` that it needs.
    The adapter is merged into the weights first. fp32: a fresh load must give the run's logits on padded texts of
    unequal length. int8: evaluated on `measure_on`, a pair of rows and their description (None: the run's
    validation rows), never on test rows; refused if the loss is more than LARGEST_LOSS, unless forced.
    Returns None for fp32, and for int8 forced without rows.
    Raises BundleError, DataError, ModelError or MissingExtraError, and leaves no partial folder behind.
    """
    check_output(output, overwrite)
    manifest = read_manifest(run)
    refuse_exported(run, manifest)
    refuse_unmergeable(run, manifest)
    import_tools()
    labelled = None
    if form == "onnx-int8":
        labelled = measure_on or _find_validation(Path(run), manifest, force)
        if labelled is not None:
            _refuse_foreign(manifest, labelled[0])
    base = backbone if isinstance(backbone, LoadOptions) else LoadOptions(backbone)
    options = dataclasses.replace(base, device="cpu", precision="fp32", merge=True, engine="reference")
    predictor = Predictor.from_manifest(Path(run), manifest, options)
    with write_folder(output) as partial:
        notes: list[str] = []
        _write_graph(predictor, partial / GRAPH)
        names = _write_companions(Path(run), predictor, partial)
        _seal(partial, predictor, form, names, None)
        _check_fresh_load(partial, predictor)
        quality = None
        if form == "onnx-int8":
            before = None if labelled is None else _predict(Predictor.load(partial), labelled[0])
            _quantize(partial / GRAPH)
            _seal(partial, predictor, form, names, None)
            after = Predictor.load(partial)
            after.predict_logits(PROBES, list_second_probes(predictor.manifest))
            if labelled is not None and before is not None:
                quality = _compare(predictor, *labelled, before, _predict(after, labelled[0]))
                if not (quality.accepted or force):
                    raise BundleError(
                        f"{run}: int8 is less accurate: {quality.describe()}; the whole interval is below the limit of "
                        f"{_points(-LARGEST_LOSS)} points",
                        hint=f"export with {flag('to', 'onnx')}, evaluate on other rows with {flag('data', 'FILE')}, "
                        f"or accept it with {flag('force')}",
                    )
            _seal(partial, predictor, form, names, quality)
            notes = [f"The weights are rounded to int8: {quality.describe() if quality else 'not evaluated'}."]
        write_onnx_companions(partial, Path(run), predictor, output.name, notes)
        write_marker(partial, form)
    return quality


def import_tools() -> None:
    """Raise MissingExtraError if one of the three packages needed for writing ONNX is not installed."""
    import_runtime()
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"writing ONNX needs {error.name}, which is not installed", hint="pip install 'textune[onnx]'"
        ) from error


def _find_validation(run: Path, manifest: Manifest, force: bool) -> tuple[Examples, str] | None:
    """Read the run's validation rows again; return None if that fails and `force` is set."""
    reason = "the run has no validation rows"
    try:
        data = prepare_data(read_own_settings(run, unused=("backbone", "init")))
        if data.fingerprint != manifest.data_fingerprint:
            reason = "its data changed since training"
        elif data.validation is not None:
            return data.validation, "validation rows of the run"
    except TextuneError as error:
        reason = str(error).splitlines()[0]
    if force:
        return None
    raise BundleError(
        f"{run}: int8 cannot be evaluated: {reason}",
        hint=f"give labelled rows with {flag('data', 'FILE')}, or accept it without evaluation with {flag('force')}",
    )


def _refuse_foreign(manifest: Manifest, examples: Examples) -> None:
    """Raise DataError if no row has a label that the model knows: no answer can be right there."""
    labels = labels_of(manifest)
    described = describe_foreign(examples.label_sets(), labels.find_unknown(examples), labels.names)
    if described is None:
        return
    foreign, known, near = described
    raise DataError(
        f"{examples.name}: int8 cannot be evaluated on rows whose labels the run does not know: they are {foreign}, "
        f"the run's are {known}{near}",
        hint="write the labels as in training, or check that the right label column is read",
    )


def _predict(predictor: Predictor, examples: Examples) -> Array:
    """Return the probabilities: float [rows, labels]."""
    return predictor.predict_proba(examples.texts(), examples.text_pairs())


def _compare(predictor: Predictor, examples: Examples, source: str, before: Array, after: Array) -> Quality:
    """Compare the scores row by row. before, after: probabilities, float [rows, labels]."""
    labels = labels_of(predictor.manifest)
    task, true = predictor.task, labels.encode_sets(examples.label_sets()) > 0
    missed = np.array([len(names) for names in labels.find_unknown(examples)], np.int64)
    of_run, of_int8 = (task.count_earned(true, [task.decide(scores)], missed) for scores in (before, after))
    lead = compare_pair(of_int8, of_run, [0], [0]).lead
    scores = float(of_run.values[0]), float(of_int8.values[0])
    unknown = int(np.count_nonzero(missed))
    return Quality(task.figure[0], len(examples), source, *scores, lead.low, lead.high, unknown)


def _write_graph(predictor: Predictor, path: Path) -> None:
    import torch

    inputs = ["input_ids", "attention_mask", "token_type_ids"][: 3 if predictor.padding.token_types else 2]

    class Classifier(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(**dict(zip(inputs, tensors, strict=True))).logits
            return logits

    texts = (*PROBES[:2], PROBES[0])
    tokens = predictor.encode(texts, None if list_second_probes(predictor.manifest) is None else texts[::-1])
    batch = collate(tokens, np.arange(len(texts)), predictor.padding)
    example = tuple(torch.from_numpy(array) for name in inputs if (array := getattr(batch, name)) is not None)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    model = Classifier(predictor.model).eval()
    try:
        with _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                model,
                example,
                dynamo=True,
                input_names=inputs,
                output_names=["logits"],
                verbose=False,
                dynamic_shapes=(tuple(dynamic for _ in example),),
            )
        assert program is not None
        program.save(str(path), external_data=False)
    except Exception as error:  # the exporter passes on whatever its stages raise
        if isinstance(error, MemoryError) or is_disk_full(error):
            raise  # of this machine, not of the model
        family = predictor.manifest.base_model.family
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the exporter cannot write this {family} model: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of the exporter and the quantizer."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_companions(run: Path, predictor: Predictor, folder: Path) -> list[str]:
    names = ["tokenizer.json"]
    names += [name for name in ("tokenizer_config.json",) if (run / name).is_file()]
    for name in names:
        shutil.copyfile(run / name, folder / name)
    config = {
        "model_type": predictor.manifest.base_model.family,
        "problem_type": predictor.task.problem_type,
        "id2label": {str(i): label for i, label in enumerate(predictor.labels)},
        "label2id": {label: i for i, label in enumerate(predictor.labels)},
        "max_length": predictor.manifest.max_length,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*names, "config.json", GRAPH]


def _seal(folder: Path, predictor: Predictor, form: str, names: list[str], quality: Quality | None) -> None:
    exported = {
        "form": form,
        "padding": dataclasses.asdict(predictor.padding),
        "equal_lengths": predictor.equal_lengths,
        "quality": None if quality is None else dataclasses.asdict(quality),
    }
    large = [GRAPH_WEIGHTS] if (folder / GRAPH_WEIGHTS).is_file() else []
    digests = hash_files(folder, [*names, *large])
    write_manifest(folder, dataclasses.replace(predictor.manifest, exported=exported, files=digests))


def _check_fresh_load(folder: Path, predictor: Predictor) -> None:
    second = list_second_probes(predictor.manifest)
    expected = predictor.predict_logits(PROBES, second)
    logits = Predictor.load(folder).predict_logits(PROBES, second)
    require_same(expected, logits, "the exported model's logits differ from the run's", error=ModelError)


def _quantize(path: Path) -> None:
    """Quantize the matrices to int8 in place, with one scale per output channel."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(path))
    del graph.graph.value_info[:]  # shapes that the quantiser would take for those of its own tensors
    with _quiet(), write_file(path) as int8_path:
        quantize_dynamic(
            graph,
            str(int8_path),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
    path.with_name(GRAPH_WEIGHTS).unlink(missing_ok=True)  # those in fp32


def describe_onnx(folder: Path, quality: Quality | None) -> dict[str, Any]:
    """Return a summary of an ONNX folder, for `--json`."""
    manifest = read_manifest(folder, verify=False)
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
    return {
        "folder": str(folder),
        "form": manifest.exported["form"],
        "megabytes": round(size / 1e6, 1),
        "labels": list(manifest.labels),
        "quality": None if quality is None else dataclasses.asdict(quality),
    }
