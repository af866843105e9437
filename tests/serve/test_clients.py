"""The clients that people have, against a running server: what they get is what `fastcpu.tasks` gives."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu.tasks import Classifier, Embedder, MaskFiller, QuestionAnswerer, Reranker, Tagger
from tests.serve.live import LiveServer, model_directory

TEXTS = ["a red house", "Anna lives in London", "the dog"]
KEY = "key-of-a-client"
ALIAS = "house/embedder"


@pytest.fixture(scope="module")
def embedder(tiny_models: Path) -> Embedder:
    return Embedder(model_directory(tiny_models, "embed"), threads=1)


@pytest.fixture(scope="module")
def vectors(embedder: Embedder) -> np.ndarray:
    return embedder.embed(TEXTS)


@pytest.fixture(scope="module")
def locked(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One model with an alias, keys, and one request at a time."""
    path = tmp_path_factory.mktemp("locked") / "serve.yaml"
    model = {"path": str(model_directory(tiny_models, "embed")), "aliases": [ALIAS]}
    path.write_text(json.dumps({"models": {"embed": model}, "api_keys": {"me": KEY}, "max_requests": 1}))
    with LiveServer(["--config", str(path), "--threads", "1"]) as live:
        yield live


@contextmanager
def unfinished_request(server: LiveServer) -> Iterator[None]:
    """A request whose body does not come."""
    head = f"POST /embed HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        while server.get("/status", {"authorization": f"Bearer {KEY}"}).json["requests"] == 0:
            pass
        yield


# ---- openai ----


@pytest.fixture
def openai(server: LiveServer) -> Iterator[Any]:
    package = pytest.importorskip("openai")
    with package.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def embeddings(reply: Any) -> np.ndarray:
    assert [each.index for each in reply.data] == list(range(len(reply.data)))
    return np.array([each.embedding for each in reply.data], np.float32)


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_openai_embeddings(openai: Any, vectors: np.ndarray, form: dict[str, Any]) -> None:
    reply = openai.embeddings.create(input=TEXTS, model="embed", user="someone", **form)
    if form.get("encoding_format") == "base64":  # who asks for it gets it as it is
        import base64

        found = np.stack([np.frombuffer(base64.b64decode(each.embedding), "<f4") for each in reply.data])
    else:
        found = embeddings(reply)
    assert np.array_equal(found, vectors)
    assert (reply.object, reply.model, reply.usage.prompt_tokens, reply.usage.total_tokens) == ("list", "embed", 15, 15)
    assert np.array_equal(
        embeddings(openai.embeddings.create(input=TEXTS[0], model="embed", **form | {"encoding_format": "float"})),
        vectors[:1],
    )


def test_openai_dimensions(openai: Any, vectors: np.ndarray) -> None:
    found = embeddings(openai.embeddings.create(input=TEXTS, model="embed", dimensions=3))
    norms = np.sqrt((vectors[:, :3] * vectors[:, :3]).sum(axis=1, keepdims=True))
    assert np.array_equal(found, vectors[:, :3] / norms)


def test_openai_token_ids(openai: Any, embedder: Embedder, vectors: np.ndarray) -> None:
    ids = [each.ids.tolist() for each in embedder.tokenizer.encode(TEXTS)]
    assert np.array_equal(embeddings(openai.embeddings.create(input=ids, model="embed")), vectors)
    assert np.array_equal(embeddings(openai.embeddings.create(input=ids[1], model="embed")), vectors[1:2])


def test_openai_async(server: LiveServer, vectors: np.ndarray) -> None:
    package = pytest.importorskip("openai")

    async def ask() -> list[np.ndarray]:
        async with package.AsyncOpenAI(base_url=server.url, api_key="any") as client:
            calls = [client.embeddings.create(input=TEXTS, model="embed") for _ in range(8)]
            return [embeddings(reply) for reply in await asyncio.gather(*calls)]

    assert all(np.array_equal(found, vectors) for found in asyncio.run(ask()))


@pytest.mark.parametrize(
    ("given", "error", "param", "code"),
    [
        ({"input": "", "model": "embed"}, "BadRequestError", "input", "invalid_request"),
        ({"input": [], "model": "embed"}, "BadRequestError", "input", "invalid_request"),
        ({"input": ["a", ""], "model": "embed"}, "BadRequestError", "input", "invalid_request"),
        ({"input": ["a"] * 2049, "model": "embed"}, "BadRequestError", "input", "invalid_request"),
        ({"input": [1] * 25, "model": "embed"}, "BadRequestError", "input", "invalid_request"),
        ({"input": [10**9], "model": "embed"}, "BadRequestError", "input", "invalid_request"),
        ({"input": "a", "model": "embed", "dimensions": 17}, "BadRequestError", "dimensions", "invalid_request"),
        ({"input": "a", "model": "embed", "dimensions": 0}, "BadRequestError", "dimensions", "invalid_request"),
        ({"input": "a", "model": "qa"}, "BadRequestError", "model", "wrong_task"),
        ({"input": "a", "model": "gpt"}, "NotFoundError", "model", "model_not_found"),
        ({"input": "a", "model": "embed", "extra_body": {"x": 1}}, "BadRequestError", "x", "invalid_request"),
    ],
)
def test_openai_errors(openai: Any, given: dict[str, Any], error: str, param: str | None, code: str) -> None:
    import openai as package

    with pytest.raises(getattr(package, error)) as caught:
        openai.embeddings.create(**given)
    found = caught.value
    assert (found.param, found.code, found.type) == (param, code, "invalid_request_error")


