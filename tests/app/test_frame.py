"""A report inside the app runs nothing and leads nowhere, whoever wrote it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from textune.app.frame import read_page, wrap_page
from textune.errors import BundleError

HOSTILE = ("<script>alert(1)</script>", '"><script>alert(1)</script>', "</iframe><script>x</script>", "'><img src=x>")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("page", HOSTILE)
def test_a_page_is_shown_in_a_frame_without_rights(page: str) -> None:
    tags = Tags()
    tags.feed(wrap_page(page, page))
    assert {tag for tag, _ in tags.found} <= {"html", "head", "meta", "style", "body", "iframe"}
    (frame,) = [attributes for tag, attributes in tags.found if tag == "iframe"]
    assert frame["sandbox"] == "" and frame["srcdoc"] == page and frame["title"] == page
    policy = next(str(a["content"]) for t, a in tags.found if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_links_and_missing_pages_are_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is missing"):
        read_page(tmp_path / "report.html")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "report.html").symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="symbolic link"):
        read_page(tmp_path / "report.html")
