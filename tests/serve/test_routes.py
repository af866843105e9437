"""Every route that takes texts: right answers are those of `fastcpu.tasks`, wrong requests say what is wrong."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu.export import write_model
from fastcpu.tasks import TASKS
from fastcpu.tasks.labels import sigmoid
from tests.reference import graphs
from tests.serve.live import LiveServer, model_directory
from tests.tasks.models import LENGTH, WORDS, save_tokenizer

TEXTS = ["a red house", "Anna lives in London", "the dog", "wörks über 北京 🙂 e\u0301", "red " * 50]
PASSAGE = "Anna lives in Scotland, the house is red. Paul works in London 🙂. " * 2
MOST = 6  # inputs that the small server takes
PROMPT = "who is "

Tasks = dict[str, Any]
Expected = Callable[[Tasks], Any]


@pytest.fixture(scope="module")
def folders(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny models, and two more embedders: one that gives vectors of tokens, and one with a prompt."""
    made = tmp_path_factory.mktemp("more")
    found = {name: model_directory(tiny_models, name) for name in TASKS}
    save_tokenizer(made / "source")
    found["tokens"] = write_model(graphs.encoder(length=LENGTH), made / "tokens", made / "source")
    found["prompted"] = Path(shutil.copytree(found["embed"], made / "prompted"))
    (found["prompted"] / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": PROMPT}}))
    return found


@pytest.fixture(scope="module")
def tasks(folders: dict[str, Path]) -> Tasks:
    """The same as objects, by the names of the models."""
    return {
        name: TASKS[name if name in TASKS else "embed"](path, threads=1)  # type: ignore[call-arg]
        for name, path in folders.items()
    }


@pytest.fixture(scope="module")
def small(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of all models with a cache, that takes few inputs and little text."""
    path = tmp_path_factory.mktemp("small") / "serve.yaml"
    settings = {
        "models": {name: str(folder) for name, folder in folders.items()},
        "max_inputs": MOST,
        "max_body_bytes": 4000,
        "cache_mb": 10,
    }
    path.write_text(json.dumps(settings))
    with LiveServer(["--config", str(path), "--threads", "1"]) as live:
        yield live


def plain(value: Any) -> Any:
    """Results as JSON has them; float32 by their shortest decimals."""
    if isinstance(value, np.ndarray):
        return plain(list(value))
    if isinstance(value, np.floating):
        return float(str(value))
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return (
        {key: plain(each) for key, each in dataclasses.asdict(value).items()}
        if dataclasses.is_dataclass(value)
        else value
    )


def vectors(texts: list[str], normalize: bool = True, size: int | None = None, name: str = "embed") -> Expected:
    def expected(tasks: Tasks) -> Any:
        task = tasks[name]
        found = np.stack(task.run(task.prepare_tokens(task.tokenizer.encode(texts), normalize)))[:, :size]
        if size is not None and normalize:
            found = np.stack([each / np.sqrt((each * each).sum()) for each in found])
        return found

    return expected


def labels(texts: list[Any], logits: bool = False) -> Expected:
    def expected(tasks: Tasks) -> Any:
        task = tasks["classify"]
        return [
            [
                {"score": score, "label": label}
                for score, label in sorted(
                    zip(each.logits if logits else each.scores, task.labels, strict=True), reverse=True
                )
            ]
            for each in task(texts)
        ]

    return expected


def ranks(query: str, texts: list[str], raw: bool = False, text: bool = False) -> Expected:
    def expected(tasks: Tasks) -> Any:
        logits = tasks["rerank"].scores([(query, text) for text in texts])
        scores = (logits if raw else sigmoid(logits)).tolist()
        order = sorted(range(len(texts)), key=lambda index: -scores[index])
        return [{"index": i, "score": scores[i], **({"text": texts[i]} if text else {})} for i in order]

    return expected


def answers(inputs: list[tuple[str, str]], n_best: int | None = None, **options: Any) -> Expected:
    def expected(tasks: Tasks) -> Any:
        task = tasks["qa"]
        wanted = dataclasses.replace(task.options, **options)
        if n_best is None:
            return task.run(task.prepare(inputs, options=wanted))
        return task.run(task.prepare_n_best(inputs, options=dataclasses.replace(wanted, n_best=n_best)))

    return expected


def first(expected: Expected) -> Expected:
    return lambda tasks: expected(tasks)[0]


def of_task(name: str, inputs: list[Any], *arguments: Any) -> Expected:
    return lambda tasks: tasks[name].run(tasks[name].prepare(inputs, 0, *arguments))


def hidden(texts: list[str]) -> Expected:
    def expected(tasks: Tasks) -> Any:
        task = tasks["tokens"]
        return task.run(task.prepare_hidden(task.tokenizer.encode(texts)))

    return expected


def cosines(texts: list[str], name: str = "embed") -> Expected:
    def expected(tasks: Tasks) -> Any:
        one, *others = vectors(texts, name=name)(tasks)
        return np.stack(others) @ one

    return expected


IDS = [[2, 7, 12, 3], [2, 20, 3]]
RIGHT: list[tuple[str, dict[str, Any], Expected]] = [
    ("/embed", {"inputs": TEXTS}, vectors(TEXTS)),
    ("/embed", {"inputs": TEXTS[0]}, vectors(TEXTS[:1])),
    ("/embed", {"inputs": TEXTS, "truncate": True, "truncation_direction": "Right"}, vectors(TEXTS)),
    ("/embed", {"inputs": TEXTS[:3], "truncate": False, "truncation_direction": "right"}, vectors(TEXTS[:3])),
    ("/embed", {"inputs": TEXTS, "normalize": False}, vectors(TEXTS, False)),
    ("/embed", {"inputs": TEXTS, "dimensions": 5}, vectors(TEXTS, size=5)),
    ("/embed", {"inputs": TEXTS, "dimensions": 5, "normalize": False}, vectors(TEXTS, False, 5)),
    ("/embed", {"inputs": TEXTS, "dimensions": 16}, vectors(TEXTS, size=16)),
    ("/embed", {"inputs": IDS}, vectors(["red house", "Anna"])),
    ("/embed", {"inputs": IDS[0]}, vectors(["red house"])),
    ("/embed", {"inputs": ["a dog"], "prompt_name": "query", "model": "prompted"}, vectors([PROMPT + "a dog"])),
    ("/embed_all", {"inputs": TEXTS, "model": "tokens"}, hidden(TEXTS)),
    ("/embed_all", {"inputs": IDS, "model": "tokens"}, hidden(["red house", "Anna"])),
    ("/embed", {"inputs": TEXTS, "model": "tokens"}, vectors(TEXTS, name="tokens")),
    ("/similarity", {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}}, cosines(TEXTS)),
    (
        "/similarity",
        {
            "inputs": {"source_sentence": "a", "sentences": ["dog", "red"]},
            "parameters": {"truncate": False, "prompt_name": "query"},
            "model": "prompted",
        },
        cosines([PROMPT + text for text in ("a", "dog", "red")]),
    ),
    ("/predict", {"inputs": TEXTS[3]}, first(labels([TEXTS[3]]))),
    ("/predict", {"inputs": TEXTS[:1]}, first(labels(TEXTS[:1]))),
    ("/predict", {"inputs": TEXTS[:2]}, first(labels([tuple(TEXTS[:2])]))),
    ("/predict", {"inputs": [TEXTS[:1], TEXTS[3:], TEXTS[1:3]]}, labels([TEXTS[0], (*TEXTS[3:],), (*TEXTS[1:3],)])),
    ("/predict", {"inputs": [TEXTS[:1]], "raw_scores": True}, labels(TEXTS[:1], logits=True)),
    ("/predict", {"inputs": ["", "a"], "truncate": False}, first(labels([("", "a")]))),
    ("/rerank", {"query": "who?", "texts": TEXTS}, ranks("who?", TEXTS)),
    ("/rerank", {"query": "who?", "texts": ["a", "", "a"], "truncate": False}, ranks("who?", ["a", "", "a"])),
    ("/rerank", {"query": "wo 🙂", "texts": TEXTS, "raw_scores": True}, ranks("wo 🙂", TEXTS, raw=True)),
    ("/rerank", {"query": "", "texts": TEXTS, "return_text": True}, ranks("", TEXTS, text=True)),
    ("/qa", {"question": "who?", "context": PASSAGE}, first(answers([("who?", PASSAGE)]))),
    ("/qa", {"question": "who?", "context": PASSAGE, "n_best": 3}, first(answers([("who?", PASSAGE)], 3))),
    ("/qa", {"question": ["who?", "🙂"], "context": PASSAGE}, answers([("who?", PASSAGE), ("🙂", PASSAGE)])),
    ("/qa", {"question": ["who?", ""], "context": ["a dog", "Anna"]}, answers([("who?", "a dog"), ("", "Anna")])),
    (
        "/qa",
        {
            "question": "who?",
            "context": PASSAGE,
            "n_best": 2,
            "no_answer": True,
            "threshold": 1.5,
            "max_answer": 2,
            "stride": 3,
            "whole_words": True,
        },
        first(answers([("who?", PASSAGE)], 2, no_answer=True, threshold=1.5, max_answer=2, stride=3, whole_words=True)),
    ),
    ("/tag", {"text": PASSAGE}, first(of_task("tag", [PASSAGE]))),
    ("/tag", {"text": [*TEXTS[2:], "", ["Anna", "", "Paul"]]}, of_task("tag", [*TEXTS[2:], "", ["Anna", "", "Paul"]])),
    ("/tag", {"text": [PASSAGE], "label_of": "max", "stride": 2}, of_task("tag", [PASSAGE], "max", 2)),
    (
        "/tag",
        {"text": [["Anna", "Scotland"], []], "label_of": "token"},
        of_task("tag", [["Anna", "Scotland"], []], "token"),
    ),
    ("/fill", {"text": "Anna [MASK] 🙂"}, first(of_task("fill_mask", ["Anna [MASK] 🙂"]))),
    ("/fill", {"text": ["[MASK] is [MASK]", "[MASK]"]}, of_task("fill_mask", ["[MASK] is [MASK]", "[MASK]"])),
    ("/fill", {"text": ["[MASK] is"], "top_k": 99}, of_task("fill_mask", ["[MASK] is"], 99)),
    (
        "/fill",
        {"text": ["[MASK] is"], "targets": ["red", "Anna"], "top_k": 1},
        of_task("fill_mask", ["[MASK] is"], 1, ["red", "Anna"]),
    ),
    # What InferenceClient does not send, but others do.
    ("/", {"inputs": TEXTS, "model": "embed", "options": {"wait_for_model": True}}, vectors(TEXTS)),
    ("/models/embed", {"inputs": TEXTS, "parameters": {"normalize": False, "dimensions": 2}}, vectors(TEXTS, False, 2)),
    ("/models/embed", {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}}, cosines(TEXTS)),
    ("/models/classify", {"inputs": TEXTS}, labels(TEXTS)),
    (
        "/models/classify",
        {"inputs": [{"text": "a", "text_pair": "b"}, "c"], "parameters": {"function_to_apply": "none"}},
        labels([("a", "b"), "c"], logits=True),
    ),
    ("/models/rerank", {"query": "who?", "texts": TEXTS}, ranks("who?", TEXTS)),
]
MODELS = {
    "/embed": "embed",
    "/embed_all": "embed",
    "/similarity": "embed",
    "/predict": "classify",
    "/rerank": "rerank",
    "/tokenize": "embed",
    "/decode": "embed",
    "/qa": "qa",
    "/tag": "tag",
    "/fill": "fill_mask",
    "/v1/embeddings": "embed",
    "/embeddings": "embed",
    "/v1/rerank": "rerank",
    "/v2/rerank": "rerank",
}


def body(path: str, given: dict[str, Any]) -> dict[str, Any]:
    """A body with the model that a path needs."""
    return {"model": MODELS[path], **given} if path in MODELS else given


@pytest.mark.parametrize(
    ("path", "given", "expected"), RIGHT, ids=lambda value: value if isinstance(value, str) else ""
)
def test_answers_are_those_of_the_tasks(
    small: LiveServer, tasks: Tasks, path: str, given: dict[str, Any], expected: Expected
) -> None:
    wanted = plain(expected(tasks))
    for _ in range(2):  # the second one out of the cache
        answer = small.post(path, body(path, given))
        assert answer.status == 200, answer.body
        assert answer.json == wanted


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_cohere_and_jina(server: LiveServer, tasks: Tasks, path: str) -> None:
    wanted = ranks("who?", TEXTS)(tasks)
    documents = [TEXTS[0], *({"text": text, "source": 3} for text in TEXTS[1:])]
    found = server.post(path, {"query": "who?", "documents": documents, "model": "rerank"}).json
    assert [(each["index"], each["relevance_score"]) for each in found["results"]] == [
        (each["index"], each["score"]) for each in wanted
    ]
    assert (found["object"], found["model"]) == ("list", "rerank")
    assert found["usage"]["total_tokens"] > len(TEXTS)
    short = server.post(
        path, {"query": "who?", "documents": TEXTS, "model": "rerank", "top_n": 2, "return_documents": True}
    ).json
    assert [each["document"]["text"] for each in short["results"]] == [TEXTS[each["index"]] for each in wanted[:2]]


def test_tokens_and_back(server: LiveServer, tasks: Tasks) -> None:
    texts = ["Anna  lives in Scotland.", "red " * 50, "🙂 red"]
    found = server.post("/tokenize", {"inputs": texts, "model": "embed"}).json
    for text, tokens, located in zip(texts, found, tasks["qa"].tokenizer.locate(texts), strict=True):
        assert [token["id"] for token in tokens] == located.ids.tolist()
        assert [token["special"] for token in tokens] == [True, *[False] * (len(tokens) - 2), True]
        assert all(token["text"] == text[token["start"] : token["stop"]] for token in tokens[1:-1])
        assert (tokens[0]["text"], tokens[0]["start"], tokens[0]["stop"]) == ("[CLS]", None, None)
    bare = server.post("/tokenize", {"inputs": texts[0], "model": "embed", "add_special_tokens": False}).json
    assert bare == [found[0][1:-1]]
    ids = [[token["id"] for token in tokens] for tokens in found]
    decoded = server.post("/decode", {"ids": ids, "model": "embed"}).json
    assert decoded == [tasks["embed"].tokenizer.decode(each) for each in ids]
    with_special = server.post("/decode", {"ids": ids[0], "model": "embed", "skip_special_tokens": False}).json
    assert with_special == [f"[CLS] {decoded[0]} [SEP]"]


def test_long_requests_are_tokenized_too(server: LiveServer, tasks: Tasks) -> None:
    text = "red house " * 20_000
    (tokens,) = server.post("/tokenize", {"inputs": text, "model": "embed"}).json
    assert len(tokens) == 40_002
    ids = [token["id"] for token in tokens]
    assert server.post("/decode", {"ids": ids, "model": "embed"}).json == [text.strip()]
    (vector,) = server.post("/embed", {"inputs": text, "model": "embed"}).json
    assert vector == plain(vectors([text])(tasks))[0]


@pytest.mark.parametrize("name", [*TASKS, "tokens"])
def test_info(folders: dict[str, Path], name: str) -> None:
    with LiveServer([f"it={folders[name]}", "--threads", "1"]) as server:
        found = server.get("/info").json
    kind = {"embed": "embedding", "tokens": "embedding", "classify": "classifier", "rerank": "reranker"}.get(name, name)
    assert list(found["model_type"]) == [kind]
    assert (found["model_id"], found["served_model_name"], found["model_dtype"]) == ("it", "it", "float32")
    assert found["max_input_length"] == LENGTH
    assert found["auto_truncate"] is True
    details = found["model_type"][kind]
    if name == "classify":
        assert details["id2label"] == {"0": "bad", "1": "good", "2": "neither"}
        assert details["label2id"] == {"bad": 0, "good": 1, "neither": 2}
    elif kind == "embedding":
        assert details == {"pooling": "mean"}


# ---- what is refused ----

WRONG: list[tuple[str, Any, str]] = [
    ("/embed", {}, "inputs"),
    ("/embed", {"inputs": 3}, "inputs"),
    ("/embed", {"inputs": None}, "inputs"),
    ("/embed", {"inputs": ["a", ["b"]]}, "no list of token ids|inputs"),
    ("/embed", {"inputs": ["a", 3]}, "no mixture"),
    ("/embed", {"inputs": [[3, "a"]]}, "inputs"),
    ("/embed", {"inputs": [[5], "a"]}, "no mixture"),
    ("/embed", {"inputs": [5, len(WORDS)]}, "below"),
    ("/embed", {"inputs": [5, -1]}, "below"),
    ("/embed", {"inputs": [[5] * 25]}, "1 to 24"),
    ("/embed", {"inputs": "a", "dimensions": 17}, "dimensions"),
    ("/embed", {"inputs": "a", "dimensions": 0}, "dimensions"),
    ("/embed", {"inputs": "a", "truncation_direction": "Left"}, "truncation_direction"),
    ("/embed", {"inputs": "a", "prompt_name": "query"}, "prompt_name"),
    ("/embed", {"inputs": [[5]], "prompt_name": "query", "model": "prompted"}, "prompt_name"),
    ("/embed", {"inputs": "a", "prompt_name": "no", "model": "prompted"}, "it has query"),
    ("/embed", {"inputs": ["a", "red " * 30], "truncate": False}, "input 1 has more than 24 tokens"),
    ("/embed", {"inputs": "a", "normalize": "yes"}, "normalize"),
    ("/embed_all", {"inputs": "a"}, "no vectors of tokens"),
    ("/embed_all", {"inputs": "red " * 30, "truncate": False, "model": "tokens"}, "truncate"),
    ("/similarity", {"inputs": "a"}, "inputs"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, "sentences"),
    ("/similarity", {"inputs": {"source_sentence": "a"}}, "sentences"),
    (
        "/similarity",
        {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {"prompt_name": "x"}},
        "prompt_name",
    ),
    ("/predict", {"inputs": ["a", "b", "c"]}, "one text or two"),
    ("/predict", {"inputs": [["a", "b", "c"]]}, "one text or two"),
    ("/predict", {"inputs": [["a"], "b"]}, "item 1"),
    ("/predict", {"inputs": [[3]]}, "inputs"),
    ("/predict", {"inputs": [["red " * 30]], "truncate": False}, "truncate"),
    ("/predict", {"inputs": [["red " * 15, "red " * 15]], "truncate": False}, "truncate"),
    ("/rerank", {"query": "a", "texts": "b"}, "texts"),
    ("/rerank", {"texts": ["b"]}, "query"),
    ("/rerank", {"query": "a", "texts": ["b", "red " * 30], "truncate": False}, "input 1"),
    ("/rerank", {"query": "a", "texts": ["b"], "truncation_direction": "left"}, "truncation_direction"),
    ("/tokenize", {"inputs": [3]}, "inputs"),
    ("/tokenize", {"inputs": "a", "prompt_name": "x"}, "prompt_name"),
    ("/decode", {"ids": "a"}, "ids"),
    ("/decode", {"ids": [len(WORDS)]}, "below"),
    ("/decode", {"ids": [[3], 3]}, "list 1"),
    ("/qa", {"question": "a"}, "context"),
    ("/qa", {"question": "a", "context": ""}, "input 0"),
    ("/qa", {"question": "a", "context": " \t"}, "input 0"),
    ("/qa", {"question": ["a", "b"], "context": ["c"]}, "1 for 2"),
    ("/qa", {"question": "a", "context": ["c"]}, "context"),
    ("/qa", {"question": [], "context": "c"}, "question"),
    ("/qa", {"question": "red " * 40, "context": "a"}, "no room"),
    ("/qa", {"question": "a", "context": "b", "n_best": 0}, "n_best"),
    ("/qa", {"question": "a", "context": "b", "n_best": 101}, "n_best"),
    ("/qa", {"question": "a", "context": "b", "threshold": 1}, "no_answer"),
    ("/qa", {"question": "a", "context": PASSAGE, "stride": 10**12}, "stride"),
    ("/qa", {"question": "a", "context": "b", "top_k": 3}, "top_k"),
    ("/tag", {"inputs": "a"}, "inputs|text"),
    ("/tag", {"text": []}, "text"),
    ("/tag", {"text": [3]}, "text"),
    ("/tag", {"text": [["a", 3]]}, "text"),
    ("/tag", {"text": "a", "label_of": "last"}, "label_of"),
    ("/tag", {"text": "a", "stride": -1}, "stride"),
    ("/tag", {"text": PASSAGE, "stride": 24}, "stride"),
    ("/fill", {"text": "no gap"}, r"\[MASK\]"),
    ("/fill", {"text": ["[MASK] works", "red " * 30 + "[MASK]"]}, "input 1"),
    ("/fill", {"text": "[MASK]", "top_k": 0}, "top_k"),
    ("/fill", {"text": "[MASK]", "targets": ["red", "nobody"]}, "nobody"),
    ("/fill", {"text": "[MASK]", "targets": []}, "targets"),
    ("/v1/rerank", {"query": "a", "documents": []}, "documents"),
    ("/v1/rerank", {"query": "a", "documents": [{"title": "b"}]}, "text"),
    ("/v1/rerank", {"query": "", "documents": ["b"]}, "query"),
    ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
    ("/v1/rerank", {"query": "a", "documents": ["b"], "max_chunks_per_doc": 4}, "max_chunks_per_doc"),
    ("/v2/rerank", {"query": "a", "documents": ["b"], "relevant_spans": {}}, "relevant_spans"),
    ("/v1/embeddings", {"input": {}}, "input"),
    ("/v1/embeddings", {"input": ["a", 3]}, "no mixture"),
    ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ("/v1/embeddings", {"input": "a", "truncate": "END"}, "truncate"),
    ("/", {"inputs": "a"}, "which model"),
    ("/models/embed", {"inputs": "a", "model": "classify"}, "model"),
    ("/models/embed", {"inputs": "a", "top_k": 3}, "top_k"),
    ("/models/embed", {"inputs": "a", "options": {"use_gpu": True}}, "use_gpu"),
    ("/models/classify", {"inputs": ["a", ["b"]]}, "inputs"),
    ("/models/classify", {"inputs": "a", "parameters": {"top": 3}}, "top"),
    ("/models/tag", {"inputs": [["Anna"]]}, "inputs"),
    ("/models/qa", {"inputs": {"question": "a"}}, "context"),
    ("/models/qa", {"inputs": {"question": "a", "context": "b"}, "parameters": {"top_k": 101}}, "top_k"),
    ("/models/fill_mask", {"inputs": "[MASK]" * 25, "parameters": {"top_k": 100}}, "top_k|MASK"),
    ("/models/rerank", {"inputs": "a"}, "query|inputs"),
]


def told(path: str, answer: Any) -> str:
    """What the body of an error says."""
    found = answer.json
    if path in ("/v1/embeddings", "/embeddings"):
        assert set(found) == {"error"}
        assert set(found["error"]) == {"message", "type", "param", "code"}
        return str(found["error"])
    if path in ("/v1/rerank", "/v2/rerank"):
        assert set(found) == {"message", "code", "param"}
        return str(found)
    assert set(found) == {"error", "error_type"}
    assert found["error_type"] in ("Validation", "Empty", "Overloaded")
    return str(found["error"])


def invalid_status(path: str) -> int:
    """How a protocol calls wrong values."""
    return 400 if "embeddings" in path or path in ("/v1/rerank", "/v2/rerank") else 422


@pytest.mark.parametrize(("path", "given", "named"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_values(small: LiveServer, path: str, given: dict[str, Any], named: str) -> None:
    answer = small.post(path, body(path, given))
    assert answer.status == invalid_status(path), answer.body
    assert re.search(named, told(path, answer))


INPUT: dict[str, dict[str, Any]] = {
    "/embed": {"inputs": "a"},
    "/embed_all": {"inputs": "a"},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}},
    "/predict": {"inputs": "a"},
    "/rerank": {"query": "a", "texts": ["b"]},
    "/tokenize": {"inputs": "a"},
    "/decode": {"ids": [3]},
    "/qa": {"question": "a", "context": "b"},
    "/tag": {"text": "a"},
    "/fill": {"text": "[MASK]"},
    "/v1/embeddings": {"input": "a"},
    "/embeddings": {"input": "a"},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v2/rerank": {"query": "a", "documents": ["b"]},
}


def test_every_route_has_a_right_input(small: LiveServer) -> None:
    assert sorted(INPUT) == sorted(MODELS)
    for path, given in INPUT.items():
        model = {"model": "tokens"} if path == "/embed_all" else {}
        assert small.post(path, body(path, given) | model).status == 200, path


@pytest.mark.parametrize("path", MODELS)
def test_other_models(small: LiveServer, path: str) -> None:
    answer = small.post(path, {**INPUT[path], "model": "nobody/has-it"})
    assert answer.status == 404
    assert "nobody/has-it" in told(path, answer)
    if path in ("/tokenize", "/decode"):  # all models can do that
        return
    other = small.post(path, {**INPUT[path], "model": "qa" if path != "/qa" else "tag"})
    assert other.status == invalid_status(path)
    assert "model" in told(path, other)


@pytest.mark.parametrize("path", [*MODELS, "/", "/models/embed"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"inputs": "\xff"}', b"{" * 100_000, b"\x00"])
def test_what_is_no_json_object(server: LiveServer, path: str, content: bytes) -> None:
    answer = server.request("POST", path, content)
    assert answer.status == invalid_status(path)
    told(path, answer)


@pytest.mark.parametrize("path", MODELS)
def test_half_characters(server: LiveServer, path: str) -> None:
    if path == "/decode":
        return  # has no text
    given = json.dumps(body(path, INPUT[path])).replace('"a"', '"a \\ud83d"').replace("[MASK]", "[MASK] \\udc00")
    answer = server.request("POST", path, given.encode())
    assert answer.status == invalid_status(path), answer.body
    assert "not JSON" in told(path, answer)


LISTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "/embed": lambda count: {"inputs": ["a"] * count},
    "/predict": lambda count: {"inputs": [["a"]] * count},
    "/rerank": lambda count: {"query": "a", "texts": ["b"] * count},
    "/similarity": lambda count: {"inputs": {"source_sentence": "a", "sentences": ["b"] * (count - 1)}},
    "/tokenize": lambda count: {"inputs": ["a"] * count},
    "/decode": lambda count: {"ids": [[3]] * count},
    "/qa": lambda count: {"question": ["a"] * count, "context": "b"},
    "/tag": lambda count: {"text": ["a"] * count},
    "/fill": lambda count: {"text": ["[MASK]"] * count},
    "/v1/rerank": lambda count: {"query": "a", "documents": ["b"] * count},
    "/v1/embeddings": lambda count: {"input": ["a"] * count},
    "/models/embed": lambda count: {"inputs": ["a"] * count},
    "/models/classify": lambda count: {"inputs": ["a"] * count},
    "/models/tag": lambda count: {"inputs": ["a"] * count},
    "/models/qa": lambda count: {"inputs": [{"question": "a", "context": "b"}] * count},
    "/models/fill_mask": lambda count: {"inputs": ["[MASK]"] * count},
}


@pytest.mark.parametrize("path", LISTS)
def test_how_many_inputs(small: LiveServer, path: str) -> None:
    assert small.post(path, body(path, LISTS[path](MOST))).status == 200
    answer = small.post(path, body(path, LISTS[path](MOST + 1)))
    assert answer.status == (400 if path == "/v1/embeddings" else 413)
    assert str(MOST) in told(path, answer)


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/embed", {"inputs": []}),
        ("/embed", {"inputs": ""}),
        ("/embed", {"inputs": ["a", ""]}),
        ("/embed", {"inputs": [[]]}),
        ("/embed_all", {"inputs": [], "model": "tokens"}),
        ("/similarity", {"inputs": {"source_sentence": "", "sentences": ["a"]}}),
        ("/predict", {"inputs": []}),
        ("/predict", {"inputs": ""}),
        ("/predict", {"inputs": ["", ""]}),
        ("/predict", {"inputs": [["a"], [""]]}),
        ("/rerank", {"query": "", "texts": ["a", ""]}),
        ("/tokenize", {"inputs": ""}),
        ("/decode", {"ids": []}),
        ("/decode", {"ids": [[3], []]}),
        ("/models/embed", {"inputs": [""]}),
    ],
)
def test_empty_inputs(small: LiveServer, path: str, given: dict[str, Any]) -> None:
    answer = small.post(path, body(path, given))
    assert answer.status == 422
    assert answer.json["error_type"] == "Empty"


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/rerank", {"query": "a" * 1500, "texts": ["b"] * 3}),
        ("/v1/rerank", {"query": "a" * 1500, "documents": ["b"] * 3}),
        ("/qa", {"question": ["b"] * 3, "context": "a" * 1500}),
    ],
)
def test_text_that_is_in_many_pairs(small: LiveServer, path: str, given: dict[str, Any]) -> None:
    answer = small.post(path, body(path, given))
    assert answer.status == 413
    assert "4000" in told(path, answer)


@pytest.mark.parametrize("path", ["/fill", "/models/fill_mask"])
def test_how_many_tokens_for_gaps(server: LiveServer, path: str) -> None:
    gaps = "[MASK] " * 20
    count = 2048 if path == "/fill" else 60
    given = {"text": [gaps] * count} if path == "/fill" else {"inputs": [gaps] * count}
    options = {"top_k": 1000}
    answer = server.post(path, body(path, {**given, **(options if path == "/fill" else {"parameters": options})}))
    assert answer.status == 413
    assert "top_k" in told(path, answer)