def test_openai_models(openai: Any, locked: LiveServer, vectors: np.ndarray) -> None:
    import openai as package

    assert {model.id for model in openai.models.list()} >= {"embed", "classify"}
    assert openai.models.retrieve("embed").id == "embed"
    with pytest.raises(package.NotFoundError):
        openai.models.retrieve("gpt")
    with package.OpenAI(base_url=f"{locked.url}/v1", api_key=KEY) as client:
        assert [model.id for model in client.models.list()] == ["embed", ALIAS]
        assert client.models.retrieve(ALIAS).id == ALIAS
        reply = client.embeddings.create(input=TEXTS, model=ALIAS)
    assert reply.model == ALIAS
    assert np.array_equal(embeddings(reply), vectors)


def test_openai_keys_and_limits(openai: Any, locked: LiveServer) -> None:
    import openai as package

    with package.OpenAI(base_url=f"{locked.url}/v1", api_key="another-key", max_retries=0) as client:
        with pytest.raises(package.AuthenticationError) as caught:
            client.embeddings.create(input="a", model="embed")
        assert caught.value.code == "invalid_api_key"
    with package.OpenAI(base_url=f"{locked.url}/v1", api_key=KEY, max_retries=0) as client:
        with unfinished_request(locked), pytest.raises(package.RateLimitError) as caught:
            client.embeddings.create(input="a", model="embed")
        assert caught.value.code == "rate_limit_exceeded"
        assert int(caught.value.response.headers["retry-after"]) >= 1


def test_langchain_embeddings(server: LiveServer, vectors: np.ndarray) -> None:
    package = pytest.importorskip("langchain_openai")
    client = package.OpenAIEmbeddings(
        model="embed", base_url=f"{server.url}/v1", api_key="any", check_embedding_ctx_length=False
    )
    assert np.array_equal(np.array(client.embed_documents(TEXTS), np.float32), vectors)
    assert np.array_equal(np.array(client.embed_query(TEXTS[1]), np.float32), vectors[1])


# ---- cohere ----


@pytest.mark.parametrize("version", ["Client", "ClientV2"])
def test_cohere_rerank(server: LiveServer, tiny_models: Path, version: str) -> None:
    package = pytest.importorskip("cohere")
    logits = Reranker(model_directory(tiny_models, "rerank"), threads=1).scores([("who?", text) for text in TEXTS])
    scores = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
    with getattr(package, version)(api_key="any", base_url=server.url) as client:
        reply = client.rerank(model="rerank", query="who?", documents=TEXTS, top_n=2)
        assert reply.id
        assert [(each.index, each.relevance_score) for each in reply.results] == [
            (index, scores[index]) for index in np.argsort(-scores)[:2]
        ]
        with pytest.raises(package.errors.NotFoundError) as caught:
            client.rerank(model="rerank-v3", query="who?", documents=TEXTS)
        assert "rerank-v3" in caught.value.body["message"]
        with pytest.raises(package.errors.BadRequestError, match="query is empty"):
            client.rerank(model="rerank", query=" ", documents=TEXTS)


def test_cohere_parameters(server: LiveServer) -> None:
    package = pytest.importorskip("cohere")
    given: dict[str, Any] = {"model": "rerank", "query": "who?", "documents": TEXTS}
    with package.ClientV2(api_key="any", base_url=server.url) as client:
        assert len(client.rerank(**given, max_tokens_per_doc=4096, priority=0).results) == 3
        for name, value in (("max_tokens_per_doc", 10), ("priority", 3), ("top_n", 0)):
            with pytest.raises(package.errors.BadRequestError, match=name):
                client.rerank(**given, **{name: value})


def test_cohere_documents(server: LiveServer) -> None:
    package = pytest.importorskip("cohere")
    documents = [{"text": text, "page": "7"} for text in TEXTS]
    with package.Client(api_key="any", base_url=server.url) as client:
        reply = client.rerank(
            model="rerank", query="who?", documents=documents, rank_fields=["text"], return_documents=True
        )
        assert sorted(each.document.text for each in reply.results) == sorted(TEXTS)
        with pytest.raises(package.errors.BadRequestError, match="rank_fields"):
            client.rerank(model="rerank", query="who?", documents=documents, rank_fields=["page"])


