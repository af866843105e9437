"""What every page must be: one well-formed document that loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta"}


class Checker(HTMLParser):
    """Collects tags that are not closed and attributes that could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loading: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.loading += [
            f"{tag} {name}" for name, _ in attrs if name in {"src", "href", "xlink:href", "srcset", "data"}
        ]
        if tag in {"script", "link", "iframe", "img", "object"}:
            self.loading.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def check(html: str) -> None:
    """`html` is one well-formed document without any resource from elsewhere."""
    assert html.startswith("<!doctype html>")
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.loading == []
    assert not re.search(r"https?://|@import|url\(", html)
