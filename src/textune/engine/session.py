"""Opening an exported graph with onnxruntime, in the background if a command is still loading other modules."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

from textune.bundle import GRAPH
from textune.errors import BundleError, MissingExtraError

_opening: dict[str, tuple[threading.Thread, list[Any]]] = {}


def begin_session(folder: str | Path) -> None:
    """Start opening a folder's graph, if it has one, in a background thread; `open_session` returns the result.

    onnxruntime takes half of the time to the first label and releases the interpreter lock. Errors are raised by
    `open_session`.
    """
    path = Path(folder)
    if not (path / GRAPH).is_file():
        return
    with contextlib.suppress(MissingExtraError):
        import_runtime()  # in this thread: it imports numpy, which two threads must not do at once
    sessions: list[Any] = []

    def work() -> None:
        with contextlib.suppress(Exception):
            sessions.append(_open(path, None))

    thread = threading.Thread(target=work)  # not a daemon: killed in native code, it would abort the process
    _opening[str(path)] = thread, sessions
    thread.start()


def open_session(folder: Path, threads: int | None = None) -> Any:
    """Return the session of `model.onnx` on the CPU; raise BundleError or MissingExtraError.

    threads: of one pass; None: one per core.
    """
    thread, sessions = _opening.pop(str(folder), (None, []))
    if thread is not None:
        thread.join()
        if sessions and threads is None:
            return sessions[0]
    return _open(folder, threads)


def _open(folder: Path, threads: int | None) -> Any:
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(folder / GRAPH), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{folder / GRAPH}: cannot be loaded: {reason}") from error


def import_runtime() -> Any:
    """Return onnxruntime with its warnings about the machine silenced; raise MissingExtraError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            "an exported model needs onnxruntime, which is not installed", hint="pip install 'textune[onnx]'"
        ) from error
    with contextlib.suppress(AttributeError):
        onnxruntime.set_default_logger_severity(3)
    return onnxruntime
