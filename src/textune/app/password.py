"""The password, asked once in a browser: it then keeps a random token until it is closed, and never the password."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping

import streamlit as st

from textune.app.markup import write_cookie
from textune.app.options import get_options

_WRONG_SECONDS = 1.0
"""How long a wrong password waits for its answer."""
_VISIT_SECONDS = 12 * 3600.0
"""How long a token opens the pages again, at most until the app ends."""
_COOKIE = f"textune_{secrets.token_hex(4)}"
"""Another name in each process: apps on other ports of the same machine share its cookies."""
_VISITS: dict[bytes, float] = {}
"""The hash of each token, and until when it holds."""


def is_open() -> bool:
    """Return whether this visitor may see the pages."""
    if get_options().password is not None and not st.session_state.get("unlocked"):
        st.session_state["unlocked"] = knows_visitor(_read_cookies())
        return bool(st.session_state["unlocked"])
    return True


def ask_password() -> None:
    """Draw the question; a right answer opens the pages when they are drawn again."""
    st.title("textune", anchor=False)
    with st.form("password", width=400):
        st.text_input("Password", type="password", autocomplete="current-password", key="password typed")
        st.form_submit_button("Open", on_click=_check_password)
    if st.session_state.pop("password wrong", False):
        st.error("The password is wrong.")


def _check_password() -> None:
    typed, wanted = str(st.session_state.get("password typed") or ""), get_options().password or ""
    if hmac.compare_digest(typed.encode("utf-8", "replace"), wanted.encode("utf-8", "replace")):
        st.session_state["unlocked"], st.session_state["visit"] = True, remember_visitor()
    else:
        time.sleep(_WRONG_SECONDS)
        st.session_state["password wrong"] = True


def keep_open() -> None:
    """Give the browser of a visitor who has typed the password a token that opens the pages again."""
    if get_options().password is None:
        return
    place = st.empty()  # each time: what is drawn only once would move the rest of the page
    if token := st.session_state.get("visit"):
        # each time too: a page that is drawn again at once may replace this before a slow browser has run it
        place.html(write_cookie(_COOKIE, token), unsafe_allow_javascript=True)


def remember_visitor() -> str:
    """Return a token by which a visitor who knows the password is known after the page is loaded again."""
    now = time.monotonic()
    for old in [mark for mark, until in _VISITS.items() if until < now]:
        _VISITS.pop(old, None)
    token = secrets.token_urlsafe(32)
    _VISITS[_hash(token)] = now + _VISIT_SECONDS
    return token


def knows_visitor(cookies: Mapping[str, str]) -> bool:
    """Return whether a browser's cookies hold a token that still opens the pages."""
    until = _VISITS.get(_hash(cookies.get(_COOKIE, "")))
    return until is not None and time.monotonic() < until


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _read_cookies() -> Mapping[str, str]:
    cookies: Mapping[str, str] = st.context.cookies
    return cookies
