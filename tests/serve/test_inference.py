"""The Open Inference Protocol: JSON and binary tensors, token ids and texts, and everything that is refused."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu import Session
from fastcpu.tasks import TASKS
from tests.serve.live import Answer, LiveServer, model_directory
from tests.tasks.models import LENGTH, WORDS

LENGTH_HEADER = "Inference-Header-Content-Length"
DATATYPES = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.int8): "INT8",
    np.dtype(np.int16): "INT16",
    np.dtype(np.int32): "INT32",
    np.dtype(np.int64): "INT64",
    np.dtype(np.uint8): "UINT8",
    np.dtype(np.uint16): "UINT16",
    np.dtype(np.uint32): "UINT32",
    np.dtype(np.uint64): "UINT64",
    np.dtype(np.float32): "FP32",
}
KINDS = {name: kind for kind, name in DATATYPES.items()}
TEXTS = ["a red house", "Anna lives in London", "the dog", ""]
PASSAGES = ["the house is red", "Anna works in Paris", "a small dog", "the car"]
Inputs = Mapping[str, Any]


def packed(texts: Sequence[str | bytes]) -> bytes:
    """A BYTES tensor."""
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(struct.pack("<I", len(each)) + each for each in encoded)


def tensor(name: str, values: Any, binary: bool) -> tuple[dict[str, Any], bytes]:
    """An input in JSON, and what stands behind it."""
    if isinstance(values, np.ndarray):
        found = {"name": name, "shape": list(values.shape), "datatype": DATATYPES[values.dtype]}
        content, data = values.tobytes(), values.ravel().tolist()
    else:
        found = {"name": name, "shape": [len(values)], "datatype": "BYTES"}
        content, data = packed(values), list(values)
    if binary:
        return {**found, "parameters": {"binary_data_size": len(content)}}, content
    return {**found, "data": data}, b""


def encoded(inputs: Inputs, binary: bool = True, **fields: Any) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers."""
    tensors = [tensor(name, values, binary) for name, values in inputs.items()]
    head = json.dumps({"inputs": [each for each, _ in tensors], **fields}).encode()
    rest = b"".join(content for _, content in tensors)
    return head + rest, {LENGTH_HEADER: str(len(head))} if binary else {}


def decoded(answer: Answer) -> dict[str, Any]:
    """The outputs of an answer."""
    assert answer.status == 200, answer.body
    length = int(answer.headers.get(LENGTH_HEADER.lower(), len(answer.body)))
    head, rest = json.loads(answer.body[:length]), answer.body[length:]
    found: dict[str, Any] = {}
    for each in head["outputs"]:
        size = each.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = each["data"]
        elif each["datatype"] == "BYTES":
            values, part = [], rest[:size]
            while part:
                end = 4 + struct.unpack("<I", part[:4])[0]
                values.append(part[4:end].decode())
                part = part[end:]
        else:
            values = np.frombuffer(rest[:size], KINDS[each["datatype"]])
        rest = rest[size or 0 :]
        kind = object if each["datatype"] == "BYTES" else KINDS[each["datatype"]]
        found[each["name"]] = np.array(values, kind).reshape(each["shape"])
    assert not rest
    return found


def infer(server: LiveServer, model: str, inputs: Inputs, binary: bool = True, **fields: Any) -> Answer:
    body, headers = encoded(inputs, binary, **fields)
    return server.post(f"/v2/models/{model}/infer", body, headers)


def padded(rows: int = 4, columns: int = 9, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows padded at the end, one of them full."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, columns + 1, rows)
    lengths[0] = columns
    mask = (np.arange(columns) < lengths[:, None]).astype(np.int64)
    return {
        "input_ids": rng.integers(0, len(WORDS), (rows, columns)),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, (rows, columns)),
    }


@pytest.fixture(scope="module")
def sessions(tiny_models: Path) -> dict[str, Session]:
    return {task: Session(model_directory(tiny_models, task), threads=1) for task in ("embed", "classify", "qa", "tag")}


