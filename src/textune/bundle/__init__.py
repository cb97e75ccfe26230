"""The run folder: manifest, file names, lock and life cycle. No torch here."""

from textune.bundle.checks import EXPORTED_FORMS
from textune.bundle.contents import OF_THE_DESKTOP, check_overwritable, holds_run, list_foreign, prepare_run_folder
from textune.bundle.folder import (
    MANIFEST,
    PLAN,
    SETTINGS,
    SWEEP,
    AnyRun,
    PlaceNote,
    RunIsBusy,
    check_writable,
    find_run,
    has_begun,
    is_busy,
    lock_run,
    name_run,
    refuse_current,
    run_path,
)
from textune.bundle.manifest import (
    BaseModel,
    Manifest,
    TextColumns,
    read_manifest,
    refuse_exported,
    write_manifest,
)
from textune.errors import OldBundleWarning

__all__ = [
    "AnyRun",
    "BaseModel",
    "EXPORTED_FORMS",
    "MANIFEST",
    "Manifest",
    "OF_THE_DESKTOP",
    "OldBundleWarning",
    "PLAN",
    "PlaceNote",
    "RunIsBusy",
    "SETTINGS",
    "SWEEP",
    "TextColumns",
    "check_overwritable",
    "check_writable",
    "find_run",
    "has_begun",
    "holds_run",
    "is_busy",
    "list_foreign",
    "lock_run",
    "name_run",
    "prepare_run_folder",
    "read_manifest",
    "refuse_current",
    "refuse_exported",
    "run_path",
    "write_manifest",
]
