"""What servers are asked, protocol by protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fastcpu.load.protocols
from fastcpu.load import Corpus, Plan
from fastcpu.load.protocols import PROTOCOLS

ONE, TWO = Corpus(("a",)), Corpus(("a", "ü"))


def asked(corpus: Corpus, **options: Any) -> tuple[str, Any, str]:
    """Path, body and the lines of the head of the first request."""
    message = Plan("http://127.0.0.1:8000/up", corpus=corpus, batch=len(corpus.texts), rate=1, **options).messages()[0]
    head, _, body = message.partition(b"\r\n\r\n")
    method, path, version = head.decode().split("\r\n")[0].split(" ")
    assert (method, version) == ("POST", "HTTP/1.1")
    assert f"\r\nContent-Length: {len(body)}" in head.decode()
    assert "\r\nHost: 127.0.0.1:8000\r\n" in head.decode()
    return path, json.loads(body), head.decode()


@pytest.mark.parametrize(
    ("options", "path", "one", "two"),
    [
        (
            {"protocol": "openai", "model": "m"},
            "/v1/embeddings",
            {"model": "m", "input": ["a"], "encoding_format": "base64"},
            {"model": "m", "input": ["a", "ü"], "encoding_format": "base64"},
        ),
        (
            {"protocol": "openai", "model": "m", "encoding": "float"},
            "/v1/embeddings",
            {"model": "m", "input": ["a"], "encoding_format": "float"},
            {"model": "m", "input": ["a", "ü"], "encoding_format": "float"},
        ),
        ({"protocol": "tei"}, "/embed", {"inputs": ["a"]}, {"inputs": ["a", "ü"]}),
        ({"protocol": "predict"}, "/predict", {"inputs": "a"}, {"inputs": [["a"], ["ü"]]}),
        ({"protocol": "root"}, "/", {"inputs": "a"}, {"inputs": ["a", "ü"]}),
        (
            {"protocol": "v2", "model": "a/b c"},
            "/v2/models/a%2Fb%20c/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
            {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "ü"]}]},
        ),
        (
            {"protocol": "triton", "model": "m"},
            "/v2/models/m/infer",
            {
                "inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}],
                "parameters": {"binary_data_output": True},
            },
            {
                "inputs": [{"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "ü"]}],
                "parameters": {"binary_data_output": True},
            },
        ),
    ],
)
def test_requests(options: dict[str, Any], path: str, one: Any, two: Any) -> None:
    assert asked(ONE, **options)[:2] == (f"/up{path}", one)
    assert asked(TWO, **options)[:2] == (f"/up{path}", two)


def test_an_api_key_is_sent_and_not_reported() -> None:
    assert "\r\nAuthorization: Bearer s3cret\r\n" in asked(ONE, protocol="tei", api_key="s3cret")[2]
    assert "Authorization" not in asked(ONE, protocol="tei")[2]
    plan = Plan("http://127.0.0.1:8000", protocol="tei", rate=1, api_key="s3cret")
    assert "s3cret" not in repr(plan)
    assert "s3cret" not in json.dumps(plan.to_json())


def test_requests_take_the_texts_in_turn() -> None:
    plan = Plan("http://127.0.0.1:8000", protocol="tei", corpus=Corpus(("a", "b", "c")), batch=2, rate=1)
    bodies = [json.loads(message.partition(b"\r\n\r\n")[2])["inputs"] for message in plan.messages()]
    assert bodies == [["a", "b"], ["c", "a"]]


def test_every_module_is_registered() -> None:
    folder = Path(next(iter(fastcpu.load.protocols.__path__)))
    assert sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__") == list(PROTOCOLS)
