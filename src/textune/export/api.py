"""`textune.export`: a run in a form that other tools load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.bundle import EXPORTED_FORMS, AnyRun, expand_home, find_run, read_manifest
from textune.config import build_config
from textune.errors import BundleError, ConfigError, flag, suggest
from textune.files import hold_place
from textune.progress import Progress, open_progress

if TYPE_CHECKING:
    from textune.export.onnx import Quality

MERGED, QUANTIZED, SPACE = "merged", "onnx-int8", "space"
FORMS = (MERGED, *EXPORTED_FORMS, SPACE)
_LOADING = ("backbone", "trust")
_READING = ("text", "text_pair", "label", "encoding", "delimiter")
"""Settings that say how `data` is read."""


@dataclass(frozen=True)
class Exported:
    """An export on the disk. quality: of int8, where it was evaluated. losses: how a merged model differs."""

    folder: Path
    form: str
    quality: Quality | None = None
    losses: str | None = None


def export(
    run: AnyRun,
    output: str | Path | None = None,
    *,
    to: str = MERGED,
    data: Any = None,
    force: bool = False,
    overwrite: bool = False,
    **loading: Any,
) -> Path:
    """Write a run in another form, checked by loading it again; return the new folder.

    run: a folder, a `Run`, or the name of a run in the folder `runs`. output: default: RUN-FORM, beside the run.
    to: "merged" for transformers, "onnx" or "onnx-int8" for onnxruntime alone, "space" for Hugging Face Spaces.
    overwrite: replace an earlier export.
    data, force: of onnx-int8: labelled rows to evaluate it on (default: the run's validation rows); accept a model that
    is less accurate or could not be evaluated.
    loading: backbone= and trust= as for `textune.load`; with data also text=, text_pair=, label=, encoding= and
    delimiter=.
    Raises ConfigError or BundleError before the model is loaded where the call cannot succeed.
    """
    wanted = check_request(to, data, force, loading)
    return export_run(find_run(run), output, wanted, overwrite=overwrite).folder


@dataclass(frozen=True)
class Request:
    """What to export, checked by `check_request`."""

    form: str
    data: Any = None
    force: bool = False
    backbone: str | None = None
    trust: str | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)


def check_request(to: str, data: Any, force: bool, loading: Mapping[str, Any]) -> Request:
    """Return the request; raise ConfigError for an unknown form, and for options that do not apply to it."""
    if to not in FORMS:
        raise ConfigError(
            f"{flag('to', str(to))}: unknown form{suggest(str(to), FORMS)}", hint=f"known: {', '.join(FORMS)}"
        )
    if to != QUANTIZED and (data is not None or force):
        raise ConfigError(f"{flag('data', '')} and {flag('force')} only apply with {flag('to', QUANTIZED)}")
    reading = {} if data is None else {name: value for name, value in loading.items() if name in _READING}
    if wrong := [name for name in loading if name not in (*_LOADING, *reading)]:
        more = ", ".join(f"{name}=" for name in _READING)
        raise ConfigError(
            f"{wrong[0]}=: an export takes no such setting",
            hint=f"it takes backbone= and trust=, and with {flag('data', 'FILE')} also {more}",
        )
    build_config(reading)  # refused before the model is loaded
    backbone = loading.get("backbone")
    return Request(to, data, force, None if backbone is None else str(backbone), loading.get("trust"), reading)


def export_run(
    run: Path,
    output: str | Path | None,
    request: Request,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Do what `export` does, and warn of what an export loses."""
    from textune.export.marker import check_output
    from textune.report.card_forms import read_card

    if (card := run / "README.md").is_file():
        read_card(card)  # a person may have saved it in another encoding, which is said before the model is written
    target = _default_target(run, request.form) if output is None else expand_home(output)
    progress = progress or open_progress()
    check_output(target, overwrite)
    if request.form not in list_forms(run):
        raise BundleError(
            f"{run}: a model that writes cannot be exported to ONNX: each token would read the whole text again",
            hint=f"use {flag('to', MERGED)}, which transformers and other servers load",
        )
    with hold_place(target):
        if request.form == MERGED:
            return _export_merged(run, target, request, overwrite, progress)
        if request.form == SPACE:
            return _export_space(run, target, request, overwrite, progress)
        return _export_onnx(run, target, request, overwrite, progress)


def list_forms(run: Path) -> tuple[str, ...]:
    """Return the forms that a run can be exported to. ONNX, which a Space runs too, is for models that give labels."""
    return (MERGED,) if read_manifest(run, verify=False).writing else FORMS


def _default_target(run: Path, form: str) -> Path:
    """Return the folder beside the run, also for a run that is named by . or .. alone."""
    folder = run if run.name not in ("", "..") else run.resolve()
    return folder.parent / f"{folder.name}-{form}"


def _export_merged(run: Path, target: Path, request: Request, overwrite: bool, progress: Progress) -> Exported:
    from textune.export.merged import describe_losses, export_merged

    export_merged(run, target, backbone=request.backbone, overwrite=overwrite, trust=request.trust)
    losses = describe_losses(read_manifest(run, verify=False))
    if losses:
        progress.warn(losses)
    return Exported(target, request.form, losses=losses)


def _export_space(run: Path, target: Path, request: Request, overwrite: bool, progress: Progress) -> Exported:
    from textune.export.space import export_space

    for note in export_space(run, target, backbone=request.backbone, trust=request.trust, overwrite=overwrite):
        progress.warn(note)
    return Exported(target, request.form)


def _export_onnx(run: Path, target: Path, request: Request, overwrite: bool, progress: Progress) -> Exported:
    from textune.export.onnx import describe_doubt, export_onnx
    from textune.inference import LoadOptions

    examples = None
    if request.data is not None:
        from textune.run.other_rows import read_labelled

        rows = read_labelled(read_manifest(run, verify=False), request.data, build_config(request.reading))
        for note in rows.notes:
            progress.say(note)
        named = isinstance(request.data, str | Path)
        examples = rows, f"rows of {Path(request.data).name if named else 'the data frame'}"
    quality = export_onnx(
        run,
        target,
        form=request.form,
        measure_on=examples,
        force=request.force,
        backbone=LoadOptions(request.backbone, trust=request.trust),
        overwrite=overwrite,
    )
    if request.form == QUANTIZED and (doubt := describe_doubt(quality)) is not None:
        progress.warn(doubt)
    return Exported(target, request.form, quality=quality)