# ---- token ids ----


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("task", ["embed", "classify", "qa", "tag"])
def test_outputs_are_those_of_the_session(
    server: LiveServer, sessions: dict[str, Session], task: str, binary: bool
) -> None:
    feeds = padded()
    found = decoded(infer(server, task, feeds, binary, parameters={"binary_data_output": binary}))
    expected = sessions[task].run(feeds)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name


@pytest.mark.parametrize("kind", [kind for kind in DATATYPES if kind.kind in "iu"], ids=str)
@pytest.mark.parametrize("binary", [False, True])
def test_integers_of_every_width(
    server: LiveServer, sessions: dict[str, Session], kind: np.dtype[Any], binary: bool
) -> None:
    feeds = {name: values.astype(kind) for name, values in padded().items()}
    found = decoded(infer(server, "tag", feeds, binary))
    assert np.array_equal(found["logits"], sessions["tag"].run(feeds)["logits"])


@pytest.mark.parametrize("binary", [False, True])
def test_a_mask_of_truth_values(server: LiveServer, sessions: dict[str, Session], binary: bool) -> None:
    feeds = padded()
    feeds["attention_mask"] = feeds["attention_mask"].astype(np.bool_)
    found = decoded(infer(server, "tag", feeds, binary))
    assert np.array_equal(found["logits"], sessions["tag"].run(feeds)["logits"])


def test_without_mask_and_types(server: LiveServer, sessions: dict[str, Session]) -> None:
    feeds = {"input_ids": padded()["input_ids"]}
    found = decoded(infer(server, "embed", feeds))
    assert np.array_equal(found["sentence_embedding"], sessions["embed"].run(feeds)["sentence_embedding"])


def test_nested_lists(server: LiveServer, sessions: dict[str, Session]) -> None:
    ids = padded()["input_ids"]
    given = {"name": "input_ids", "shape": list(ids.shape), "datatype": "INT64", "data": ids.tolist()}
    found = decoded(server.post("/v2/models/embed/infer", {"inputs": [given]}))
    expected = sessions["embed"].run({"input_ids": ids})["sentence_embedding"]
    assert np.array_equal(found["sentence_embedding"], expected)


def test_json_and_binary_in_one_request(server: LiveServer, sessions: dict[str, Session]) -> None:
    feeds = padded()
    ids, rest = tensor("input_ids", feeds["input_ids"], True)
    mask, _ = tensor("attention_mask", feeds["attention_mask"], False)
    outputs = [{"name": "end_logits", "parameters": {"binary_data": True}}, {"name": "start_logits"}]
    head = json.dumps({"inputs": [mask, ids], "outputs": outputs, "id": "x"}).encode()
    answer = server.post("/v2/models/qa/infer", head + rest, {LENGTH_HEADER: str(len(head))})
    described = json.loads(answer.body[: int(answer.headers[LENGTH_HEADER.lower()])])
    assert [("data" in each, each["name"]) for each in described["outputs"]] == [
        (False, "end_logits"),
        (True, "start_logits"),
    ]
    assert described["id"] == "x"
    assert (described["model_name"], described["model_version"]) == ("qa", "1")
    del feeds["token_type_ids"]
    expected = sessions["qa"].run(feeds)
    found = decoded(answer)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_ids_under_the_mask_do_not_matter(server: LiveServer, sessions: dict[str, Session]) -> None:
    feeds = padded()
    expected = sessions["tag"].run(feeds)["logits"]
    for name in ("input_ids", "token_type_ids"):
        feeds[name] = np.where(feeds["attention_mask"] == 1, feeds[name], -100)
    assert np.array_equal(decoded(infer(server, "tag", feeds))["logits"], expected)


def test_more_columns_than_the_model_has_positions(server: LiveServer, sessions: dict[str, Session]) -> None:
    feeds = {name: np.pad(values, ((0, 0), (0, LENGTH))) for name, values in padded().items()}
    assert np.array_equal(decoded(infer(server, "tag", feeds))["logits"], sessions["tag"].run(feeds)["logits"])


