"""The files of the page: what is served, how, and what is not in them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fastcpu.serve.app import App
from fastcpu.serve.config import Config
from fastcpu.serve.protocols import operations, page
from fastcpu.serve.serving import Serving
from tests.serve.live import Answer, LiveServer

FOLDER = Path(page.__file__).parents[1] / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())
MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def asked(path: str, method: str = "GET", headers: Mapping[str, str] | None = None, **settings: Any) -> Answer:
    """The answer of a server with such settings that has not loaded its model."""

    async def ask() -> Answer:
        serving = Serving(Config(models={"none": "nowhere"}, access_log=False, **settings))
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        lines = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": lines, "client": ("127.0.0.1", 1)}
        await App(serving)(scope, receive, send)
        await serving.stop()
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, sent[1]["body"])

    return asyncio.run(ask())


def addresses(index: bytes) -> list[str]:
    """Of the files that the page loads."""
    return re.findall(r'(?:src|href)="(page/[^"]+)"', index.decode())


def test_the_page_is_served_with_a_strict_policy() -> None:
    answer = asked("/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == policy["object-src"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("name", FILES)
def test_files_have_their_type_and_stay_in_caches(name: str) -> None:
    version = addresses(asked("/").body)[0].split("/")[1]
    answer = asked(f"/page/{version}/{name}")
    assert answer.status == 200
    assert answer.headers["content-type"] == MEDIA[Path(name).suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == str(len(answer.body))
    if name != "index.html":
        assert answer.body == (FOLDER / name).read_bytes()
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_everything_that_the_page_loads_is_there() -> None:
    loaded = addresses(asked("/").body)
    assert {Path(path).name for path in loaded} == {"icon.svg", "style.css", "results.css", "app.js"}
    assert all(asked(f"/{path}").status == 200 for path in loaded)
    for name in FILES:
        if name.endswith(".js"):
            text = (FOLDER / name).read_text(encoding="utf-8")
            imported = re.findall(r'from "\./([^"]+)"', text)
            assert set(imported) <= set(FILES)
            assert len(imported) == len(re.findall(r"^import ", text, re.MULTILINE))


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/page/VERSION/app.js",
        "/page/0000000000000000/app.js",
        "/page/{version}/",
        "/page/{version}/absent.js",
        "/page/{version}/../page.py",
        "/page/{version}/..%2fapp.py",
        "/page/{version}/app.js/",
        "/page/{version}/__init__.py",
        "/index.html",
        "/app.js",
    ],
)
def test_there_is_nothing_else(path: str) -> None:
    version = addresses(asked("/").body)[0].split("/")[1]
    answer = asked(path.format(version=version))
    assert answer.status == 404
    assert "there is nothing at" in answer.json["error"]


def test_the_icon_is_declared_so_that_browsers_do_not_ask_for_another() -> None:
    (icon,) = re.findall(r'<link rel="icon" ([^>]+)>', asked("/").body.decode())
    assert re.fullmatch(r'href="page/\w+/icon\.svg" type="image/svg\+xml" sizes="any"', icon)


def test_a_server_without_a_page() -> None:
    paths = ["/", *(f"/{path}" for path in addresses(asked("/").body))]
    assert [asked(path, page=False).status for path in paths] == [404] * len(paths)
    assert asked("/health", page=False).status == 503


def test_the_page_needs_no_key_and_says_nothing_of_the_server() -> None:
    keys = {"someone": "secret-of-someone"}
    assert asked("/", api_keys=keys).body == asked("/").body
    assert asked(f"/{addresses(asked('/').body)[0]}", api_keys=keys).status == 200
    assert asked("/status", api_keys=keys).status == 401


def test_what_the_paths_take() -> None:
    assert asked("/", "HEAD").status == 200
    answer = asked("/", "DELETE")
    assert answer.status == 405
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))
    assert [operation for operation in operations() if operation.path == "/" and operation.method == "GET"] == [
        page.OPERATIONS[0]
    ]


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    text = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.", text)
    assert not re.search(r"@import|\burl\(", text)


@pytest.mark.parametrize("name", FILES)
def test_text_never_becomes_markup_or_code(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    risky = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|localStorage"
    )
    assert not re.search(risky, text)
    if name.endswith(".html"):
        assert not re.search(r"<style|\bstyle=|\bon[a-z]+=|<script(?![^>]*\bsrc=)", text)


def test_over_the_wire(server: LiveServer) -> None:
    whole, head = server.get("/"), server.request("HEAD", "/")
    assert whole.status == head.status == 200
    assert whole.body.startswith(b"<!doctype html>")
    assert not head.body
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))
    assert all(server.get(f"/{path}").status == 200 for path in addresses(whole.body))
