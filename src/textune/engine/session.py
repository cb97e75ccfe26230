"""Opening an exported graph under onnxruntime; a command may begin with it while it still loads the rest of itself."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

from textune.errors import BundleError, MissingExtraError

GRAPH = "model.onnx"

_begun: dict[str, tuple[threading.Thread, list[Any]]] = {}


def begin_session(folder: str | Path) -> None:
    """Open the graph of a folder beside what the caller does next, where there is one; `open_session` then has it.

    Half of the time to the first label is spent in onnxruntime, which leaves the interpreter free. What goes wrong is
    told by `open_session`.
    """
    path = Path(folder)
    if not (path / GRAPH).is_file():
        return
    with contextlib.suppress(MissingExtraError):
        import_runtime()  # in this thread: numpy, which it brings, must not be imported by two at once
    found: list[Any] = []

    def work() -> None:
        with contextlib.suppress(Exception):
            found.append(_open(path, None))

    thread = threading.Thread(target=work)  # not a daemon: ended amid native code, it would abort the process
    _begun[str(path)] = thread, found
    thread.start()


def open_session(folder: Path, threads: int | None = None) -> Any:
    """Return the session of `model.onnx` on the CPU; raise BundleError or MissingExtraError.

    threads: of one pass; None: as many as onnxruntime finds cores.
    """
    thread, found = _begun.pop(str(folder), (None, []))
    if thread is not None:
        thread.join()
        if found and threads is None:
            return found[0]
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
    except Exception as error:  # onnxruntime has an exception of its own for each code of its C interface
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{folder / GRAPH}: cannot be loaded: {reason}") from error


def import_runtime() -> Any:
    """Return onnxruntime, without a word of its own about this machine; raise MissingExtraError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            "an exported model needs onnxruntime, which is not installed", hint="pip install 'textune[onnx]'"
        ) from error
    with contextlib.suppress(AttributeError):
        onnxruntime.set_default_logger_severity(3)
    return onnxruntime