# ---- texts ----


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_embeddings_of_texts(server: LiveServer, tiny_models: Path, binary: bool, nested: bool) -> None:
    expected = TASKS["embed"](model_directory(tiny_models, "embed"), threads=1)(TEXTS)
    if nested:
        data = [[text] for text in TEXTS]
        given = {"name": "TEXT", "shape": [len(TEXTS), 1], "datatype": "BYTES", "data": data}
        answer = server.post(
            "/v2/models/embed/versions/1/infer",
            {"inputs": [given], "parameters": {"binary_data_output": binary}},
        )
    else:
        answer = infer(server, "embed", {"text": TEXTS}, binary, parameters={"binary_data_output": binary})
    assert np.array_equal(decoded(answer)["embedding"], np.stack(expected))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("paired", [False, True])
def test_classes_of_texts(server: LiveServer, tiny_models: Path, binary: bool, paired: bool) -> None:
    inputs: dict[str, Any] = {"text": TEXTS} | ({"text_pair": PASSAGES} if paired else {})
    task = TASKS["classify"](model_directory(tiny_models, "classify"), threads=1)
    expected = task(list(zip(TEXTS, PASSAGES, strict=True)) if paired else TEXTS)
    found = decoded(infer(server, "classify", inputs, binary, parameters={"binary_data_output": binary}))
    assert list(found) == ["scores", "label"]
    assert np.array_equal(found["scores"], np.array([each.scores for each in expected], np.float32))
    assert found["label"].tolist() == [each.label for each in expected]


def test_scores_of_pairs(server: LiveServer, tiny_models: Path) -> None:
    task: Any = TASKS["rerank"](model_directory(tiny_models, "rerank"), threads=1)
    expected = task.scores(list(zip(TEXTS, PASSAGES, strict=True)))
    found = decoded(infer(server, "rerank", {"text": TEXTS, "text_pair": PASSAGES}))
    assert list(found) == ["score"]
    assert np.array_equal(found["score"], expected)
    both = {"text": TEXTS, "text_pair": PASSAGES}
    scores = decoded(infer(server, "rerank", both, outputs=[{"name": "scores"}]))
    assert scores["scores"].shape == (4, 1)


def test_answers_of_pairs(server: LiveServer, tiny_models: Path) -> None:
    task = TASKS["qa"](model_directory(tiny_models, "qa"), threads=1, max_length=None)
    expected = task(list(zip(["who", "where"], PASSAGES[:2], strict=True)))
    found = decoded(infer(server, "qa", {"text": ["who", "where"], "text_pair": PASSAGES[:2]}))
    assert found["answer"].tolist() == [each.text for each in expected]
    assert found["start"].tolist() == [each.start for each in expected]
    assert found["end"].tolist() == [each.end for each in expected]
    assert np.array_equal(found["score"], np.array([each.score for each in expected], np.float32))


def test_words_and_entities_are_json(server: LiveServer, tiny_models: Path) -> None:
    tagged = TASKS["tag"](model_directory(tiny_models, "tag"), threads=1)(TEXTS)
    found = decoded(infer(server, "tag", {"text": TEXTS}, parameters={"binary_data_output": True}))
    for words, entities, expected in zip(found["words"], found["entities"], tagged, strict=True):
        assert [(each["text"], each["label"]) for each in json.loads(words)] == [
            (each.text, each.label) for each in expected.words
        ]
        assert len(json.loads(entities)) == len(expected.entities)


def test_results_have_the_shape_of_the_texts(server: LiveServer) -> None:
    given = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": TEXTS[:2]}
    found = decoded(server.post("/v2/models/classify/infer", {"inputs": [given]}))
    assert found["label"].shape == (2, 1)
    assert found["scores"].shape == (2, 3)


