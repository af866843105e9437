"""What a request may make of little: windows, answers and lists are refused before they take memory or time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu.export import write_model
from fastcpu.serve.problems import Problem
from fastcpu.serve.protocols import tei
from fastcpu.tasks.tokenizer import MOST_WINDOW_TOKENS, Tokenizer, characters
from tests.reference import graphs
from tests.serve.conftest import TASKS
from tests.serve.live import LiveServer, model_directory
from tests.tasks.models import LENGTH, WORDS, save_tokenizer

LONG = "red " * 150_000
CHANNELS = 16
ROOM = 400_000  # bytes of the bodies that the small server keeps


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of a model that gives vectors of tokens, with room for small answers."""
    made = tmp_path_factory.mktemp("bounds")
    save_tokenizer(made / "source")
    model = write_model(graphs.encoder(length=LENGTH), made / "tokens", made / "source")
    settings = {"models": {"tokens": str(model)}, "max_body_bytes": ROOM // 2, "max_buffer_mb": ROOM / 1e6}
    (made / "serve.yaml").write_text(json.dumps(settings))
    with LiveServer(["--config", str(made / "serve.yaml"), "--threads", "1"]) as live:
        yield live


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[LiveServer]:
    """A server of all tiny models, whose memory no other test takes."""
    arguments = [f"{task}={model_directory(tiny_models, task)}" for task in TASKS]
    with LiveServer([*arguments, "--threads", "1"]) as live:
        yield live


def peak(server: LiveServer) -> float:
    """The most memory that a server has taken, in MB."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


# ---- windows ----

WINDOWS: list[tuple[str, dict[str, Any]]] = [
    ("/qa", {"question": "red", "context": LONG, "stride": 19, "model": "qa"}),
    ("/qa", {"question": ["red"] * 20, "context": LONG[:40_000], "stride": 19, "model": "qa"}),
    ("/tag", {"text": LONG, "stride": 21, "model": "tag"}),
    ("/tag", {"text": [LONG.split()], "stride": 21, "model": "tag"}),
    ("/models/qa", {"inputs": {"question": "red", "context": LONG}, "parameters": {"doc_stride": 19}}),
    ("/models/qa", {"inputs": {"question": "red", "context": LONG}, "parameters": {"max_seq_len": 7}}),
    ("/models/tag", {"inputs": LONG, "parameters": {"stride": 21}}),
]


@pytest.mark.parametrize(("path", "given"), WINDOWS)
def test_windows_are_counted_before_they_are_made(server: LiveServer, path: str, given: dict[str, Any]) -> None:
    answer = server.post(path, given)
    assert answer.status == 422
    assert "stride" in answer.json["error"]
    assert str(MOST_WINDOW_TOKENS) in answer.json["error"]
    assert peak(server) < 450


def test_many_windows_over_a_text(server: LiveServer) -> None:
    text = "red house " * 500
    (one, other) = (server.post("/tag", {"text": text, "stride": stride, "model": "tag"}).json for stride in (0, 20))
    assert len(one["words"]) == len(other["words"]) == 1000


# ---- answers ----


def test_tokens_of_a_large_text(server: LiveServer) -> None:
    answer = server.post("/tokenize", {"inputs": "a " * 500_000, "model": "embed"})
    assert answer.status == 413
    assert "about" in answer.json["error"]
    several = server.post("/tokenize", {"inputs": ["a " * 50_000] * 20, "model": "embed"})
    assert several.status == 413
    assert peak(server) < 600


def test_tokens_come_in_parts(server: LiveServer) -> None:
    texts = ["red house " * 5000, "red", " "]
    found = server.post("/tokenize", {"inputs": texts, "model": "embed"}).json
    assert [len(each) for each in found] == [10_002, 3, 2]
    bare = server.post("/tokenize", {"inputs": texts, "model": "embed", "add_special_tokens": False}).json
    assert bare == [each[1:-1] for each in found]
    assert [each["start"] for each in bare[0][:4]] == [0, 4, 10, 14]


def test_vectors_of_many_tokens(small: LiveServer) -> None:
    text = "red " * LENGTH
    fits = ROOM // 2 // (4 * CHANNELS * LENGTH)
    assert len(small.post("/embed_all", {"inputs": [text] * (fits // 2)}).json) == fits // 2
    answer = small.post("/embed_all", {"inputs": [text] * (fits + 1)})
    assert answer.status == 413
    assert str(4 * CHANNELS * LENGTH * (fits + 1)) in answer.json["error"]
    ids = small.post("/embed_all", {"inputs": [[5] * LENGTH] * (fits + 1)})
    assert (ids.status, ids.json) == (413, answer.json)


def test_texts_of_many_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tokenizer(tmp_path)
    tokenizer = Tokenizer(tmp_path)
    ids = [WORDS.index("red")] * 10
    size = 10 * len("red ")
    monkeypatch.setattr(tei, "MOST_JSON", 2 * size)
    assert tei._decoded(tokenizer, [ids, ids], True) == [" ".join(["red"] * 10)] * 2
    with pytest.raises(Problem, match=f"about {3 * size} bytes; at most {2 * size}") as found:
        tei._decoded(tokenizer, [ids, ids, ids], True)
    assert found.value.status == 413


# ---- lists ----

MANY = b",".join([b"1"] * 1_900_000)
LISTS: list[tuple[str, bytes, int]] = [
    ("/embed", b'{"model": "embed", "inputs": [%b]}', 422),
    ("/embed", b'{"model": "embed", "inputs": [[1], [%b]]}', 422),
    ("/v1/embeddings", b'{"model": "embed", "input": [%b]}', 400),
    ("/v1/embeddings", b'{"model": "embed", "input": [[%b]]}', 400),
    ("/decode", b'{"model": "embed", "ids": [%b]}', 413),
    ("/decode", b'{"model": "embed", "ids": [[1], [%b]]}', 413),
]


@pytest.mark.parametrize(("path", "form", "status"), LISTS)
def test_long_lists_of_ids(server: LiveServer, path: str, form: bytes, status: int) -> None:
    answer = server.request("POST", path, form % MANY)
    assert answer.status == status
    assert b"1900000" in answer.body or b"1900001" in answer.body


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/qa", {"question": [""] * 3000, "context": "", "model": "qa"}),
        ("/predict", {"inputs": [["a", "b", "c"]] * 3000, "model": "classify"}),
        ("/decode", {"ids": [[]] * 3000, "model": "embed"}),
        ("/rerank", {"query": "a", "texts": [""] * 3000, "model": "rerank"}),
    ],
)
def test_the_number_of_inputs_comes_first(server: LiveServer, path: str, given: dict[str, Any]) -> None:
    answer = server.post(path, given)
    assert answer.status == 413
    assert "2048" in answer.json["error"]


@pytest.mark.parametrize("path", ["/fill", "/models/fill_mask"])
def test_more_targets_than_tokens(server: LiveServer, path: str) -> None:
    targets = {"targets": ["red"] * (len(WORDS) + 1)}
    given = {"text": "[MASK]", "model": "fill_mask", **targets}
    answer = server.post(path, given if path == "/fill" else {"inputs": "[MASK]", "parameters": targets})
    assert answer.status == 422
    assert "targets" in answer.json["error"]


def test_empty_texts_count() -> None:
    assert characters(["abc", ("ab", ""), ["", "", "x"]]) == 3 + 2 + 1 + 3
    assert characters([""] * 10) == 10


def test_ids_that_are_none(server: LiveServer) -> None:
    for wrong in ([5, "a"], [5, -1], [5, 2**70], [5, len(WORDS)]):
        assert server.post("/embed", {"inputs": wrong, "model": "embed"}).status == 422
        assert server.post("/decode", {"ids": wrong, "model": "embed"}).status == 422
    (vector,) = server.post("/embed", {"inputs": [5, 6], "model": "embed"}).json
    assert np.isfinite(vector).all()
