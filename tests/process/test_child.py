"""What is told of a command that failed in its own process."""

from __future__ import annotations

import pytest

from textune.errors import ModelError, TextuneError
from textune.process.child import Finished, explain_failure

BUG = "this is a bug in textune: AcceleratorError: CUDA error: out of memory"
HINT = "--debug shows the traceback"


@pytest.mark.parametrize(
    ("printed", "message", "hint"),
    [
        (f"error: {BUG}\n  {HINT}\n", f"lora: {BUG}", HINT),
        (f"reading\nwarning: no error: none\nerror: {BUG}\n  {HINT}\n", f"lora: {BUG}", HINT),
        (f"error: {ModelError('no such model')}\n", "lora: no such model", None),
        ("Traceback: some error: odd\n", "lora: failed with exit code 5; see its output above", None),
    ],
)
def test_a_message_that_quotes_another_error_is_told_whole(printed: str, message: str, hint: str | None) -> None:
    error = explain_failure("lora", Finished(5, "", printed))
    assert isinstance(error, TextuneError) and error.exit_code == 5
    assert (error.message, error.hint) == (message, hint)