# ---- compression ----


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_packed_request(server: LiveServer, sessions: dict[str, Session], name: str, pack: Any) -> None:
    feeds = padded()
    body, headers = encoded(feeds)
    found = decoded(server.post("/v2/models/tag/infer", pack(body), {**headers, "Content-Encoding": name}))
    assert np.array_equal(found["logits"], sessions["tag"].run(feeds)["logits"])


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("br, GZIP, deflate", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.2, identity;q=0.9", None),
        ("gzip;q=x", None),
        ("br", None),
        (";,;q=", None),
        ("gzip;q=nan", None),
    ],
)
def test_a_packed_answer(server: LiveServer, accepted: str, chosen: str | None) -> None:
    body, headers = encoded(padded(16, 20), parameters={"binary_data_output": True})
    plain = server.post("/v2/models/tag/infer", body, headers)
    answer = server.post("/v2/models/tag/infer", body, {**headers, "Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == chosen
    unpack = {None: bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}[chosen]
    assert unpack(answer.body) == plain.body
    assert answer.headers[LENGTH_HEADER.lower()] == plain.headers[LENGTH_HEADER.lower()]


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_bomb_is_refused(server: LiveServer, name: str, pack: Any) -> None:
    headers = {"Content-Encoding": name, LENGTH_HEADER: "100"}
    answer = server.post("/v2/models/embed/infer", pack(bytes(100_000_000)), headers)
    assert answer.status == 413
    assert "larger than" in answer.json["error"]


# ---- what is refused ----


def listed(name: str = "input_ids", **fields: Any) -> dict[str, Any]:
    return {"name": name, "shape": [1, 2], "datatype": "INT64", "data": [1, 2]} | fields


def text(name: str = "text", **fields: Any) -> dict[str, Any]:
    return {"name": name, "shape": [1], "datatype": "BYTES", "data": ["a"]} | fields


def without(tensor: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in tensor.items() if key != name}


MANY = 2**31 - 1
REFUSED: list[tuple[str, Any, str]] = [
    # model, body, what the message says
    ("embed", b"", "not JSON"),
    ("embed", b"{", "not JSON"),
    ("embed", b'{"inputs":[{"data":' + b"[" * 100_000, "JSON"),
    ("embed", b'{"a":' * 100_000, "JSON"),
    ("embed", [], "Expected `object`"),
    ("embed", {}, "inputs"),
    ("embed", {"inputs": []}, "$.inputs"),
    ("embed", {"inputs": [1]}, "$.inputs[0]"),
    ("embed", {"inputs": [listed()], "id": 5}, "$.id"),
    ("embed", {"inputs": [listed()], "parameters": {"priority": -1}}, "$.parameters.priority"),
    ("embed", {"inputs": [listed()], "parameters": {"timeout": "soon"}}, "$.parameters.timeout"),
    ("embed", {"inputs": [listed()], "parameters": {"sequence_id": 7}}, "sequence_id"),
    ("embed", {"inputs": [listed()], "parameters": {"binary_data_output": 1}}, "binary_data_output"),
    # names
    ("embed", {"inputs": [listed("ids")]}, "no input is named 'ids'"),
    ("embed", {"inputs": [listed(), listed("ids")]}, "no input is named 'ids'"),
    ("embed", {"inputs": [listed(), listed()]}, "'input_ids': is there twice"),
    ("embed", {"inputs": [listed("attention_mask")]}, "'input_ids' is missing"),
    ("embed", {"inputs": [listed(), text()]}, "not both"),
    ("embed", {"inputs": [text("text_pair")]}, "'text_pair' is there without 'text'"),
    ("embed", {"inputs": [text(), text("TEXT")]}, "are the same"),
    ("tag", {"inputs": [text(), text("text_pair")]}, "takes no text_pair"),
    ("qa", {"inputs": [text()]}, "takes a text_pair"),
    ("embed", {"inputs": [listed()], "outputs": [{"name": "embedding"}]}, "no output is named 'embedding'"),
    ("embed", {"inputs": [text()], "outputs": [{"name": "logits"}]}, "no output is named 'logits'"),
    ("embed", {"inputs": [text()], "outputs": [{"name": "embedding"}] * 2}, "'embedding' is there twice"),
    (
        "embed",
        {"inputs": [text()], "outputs": [{"name": "embedding", "parameters": {"classification": 1}}]},
        "classification",
    ),
    (
        "rerank",
        {"inputs": [text(), text("text_pair")], "outputs": [{"name": "score"}, {"name": "scores"}]},
        "not of the same task",
    ),
    # data
    ("embed", {"inputs": [without(listed(), "data")]}, "neither data nor binary_data_size"),
    ("embed", {"inputs": [listed(parameters={"binary_data_size": 16})]}, "both data and binary_data_size"),
    ("embed", {"inputs": [listed(parameters={"shared_memory_region": "r"})]}, "shared memory"),
    ("embed", {"inputs": [without(listed(parameters={"binary_data_size": 16}), "data")]}, "binary_data_size 16"),
    ("embed", {"inputs": [listed(parameters={"binary_data_size": -1})]}, "binary_data_size"),
    ("embed", {"inputs": [listed(data=[1, 2, 3])]}, "shape [1, 2] has 2 elements, but data has 3"),
    ("embed", {"inputs": [listed(data=[])]}, "data has 0"),
    ("embed", {"inputs": [listed(data=None)]}, "data"),
    ("embed", {"inputs": [listed(data=5)]}, "data"),
    ("embed", {"inputs": [listed(data={"a": 1})]}, "data"),
    ("embed", {"inputs": [listed(data=[[1], [2]])]}, "not the shape [1, 2]"),
    ("embed", {"inputs": [listed(data=[[1, 2], [3, 4]])]}, "not the shape [1, 2]"),
    ("embed", {"inputs": [listed(data=[[[1, 2]]])]}, "data"),
    ("embed", {"inputs": [listed(data=[1, "2"])]}, "data"),
    ("embed", {"inputs": [listed(data=[1, 2.5])]}, "data"),
    ("embed", {"inputs": [listed(data=[1, True])]}, "data"),
    ("embed", {"inputs": [listed(data=[1, None])]}, "data"),
    ("embed", {"inputs": [listed(data=[1, 10**30])]}, "INT64"),
    ("embed", {"inputs": [listed(data=[1, 2**63])]}, "INT64"),
    ("embed", {"inputs": [listed(data=[1, 300], datatype="INT8")]}, "no INT8"),
    ("embed", {"inputs": [listed(data=[1, -1], datatype="UINT64")]}, "no UINT64"),
    ("embed", b'{"inputs":[{"name":"input_ids","shape":[1,2],"datatype":"INT64","data":[1,NaN]}]}', "JSON"),
    (
        "embed",
        b'{"inputs":[{"name":"input_ids","shape":[1,2],"datatype":"INT64","data":[1,' + b"9" * 5000 + b"]}]}",
        "data",
    ),
    ("embed", b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["\xff"]}]}', "UTF-8"),
    ("embed", b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}', ""),
    ("embed", b'{"inputs":[{"name":"\xff","shape":[1],"datatype":"BYTES","data":["a"]}]}', "UTF-8"),
    # shapes
    ("embed", {"inputs": [listed(shape=[2])]}, "[batch, sequence]"),
    ("embed", {"inputs": [listed(shape=[1, 2, 1])]}, "[batch, sequence]"),
    ("embed", {"inputs": [listed(shape=[])]}, "[batch, sequence]"),
    ("embed", {"inputs": [listed(shape=[1, 0], data=[])]}, "[batch, sequence]"),
    ("embed", {"inputs": [listed(shape=[0, 2], data=[])]}, "[batch, sequence]"),
    ("embed", {"inputs": [listed(shape=[1, -2])]}, "shape"),
    ("embed", {"inputs": [listed(shape=[1, 2.0])]}, "shape"),
    ("embed", {"inputs": [listed(shape=[1, 2**63])]}, "shape"),
    ("embed", {"inputs": [listed(shape=[1, 10**40])]}, "shape"),
    ("embed", {"inputs": [listed(shape=[1] * 9)]}, "shape"),
    ("embed", {"inputs": [listed(shape=[2, MANY])]}, "elements"),
    ("embed", {"inputs": [listed(), listed("attention_mask", shape=[2, 1])]}, "[2, 1] is not that of 'input_ids'"),
    ("embed", {"inputs": [text(shape=[1, 2])]}, "neither [texts] nor [texts, 1]"),
    ("embed", {"inputs": [text(shape=[])]}, "neither [texts] nor [texts, 1]"),
    ("embed", {"inputs": [text(shape=[0], data=[])]}, "empty"),
    ("embed", {"inputs": [text(shape=[2])]}, "data has 1"),
    ("qa", {"inputs": [text(), text("text_pair", shape=[1, 1])]}, "not that of 'text'"),
    # datatypes
    ("embed", {"inputs": [listed(datatype="FP32")]}, "datatype FP32"),
    ("embed", {"inputs": [listed(datatype="BYTES")]}, "datatype BYTES"),
    ("embed", {"inputs": [listed(datatype="INT4")]}, "datatype"),
    ("embed", {"inputs": [listed(datatype="BOOL")]}, "data"),
    ("embed", {"inputs": [text(datatype="INT64")]}, "datatype INT64 must be BYTES"),
    ("embed", {"inputs": [text(data=[1])]}, "data"),
    # values
    ("embed", {"inputs": [listed(data=[1, 50])]}, "token id 50 at row 0, column 1 is not from 0 to 49"),
    ("embed", {"inputs": [listed(data=[-1, 1])]}, "token id -1 at row 0, column 0"),
    ("embed", {"inputs": [listed(data=[1, 2**62])]}, "token id"),
    ("embed", {"inputs": [listed(data=[1, 2**64 - 1], datatype="UINT64")]}, "token id 18446744073709551615"),
    ("embed", {"inputs": [listed(), listed("token_type_ids")]}, "token type 2 at row 0, column 1"),
    ("embed", {"inputs": [listed(), listed("attention_mask")]}, "value 2 at row 0, column 1 is neither 0 nor 1"),
    ("embed", {"inputs": [listed(), listed("attention_mask", data=[-1, 1])]}, "value -1 at row 0, column 0"),
    ("embed", {"inputs": [listed(), listed("attention_mask", data=[0, 0])]}, "row 0 has no token"),
    ("embed", {"inputs": [listed(), listed("attention_mask", data=[0, 1])]}, "row 0 has padding before tokens"),
    (
        "embed",
        {"inputs": [listed(shape=[1, LENGTH + 1], data=[1] * (LENGTH + 1))]},
        f"row 0 has {LENGTH + 1} tokens; the model takes {LENGTH}",
    ),
    ("qa", {"inputs": [text(), text("text_pair", data=[""])]}, "no pair of a question and a passage"),
]


