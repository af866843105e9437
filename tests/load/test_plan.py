"""Plans that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from fastcpu.errors import InputError
from fastcpu.load import Plan
from fastcpu.load.target import parse_url


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a rate .* or a concurrency"),
        ({"rate": 1, "concurrency": 1}, "either a rate .* or a concurrency"),
        ({"rate": 0}, "rate must be above 0"),
        ({"rate": -1}, "rate must be above 0"),
        ({"rate": float("nan")}, "rate must be above 0"),
        ({"rate": float("inf")}, "rate must be above 0"),
        ({"rate": 1e9}, "at most 10000000 requests"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1"),
        ({"concurrency": 100_000}, "concurrency must be a whole number from 1 to 10000"),
        ({"rate": 1, "max_connections": 0}, "max connections must be"),
        ({"rate": 1, "batch": 0}, "batch must be"),
        ({"rate": 1, "batch": 1.5}, "batch must be"),
        ({"rate": 1, "requests": 0}, "requests must be"),
        ({"rate": 1, "seed": -1}, "seed must be"),
        ({"rate": 1, "duration": 0}, "duration must be above 0"),
        ({"rate": 1, "duration": float("inf")}, "duration must be a number of seconds"),
        ({"rate": 1, "duration": 1e9}, "duration must be above 0 to 86400 s"),
        ({"rate": 1, "warmup": -1}, "warmup must be from 0"),
        ({"rate": 1, "timeout": 0}, "timeout must be above 0"),
        ({"rate": 1, "protocol": "grpc"}, "unknown protocol 'grpc'; there are openai, "),
        ({"rate": 1, "protocol": "v2", "model": None}, "v2 needs the name of a model"),
        ({"rate": 1, "protocol": "openai", "model": None}, "openai needs the name of a model"),
        ({"rate": 1, "model": ""}, "needs the name of a model"),
        ({"rate": 1, "encoding": "int8"}, "unknown encoding 'int8'.*base64, float"),
        ({"rate": 1, "protocol": "tei", "encoding": "float"}, "no choice"),
        ({"rate": 1, "api_key": "a\r\nb"}, "the API key"),
        ({"rate": 1, "api_key": ""}, "the API key"),
    ],
)
def test_bad_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plan("http://127.0.0.1:8000", **{"model": "m", **options})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must begin with http://"),
        ("127.0.0.1:8000", "must begin with http://"),
        ("ftp://127.0.0.1", "must begin with http://"),
        ("https://127.0.0.1", "https is not supported"),
        ("http://", "no host"),
        ("http://127.0.0.1:0", "a port that is none"),
        ("http://127.0.0.1:99999", "is no URL"),
        ("http://127.0.0.1:port", "is no URL"),
        ("http://[::1", "is no URL"),
        ("http://a b/", "no host"),
        ("http://me:secret@127.0.0.1", "a URL with a user"),
        ("http://127.0.0.1/?a=b", "a URL with a query"),
        ("http://127.0.0.1/#a", "a URL with a fragment"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plan(url, rate=1)


@pytest.mark.parametrize(
    ("protocol", "path", "asked"),
    [
        ("openai", "/v1", "/v1/embeddings"),
        ("openai", "/v1/", "/v1/embeddings"),
        ("openai", "/up/v1", "/up/v1/embeddings"),
        ("openai", "/v1/up", "/v1/up/v1/embeddings"),
        ("openai", "/ev1", "/ev1/v1/embeddings"),
        ("openai", "/v2", "/v2/v1/embeddings"),
        ("v2", "/v2", "/v2/models/m/infer"),
        ("tei", "/embed", "/embed"),
        ("root", "/up", "/up/"),
        ("root", "", "/"),
    ],
)
def test_the_first_part_of_a_path_is_not_repeated(protocol: str, path: str, asked: str) -> None:
    assert Plan(f"http://127.0.0.1:8000{path}", protocol=protocol, model="m", rate=1).path == asked


@pytest.mark.parametrize(
    ("url", "authority", "prefix"),
    [
        ("http://localhost", "localhost:80", ""),
        ("http://127.0.0.1:8000/", "127.0.0.1:8000", ""),
        ("http://[::1]:8000/a/b/", "[::1]:8000", "/a/b"),
        ("HTTP://Example.test/a b", "example.test:80", "/a%20b"),
        ("http://127.0.0.1/a\r\nX: y", "127.0.0.1:80", "/aX:%20y"),
    ],
)
def test_good_urls(url: str, authority: str, prefix: str) -> None:
    target = parse_url(url)
    assert (target.authority, target.prefix) == (authority, prefix)
