"""What goes wrong on the way to a hub is told by its cause, and only who is not logged in is sent to log in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors

from hubs import Hub
from textune.errors import ConfigError, ModelError
from textune.export.merged import push_folder
from textune.run import Run


class TransportError(Exception):
    """The root of the errors of httpx: they are known by this name, as the hub's client changes its transport."""


class ConnectError(TransportError):
    """There is no network."""


class StatusError(Exception):
    """An answer of the hub with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} for url\nmore")
        self.response = SimpleNamespace(status_code=status)


class BrokenHub(Hub):
    """A hub whose first answer is an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def repo_exists(self, hub_id: str, **_: Any) -> bool:
        """Raise the error."""
        raise self.error


@pytest.mark.parametrize(
    ("error", "problem", "hint"),
    [
        (errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"),
        (ConnectError("Name or service not known"), "cannot be reached (ConnectError)", "connect and try again"),
        (ConnectionResetError("reset"), "cannot be reached (ConnectionResetError)", "connect and try again"),
        (TimeoutError(), "cannot be reached (TimeoutError)", "connect and try again"),
        (errors.LocalTokenNotFoundError("no token"), "does not know who you are", "hf auth login"),
        (StatusError(401), "does not know who you are", "hf auth login"),
        (StatusError(403), "your token does not allow it", "a token that may write"),
        (StatusError(500), "500 for url", None),
        (OSError(28, "No space left on device"), "No space left on device", None),
    ],
)
def test_each_failure_has_its_own_hint(error: Exception, problem: str, hint: str | None, finished: Run) -> None:
    with pytest.raises(ModelError) as caught:
        push_folder(finished.folder, "owner/name", api=BrokenHub(error))
    assert caught.value.message.startswith("owner/name: could not be published: ") and problem in caught.value.message
    assert (caught.value.hint is None) if hint is None else (hint in str(caught.value.hint))


@pytest.mark.parametrize("name", ["a/b/c", "owner/na me", "owner/-name", "owner/" + "x" * 97, "owner/a--b", "o!/name"])
def test_a_malformed_name_is_refused_before_the_hub_is_asked(name: str, finished: Run) -> None:
    with pytest.raises(ConfigError) as caught:
        push_folder(finished.folder, name, api=BrokenHub(AssertionError("asked")))
    assert name in caught.value.message and "OWNER/NAME" in str(caught.value.hint)