@pytest.mark.parametrize(("model", "body", "said"), REFUSED)
def test_a_wrong_request_is_refused(server: LiveServer, model: str, body: Any, said: str) -> None:
    answer = server.post(f"/v2/models/{model}/infer", body)
    assert answer.status == 400, answer.body
    assert list(answer.json) == ["error"]
    assert said in answer.json["error"]


def binary_text(content: bytes, shape: Sequence[int] = (1,), **fields: Any) -> tuple[dict[str, Any], bytes]:
    given = {"name": "text", "shape": list(shape), "datatype": "BYTES"}
    return given | {"parameters": {"binary_data_size": len(content)}} | fields, content


REFUSED_BINARY: list[tuple[tuple[dict[str, Any], bytes], Any, str]] = [
    # tensor and its bytes, the header (None for the right one), what the message says
    (binary_text(packed(["a"])), "", "Inference-Header-Content-Length"),
    (binary_text(packed(["a"])), "0", "Inference-Header-Content-Length"),
    (binary_text(packed(["a"])), "-5", "Inference-Header-Content-Length"),
    (binary_text(packed(["a"])), "1e2", "Inference-Header-Content-Length"),
    (binary_text(packed(["a"])), "99999", "Inference-Header-Content-Length"),
    (binary_text(packed(["a"])), "9" * 100, "Inference-Header-Content-Length"),
    (binary_text(packed(["a"])), "10", "JSON"),
    (binary_text(packed(["a"]), parameters={"binary_data_size": 4}), None, "5 bytes stand behind the JSON"),
    (binary_text(packed(["a"]), parameters={"binary_data_size": 6}), None, "more than the 5 bytes"),
    (binary_text(packed(["a"]), parameters={"binary_data_size": 2**53}), None, "more than the 5 bytes"),
    (binary_text(packed(["a"]), parameters={"binary_data_size": 2**70}), None, "binary_data_size"),
    (binary_text(packed(["a"]), shape=[2]), None, "the data end before element 1 of 2"),
    (binary_text(packed(["a", "b"])), None, "5 bytes are left"),
    (binary_text(b"\x05\x00\x00\x00a"), None, "element 0 is longer than the data"),
    (binary_text(b"\xff\xff\xff\xffa"), None, "element 0 is longer than the data"),
    (binary_text(b"\x01\x00"), None, "the data end before element 0"),
    (binary_text(b""), None, "the data end before element 0"),
    (binary_text(packed(["a", b"\xff\xfe"]), shape=[2]), None, "element 1 is not UTF-8"),
    (binary_text(packed(["a", b"\xed\xa0\x80"]), shape=[2]), None, "element 1 is not UTF-8"),
    (binary_text(bytes(16), name="input_ids", datatype="INT64", shape=[1, 3]), None, "has 24 bytes, but the data have"),
    (binary_text(bytes(16), name="input_ids", datatype="INT64", shape=[2, MANY]), None, "but the data have 16"),
    (binary_text(bytes(15), name="input_ids", datatype="INT64", shape=[1, 2]), None, "but the data have 15"),
    (binary_text(bytes(16), name="input_ids", datatype="INT64", shape=[MANY] * 8), None, "[batch, sequence]"),
    (binary_text(b"\x01\x02", name="input_ids", datatype="BOOL", shape=[1, 2]), None, "bytes of 0 or 1"),
    (binary_text(b"\x00\x00\xc0\x7f" * 2, name="input_ids", datatype="FP32", shape=[1, 2]), None, "datatype FP32"),
]


