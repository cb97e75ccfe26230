"""The app is this machine's alone unless a password is set, and it tells nobody of itself."""

from __future__ import annotations

import socket
from typing import Any

import pytest

pytest.importorskip("streamlit")

from textune.app import launch
from textune.app.options import PASSWORD, UPLOAD_MEGABYTES, AppOptions
from textune.errors import ConfigError
from tiny import call_here


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])
def test_other_addresses_need_a_password(address: str) -> None:
    assert not launch.is_loopback(address)
    with pytest.raises(ConfigError, match="other machines could open the app"):
        launch.start_app(AppOptions(), address=address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_none(address: str) -> None:
    assert launch.is_loopback(address)


def test_an_empty_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "")
    with pytest.raises(ConfigError, match="password is empty"):
        launch.start_app(AppOptions(password=launch.read_password(None)))
    assert launch.read_password("given") == "given"


def test_a_taken_port_is_told_and_a_free_one_found() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: address already in use"):
            launch.find_port("127.0.0.1", port)
    assert launch.find_port("127.0.0.1", port) == port
    assert launch.find_port("127.0.0.1", None) >= launch.FIRST_PORT
    for wrong in (0, 65_536):
        with pytest.raises(ConfigError, match="from 1 to 65535"):
            launch.find_port("127.0.0.1", wrong)


def test_the_server_sends_nothing_and_caps_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit import config
    from streamlit.web import bootstrap

    started: list[Any] = []
    monkeypatch.setattr(bootstrap, "run", lambda *words: started.append(words))
    monkeypatch.setattr(bootstrap, "load_config_options", lambda flags: None)
    launch.start_app(AppOptions(), tell=lambda url: None)
    flags = started[0][3]
    assert flags["browser_gatherUsageStats"] is False and flags["server_showEmailPrompt"] is False
    assert flags["server_headless"] is True and flags["server_maxUploadSize"] == UPLOAD_MEGABYTES
    assert flags["server_address"] == "127.0.0.1" and "localhost" in flags["server_allowedHosts"]
    assert not [name for name in flags if name.startswith("theme")], "the pages follow the system's theme"
    for name in launch.list_server_settings("127.0.0.1", 1, local=True):
        config.get_option(name)  # raises for a name that this version does not know


def test_the_command_names_what_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = call_here(capsys, "app", "nowhere")
    assert code == 5 and "nowhere: no such folder" in errors
    code, _, errors = call_here(capsys, "app", "--address", "0.0.0.0")
    assert code == 2 and "password" in errors
