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


def ask_password() -> bool:
    """Return whether this visitor may see the pages; if not, draw the question."""
    wanted = get_options().password
    if wanted is None or st.session_state.get("unlocked"):
        return True
    if knows_visitor(_read_cookies()):
        st.session_state["unlocked"] = True
        return True
    place = st.empty()
    with place.container():
        st.title("textune")
        with st.form("password", width=400):
            given = st.text_input("Password", type="password", autocomplete="current-password")
            sent = st.form_submit_button("Open")
        if not sent:
            return False
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            time.sleep(_WRONG_SECONDS)
            st.error("The password is wrong.")
            return False
    st.session_state["unlocked"] = True
    place.html(write_cookie(_COOKIE, remember_visitor()), unsafe_allow_javascript=True)
    return True


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
