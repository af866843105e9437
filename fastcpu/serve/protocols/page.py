"""The page for people at /, and the files it is made of."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from fastcpu.serve.operation import Call, Operation, Reply
from fastcpu.serve.problems import Problem
from fastcpu.serve.protocols.tei import PROTOCOL as ERRORS
from fastcpu.serve.serving import Serving

PROTOCOL = ERRORS
_FOLDER = Path(__file__).parents[1] / "page"
_INDEX = "index.html"
_MEDIA = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_VERSION = b"VERSION"
"""Stands in index.html for the version in the addresses of the other files."""

_POLICY = (
    b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'"
)
_SECURITY = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_ASK_AGAIN = (b"cache-control", b"no-cache")
_KEEP = (b"cache-control", b"public, max-age=31536000, immutable")


@functools.cache
def _files() -> tuple[str, dict[str, bytes]]:
    """The version, which differs if any file does, and the content of every file."""
    found = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _MEDIA}
    version = hashlib.sha256(b"\0".join(found.values())).hexdigest()[:16]
    found[_INDEX] = found[_INDEX].replace(_VERSION, version.encode())
    return version, found


def _reply(serving: Serving, call: Call, version: str, name: str) -> Reply:
    """A file; Problem if there is none of that name and version, or the server has no page."""
    current, files = _files()
    if not serving.config.page or version != current or name not in files:
        raise Problem(404, "not_found", f"there is nothing at {call.scope['path']!r:.200}")
    cache = _ASK_AGAIN if name == _INDEX else _KEEP
    return Reply(files[name], media=_MEDIA[Path(name).suffix], headers=(*_SECURITY, cache))


async def _index(serving: Serving, call: Call) -> Reply:
    return _reply(serving, call, _files()[0], _INDEX)


async def _file(serving: Serving, call: Call) -> Reply:
    return _reply(serving, call, call.parameters["version"], call.parameters["file"])


OPERATIONS = (
    Operation(
        "GET",
        "/",
        _index,
        PROTOCOL,
        "A page for people",
        response=bytes,
        media="text/html",
        public=True,
        light=True,
        statuses=(404,),
    ),
    Operation(
        "GET",
        "/page/{version}/{file}",
        _file,
        PROTOCOL,
        "A file of the page",
        response=bytes,
        media="*/*",
        shown=False,
        public=True,
        light=True,
        statuses=(404,),
    ),
)