@pytest.mark.parametrize(("given", "header", "said"), REFUSED_BINARY)
def test_wrong_binary_data_are_refused(
    server: LiveServer, given: tuple[dict[str, Any], bytes], header: str | None, said: str
) -> None:
    tensor, content = given
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {LENGTH_HEADER: str(len(head)) if header is None else header}
    answer = server.post("/v2/models/embed/infer", head + content, headers)
    assert answer.status == 400, answer.body
    assert said in answer.json["error"]


def test_too_many_rows_are_refused(server: LiveServer) -> None:
    assert infer(server, "embed", {"text": ["a"] * 2049}).status == 413
    answer = infer(server, "embed", {"input_ids": np.ones((2049, 1), np.int8)})
    assert answer.status == 413
    assert "2049" in answer.json["error"]
    given = {"name": "text", "shape": [MANY], "datatype": "BYTES", "data": []}
    assert server.post("/v2/models/embed/infer", {"inputs": [given]}).status == 413


def test_an_answer_that_is_mostly_padding_is_refused(server: LiveServer) -> None:
    ids = np.ones((2048, 900), np.int8)
    mask = np.zeros_like(ids)
    mask[:, 0] = 1
    answer = infer(
        server, "fill_mask", {"input_ids": ids, "attention_mask": mask}, parameters={"binary_data_output": True}
    )
    assert answer.status == 413
    assert "fewer rows" in answer.json["error"]


