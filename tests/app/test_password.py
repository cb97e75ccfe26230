"""The password: nothing before it, once in a browser, and nothing of it outside the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from textune.app import password
from textune.app.launch import SCRIPT
from textune.app.options import AppOptions, set_options

SECRET = "sesame"


@pytest.fixture(autouse=True)
def _options(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(password, "_WRONG_SECONDS", 0.0)
    monkeypatch.setattr(password, "_VISITS", {})
    set_options(AppOptions(password=SECRET))
    yield
    set_options(AppOptions())


def open_app(monkeypatch: pytest.MonkeyPatch, cookies: dict[str, str]) -> AppTest:
    """Return the app as a browser with these cookies loads it."""
    monkeypatch.setattr(password, "_read_cookies", lambda: cookies)
    app = AppTest.from_file(str(SCRIPT), default_timeout=30).run()
    assert not app.exception
    return app


def is_locked(app: AppTest) -> bool:
    return [title.value for title in app.title] == ["textune"]


def read_cookie(app: AppTest) -> dict[str, str]:
    """Return the cookie that the page's script sets."""
    (script,) = [element.proto.body for element in app.get("html") if "<script" in element.proto.body]
    found = re.search(r'document.cookie="(\w+)=([\w-]+); path=/; SameSite=Strict"', script)
    assert found is not None and SECRET not in script
    return {found[1]: found[2]}


def test_it_is_asked_once_in_a_browser(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app(monkeypatch, {})
    assert is_locked(app) and len(app.text_input) == 1
    app.text_input[0].set_value("sesam")
    app.button[0].click().run()
    assert is_locked(app) and app.error[0].value == "The password is wrong." and not password._VISITS
    app.text_input[0].set_value(SECRET)
    app.button[0].click().run()
    assert not app.exception and app.title[0].value == "Try"
    cookies = read_cookie(app)
    assert not any(SECRET in part or part in str(password._VISITS) for part in cookies.values())
    assert not is_locked(open_app(monkeypatch, cookies)) and is_locked(open_app(monkeypatch, {}))
    app.run()
    assert read_cookie(app) == cookies, "a browser that missed the first drawing gets the same token"


@pytest.mark.parametrize("token", ["", "x", SECRET, "\ud800", "a" * 10_000])
def test_no_other_token_opens_the_pages(token: str) -> None:
    known = password.remember_visitor()
    assert password.knows_visitor({password._COOKIE: known})
    assert not password.knows_visitor({password._COOKIE: token}) and not password.knows_visitor({"other": known})


def test_a_token_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    token = password.remember_visitor()
    later = password.time.monotonic() + password._VISIT_SECONDS
    monkeypatch.setattr(password.time, "monotonic", lambda: later)
    assert not password.knows_visitor({password._COOKIE: token})
    password.remember_visitor()
    assert len(password._VISITS) == 1, "old tokens are forgotten"
