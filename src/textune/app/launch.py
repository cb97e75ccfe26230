"""Start the app's server in this process, on this machine alone unless a password is set."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textune.app.options import DEFAULT_FOLDER, PASSWORD, UPLOAD_MEGABYTES, AppOptions, set_options
from textune.errors import ConfigError

LOOPBACK = "127.0.0.1"
FIRST_PORT, PORTS_TRIED = 8501, 50
_FIRST_PAGE_SECONDS = 2.0
SCRIPT = Path(__file__).with_name("script") / "textune_app.py"


def start_app(
    options: AppOptions,
    *,
    address: str = LOOPBACK,
    port: int | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve the app until a signal ends it. tell: is called with the app's address once it answers.

    Raises ConfigError for another address without a password, and for a port that is taken.
    """
    if options.password == "":
        raise ConfigError("the password is empty", hint=f"set {PASSWORD} to one, or leave it out")
    if not is_loopback(address) and options.password is None:
        raise ConfigError(
            f"--address {address}: other machines could open the app, which reads files and trains",
            hint=f"set a password: {PASSWORD}=... in the environment, or --password",
        )
    port = find_port(address, port)
    set_options(options)
    from streamlit.web import bootstrap

    shown = f"[{address}]" if ":" in address else address
    url = f"http://{shown}:{port}"
    threading.Thread(target=_tell_when_up, args=(address, port, lambda: tell(url)), daemon=True).start()
    settings = list_server_settings(address, port, local=options.password is None)
    flags = {name.replace(".", "_"): value for name, value in settings.items() if _knows_option(name)}
    bootstrap.load_config_options(flags)
    try:
        bootstrap.run(str(SCRIPT), False, [], flags)
    finally:
        from textune.app.uploads import remove_own_uploads

        remove_own_uploads()


def _knows_option(name: str) -> bool:
    """Return whether this version of Streamlit has an option."""
    from streamlit import config

    try:
        config.get_option(name)
    except RuntimeError:
        return False
    return True


def list_server_settings(address: str, port: int, *, local: bool) -> dict[str, Any]:
    """Return Streamlit's settings: nothing is sent to anyone, nothing is asked, and no file of this machine changes it.

    local: refuse pages of other sites that lead a name of their own to this machine.
    No theme is set, so that the pages follow the system's, light or dark.
    """
    return {
        "server.address": address,
        "server.port": port,
        "server.allowedHosts": ["localhost", LOOPBACK, "[::1]", address] if local else [],
        "server.headless": True,
        "server.maxUploadSize": UPLOAD_MEGABYTES,
        "server.fileWatcherType": "none",
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.enableStaticServing": False,
        "server.showEmailPrompt": False,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.disableDataExport": True,  # what a table's own button exports, a spreadsheet would run as formulas
        "client.allowedOrigins": [],
        "client.showErrorDetails": "full",
        "client.showErrorLinks": False,
        "global.developmentMode": False,
        "logger.hideWelcomeMessage": True,
        "runner.magicEnabled": False,
        "runner.postScriptGC": False,  # a full collection after each answer took 0.3 s beside a loaded model
    }


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches an address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def find_port(address: str, port: int | None) -> int:
    """Return the port that was asked for, or the first free one; raise ConfigError if it is taken or not allowed."""
    if port is not None:
        if not 1 <= port <= 65535:
            raise ConfigError(f"--port {port}: a port is a number from 1 to 65535")
        reason = _try_port(address, port)
        if reason is not None:
            raise ConfigError(
                f"{address}:{port}: {reason}", hint="choose another --port, or leave it out to take a free one"
            )
        return port
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        reason = _try_port(address, candidate)
        if reason is None:
            return candidate
    raise ConfigError(f"{address}: {reason}", hint="name a free port with --port, or another --address")


def _try_port(address: str, port: int) -> str | None:
    """Return why a port cannot be served, or None."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(place)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def _tell_when_up(address: str, port: int, tell: Callable[[], None], seconds: float = 60.0) -> None:
    reached = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with socket.create_connection((reached, port), timeout=1):
                tell()
                break
        except OSError:
            time.sleep(0.05)
    _preload()


def _preload() -> None:
    """Import what pages need, while a person still looks at the first."""
    with contextlib.suppress(Exception):  # the page itself shows the error
        time.sleep(_FIRST_PAGE_SECONDS)
        importlib.import_module("textune.run.listing")
        from textune.app.uploads import clean_uploads

        clean_uploads(DEFAULT_FOLDER)


def read_password(password: str | None) -> str | None:
    """Return the password of the command, or of the environment."""
    return password if password is not None else os.environ.get(PASSWORD)