def test_paths_that_there_are_not(server: LiveServer) -> None:
    for path, status in (
        ("/v2/models/none", 404),
        ("/v2/models/none/ready", 404),
        ("/v2/models/embed/versions/2", 404),
        ("/v2/models/embed/versions/2/ready", 404),
        ("/v2/models/embed/infer", 405),
        ("/v2/nothing", 404),
        ("/v2/models/a/b/c", 404),
    ):
        answer = server.get(path)
        assert answer.status == status, path
        assert list(answer.json) == ["error"]
    assert infer(server, "embed/versions/2", {"text": ["a"]}).status == 404


def test_a_deadline_and_a_priority(server: LiveServer) -> None:
    assert infer(server, "embed", {"text": ["a"]}, parameters={"timeout": 1}).status == 504
    for priority in (0, 1, 8, 2**40):
        fields = {"parameters": {"priority": priority, "timeout": 20_000_000}}
        assert infer(server, "embed", {"text": ["a"]}, **fields).status == 200


# ---- metadata ----


def test_metadata(server: LiveServer) -> None:
    found = server.get("/v2").json
    assert found["name"] == "fastcpu"
    assert "binary_tensor_data" in found["extensions"]
    assert server.get("/v2/health/live").json == {"live": True}
    assert server.get("/v2/health/ready").json == {"ready": True}
    assert server.get("/v2/models/tag/versions/1/ready").json == {"name": "tag", "ready": True}
    model = server.get("/v2/models/classify").json
    assert model == server.get("/v2/models/classify/versions/1").json
    assert (model["name"], model["versions"], model["platform"]) == ("classify", ["1"], "fastcpu")
    assert model["inputs"] == [
        {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "token_type_ids", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "text", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "text_pair", "datatype": "BYTES", "shape": [-1, 1]},
    ]
    assert model["outputs"] == [
        {"name": "scores", "datatype": "FP32", "shape": [-1, 3], "labels": ["bad", "good", "neither"]},
        {"name": "label", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
    ]


@pytest.mark.parametrize("task", list(TASKS))
def test_what_the_metadata_list_is_what_there_is(server: LiveServer, task: str) -> None:
    listed = {each["name"]: each for each in server.get(f"/v2/models/{task}").json["outputs"]}
    texts = {"text": ["a [MASK] house"]} | ({"text_pair": ["the house"]} if task in ("qa", "rerank") else {})
    found = {**decoded(infer(server, task, padded())), **decoded(infer(server, task, texts))}
    if task == "rerank":
        found |= decoded(infer(server, task, {"text": ["a"]}))
    assert sorted(found) == sorted(listed)
    for name, values in found.items():
        assert ("BYTES" if values.dtype == object else DATATYPES[values.dtype]) == listed[name]["datatype"]
        shape = values.shape if values.ndim > 1 else (*values.shape, 1)
        assert all(wanted in (-1, size) for wanted, size in zip(listed[name]["shape"], shape, strict=True)), name


def test_the_configuration(server: LiveServer) -> None:
    found = server.get("/v2/models/embed/config").json
    assert found["max_batch_size"] == 2048
    assert {each["name"]: each["data_type"] for each in found["input"]} == {
        "input_ids": "TYPE_INT64",
        "attention_mask": "TYPE_INT64",
        "token_type_ids": "TYPE_INT64",
        "text": "TYPE_STRING",
        "text_pair": "TYPE_STRING",
    }
    assert found["output"][0] == {"name": "embedding", "data_type": "TYPE_FP32", "dims": [16]}


def test_statistics_count(server: LiveServer) -> None:
    before = server.get("/v2/models/tag/stats").json["model_stats"][0]
    infer(server, "tag", padded(rows=3))
    (after,) = server.get("/v2/models/tag/versions/1/stats").json["model_stats"]
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["execution_count"] > before["execution_count"]
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert len(server.get("/v2/models/stats").json["model_stats"]) == 6