# ---- huggingface_hub ----


@pytest.fixture
def huggingface(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, with which 127.0.0.1 can be reached even where the hub must not be."""
    package = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return package


@pytest.fixture
def hub(server: LiveServer, huggingface: Any) -> Any:
    """A client for the model of a task."""
    return lambda task: huggingface.InferenceClient(base_url=f"{server.url}/models/{task}")


def test_hub_feature_extraction(hub: Any, embedder: Embedder, vectors: np.ndarray) -> None:
    client = hub("embed")
    assert np.array_equal(client.feature_extraction(TEXTS), vectors)
    assert np.array_equal(client.feature_extraction(TEXTS[0], truncate=True, encoding_format="float"), vectors[:1])
    plain = np.stack(embedder.run(embedder.prepare_tokens(embedder.tokenizer.encode(TEXTS), normalize=False)))
    assert np.array_equal(client.feature_extraction(TEXTS, normalize=False), plain)
    assert np.array_equal(client.feature_extraction(TEXTS, normalize=False, dimensions=4), plain[:, :4])


def test_hub_root_and_keys(locked: LiveServer, huggingface: Any, vectors: np.ndarray) -> None:
    client = huggingface.InferenceClient(base_url=locked.url, api_key=KEY)
    assert np.array_equal(client.feature_extraction(TEXTS), vectors)
    with pytest.raises(huggingface.errors.HfHubHTTPError, match="401"):
        huggingface.InferenceClient(base_url=locked.url, api_key="another").feature_extraction(TEXTS)


def test_hub_async(server: LiveServer, huggingface: Any, vectors: np.ndarray) -> None:
    async def ask() -> list[np.ndarray]:
        async with huggingface.AsyncInferenceClient(base_url=f"{server.url}/models/embed") as client:
            return await asyncio.gather(*[client.feature_extraction(TEXTS) for _ in range(4)])

    assert all(np.array_equal(found, vectors) for found in asyncio.run(ask()))


def test_hub_sentence_similarity(hub: Any, vectors: np.ndarray) -> None:
    found = hub("embed").sentence_similarity(TEXTS[0], TEXTS[1:])
    assert np.array_equal(np.array(found, np.float32), vectors[1:] @ vectors[0])


@pytest.mark.parametrize("function", [None, "softmax", "sigmoid", "none"])
def test_hub_text_classification(hub: Any, tiny_models: Path, function: str | None) -> None:
    task = Classifier(model_directory(tiny_models, "classify"), threads=1)
    (expected,) = task([TEXTS[0]])
    logits = np.array(expected.logits)
    scores = {
        None: expected.scores,
        "softmax": expected.scores,
        "sigmoid": (0.5 * (1 + np.tanh(0.5 * logits))).tolist(),
        "none": expected.logits,
    }[function]
    wanted = sorted(zip(scores, task.labels, strict=True), reverse=True)
    for top_k in (None, 1, 2):
        found = hub("classify").text_classification(TEXTS[0], top_k=top_k, function_to_apply=function)
        assert [(each.score, each.label) for each in found] == wanted[:top_k]


@pytest.mark.parametrize("strategy", [None, "none", "simple", "first", "average", "max"])
def test_hub_token_classification(hub: Any, tiny_models: Path, strategy: str | None) -> None:
    task = Tagger(model_directory(tiny_models, "tag"), threads=1)
    text = "Anna works in Scotland, Paul plays in London. " * 4
    label_of: Any = strategy if strategy in ("first", "average", "max") else "token"
    (expected,) = task.run(task.prepare([text], label_of=label_of, stride=3))
    found = hub("tag").token_classification(text, aggregation_strategy=strategy, stride=3)
    if strategy == "none":
        wanted = [(each.label, each.score, each.text, each.start, each.end) for each in expected.words]
        assert [(each.entity, each.score, each.word, each.start, each.end) for each in found] == [
            each for each in wanted if each[0] != "O"
        ]
    else:
        assert [(each.entity_group, each.score, each.word, each.start, each.end) for each in found] == [
            (each.kind, each.score, each.text, each.start, each.end) for each in expected.entities
        ]
    every = hub("tag").token_classification(text, aggregation_strategy=strategy, stride=3, ignore_labels=[])
    assert "".join(each.word for each in every).replace(" ", "") == text.replace(" ", "")
    chosen = hub("tag").token_classification(
        text, aggregation_strategy=strategy, stride=3, ignore_labels=["PER", "B-PER"]
    )
    assert chosen == [each for each in every if (each.entity_group or each.entity) not in ("PER", "B-PER")]


def test_hub_question_answering(hub: Any, tiny_models: Path) -> None:
    task = QuestionAnswerer(model_directory(tiny_models, "qa"), threads=1)
    question, context = "who lives?", "Anna lives in Scotland, the house is red. Paul works in London. " * 3
    whole = replace(task.options, whole_words=True)
    client = hub("qa")

    def expected(**changes: Any) -> list[tuple[str, float, int, int]]:
        (found,) = task.run(task.prepare_n_best([(question, context)], options=replace(whole, **changes)))
        return [(each.text, each.score, each.start, each.end) for each in found]

    def asked(**parameters: Any) -> list[tuple[str, float, int, int]]:
        found = client.question_answering(question=question, context=context, **parameters)
        listed = found if isinstance(found, list) else [found]
        return [(each.answer, each.score, each.start, each.end) for each in listed]

    assert asked() == asked(top_k=1) == expected()[:1]
    assert asked(top_k=3) == expected()[:3]
    assert asked(top_k=30) == expected(n_best=30)
    assert asked(align_to_words=False) == expected(whole_words=False)[:1]
    assert asked(max_answer_len=1, top_k=2) == expected(max_answer=1)[:2]
    assert asked(max_seq_len=16, doc_stride=2, top_k=2) == expected(length=16, stride=2)[:2]
    assert asked(max_seq_len=16, top_k=2) == expected(length=16, stride=5)[:2]
    answers = asked(handle_impossible_answer=True, top_k=30)
    assert answers == expected(n_best=30, no_answer=True)[:30]
    assert isinstance(client.question_answering(question=question, context=context), dict)


def test_hub_fill_mask(hub: Any, tiny_models: Path) -> None:
    task = MaskFiller(model_directory(tiny_models, "fill_mask"), threads=1)
    client = hub("fill_mask")
    (((gap),),) = task(["Anna lives in [MASK]."])
    found = client.fill_mask("Anna lives in [MASK].")
    assert [(each.token, each.score) for each in found] == [(each.id, each.score) for each in gap]
    (encoded,) = task.tokenizer.encode(["Anna lives in [MASK]."])
    for each in found:
        ids = np.where(encoded.ids == task.tokenizer.id_of("[MASK]"), each.token, encoded.ids)
        assert each.sequence == task.tokenizer.decode(ids.tolist())
        assert each.token_str == task.tokenizer.token(each.token)
    chosen = client.fill_mask("Anna lives in [MASK].", targets=["London", "Paris", "red"], top_k=2)
    wanted = task.run(task.prepare(["Anna lives in [MASK]."], top_k=2, targets=["London", "Paris", "red"]))
    assert [(each.token, each.score) for each in chosen] == [(each.id, each.score) for each in wanted[0][0]]
    several = client.fill_mask("[MASK] lives in [MASK].", top_k=2)
    assert [[each.token for each in gap] for gap in several] == [
        [each.id for each in gap[:2]] for gap in task(["[MASK] lives in [MASK]."])[0]
    ]


@pytest.mark.parametrize(
    ("task", "method", "given", "named"),
    [
        ("embed", "feature_extraction", {"text": "a", "prompt_name": "query"}, "prompt_name"),
        ("embed", "feature_extraction", {"text": "a", "truncation_direction": "left"}, "truncation_direction"),
        ("embed", "feature_extraction", {"text": "a", "encoding_format": "base64"}, "encoding_format"),
        ("embed", "feature_extraction", {"text": "a", "dimensions": 99}, "dimensions"),
        ("embed", "feature_extraction", {"text": "red " * 50, "truncate": False}, "truncate"),
        ("embed", "feature_extraction", {"text": ""}, "inputs"),
        ("embed", "question_answering", {"question": "a", "context": "b"}, "source_sentence"),
        ("classify", "text_classification", {"text": "a", "top_k": 0}, "top_k"),
        ("classify", "text_classification", {"text": "a", "function_to_apply": "tanh"}, "function_to_apply"),
        ("tag", "token_classification", {"text": "a", "aggregation_strategy": "last"}, "aggregation_strategy"),
        ("qa", "question_answering", {"question": "a", "context": "b", "max_question_len": 9}, "max_question_len"),
        ("qa", "question_answering", {"question": "a", "context": ""}, "passage"),
        ("fill_mask", "fill_mask", {"text": "no gap"}, r"\[MASK\]"),
        ("fill_mask", "fill_mask", {"text": "[MASK]", "targets": ["nobody"]}, "targets: 'nobody'"),
    ],
)
def test_hub_refusals(hub: Any, task: str, method: str, given: dict[str, Any], named: str) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    with pytest.raises(HfHubHTTPError, match=named) as caught:
        getattr(hub(task), method)(**given)
    assert caught.value.response.status_code == 422
