"""Pages that textune wrote, such as reports, inside the app: no script of theirs runs, and they reach nothing."""

from __future__ import annotations

import html
from pathlib import Path

from textune.errors import BundleError

_LARGEST = 32 * 2**20
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"


def read_page(path: Path, hint: str | None = None) -> str:
    """Return a report; raise BundleError if it is missing, a link or far too large.

    hint: what to do if it is missing.
    """
    if path.is_symlink():
        raise BundleError(f"{path}: is a symbolic link, and the app follows none")
    if not path.is_file():
        raise BundleError(f"{path}: is missing", hint=hint)
    if path.stat().st_size > _LARGEST:
        raise BundleError(f"{path}: is larger than {_LARGEST >> 20} MB", hint="open the file in a browser")
    return path.read_text(encoding="utf-8", errors="replace")


def wrap_page(page: str, title: str) -> str:
    """Return a page that shows another one in a frame without any rights: a run may come from elsewhere."""
    return (
        '<!doctype html><html><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<style>html,body{margin:0;height:100%}iframe{border:0;width:100%;height:100%;display:block}</style></head>"
        f'<body><iframe sandbox="" title="{html.escape(title)}" srcdoc="{html.escape(page)}"></iframe></body></html>'
    )
