"""The Open Inference Protocol with models of other kinds, and its repository: servers that tests may change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu import Session
from fastcpu.export import write_model
from fastcpu.graph.ir import Graph, Tensor
from fastcpu.serve.limits import read_limits
from fastcpu.tasks import TASKS
from tests.reference import graphs
from tests.serve.live import LiveServer, model_directory
from tests.serve.test_inference import decoded, infer
from tests.tasks.models import LENGTH, save_tokenizer


def counting(graph: Graph) -> None:
    """Positions count the tokens that are not 0."""
    graph.nodes[0].attrs["padding_id"] = 0


def distant(graph: Graph) -> None:
    """Attention has biases by distance."""
    bias = np.random.default_rng(1).standard_normal((2, 9)).astype(np.float32)
    for node in graph.nodes:
        if node.op == "attention":
            node.tensors["bias"] = graph.add_tensor(Tensor(f"{node.name}.bias", bias))


def placeless(graph: Graph) -> None:
    """There are no positions."""
    node = next(node for node in graph.nodes if node.op == "embedding")
    node.inputs.remove("positions")
    node.tensors = {"table0": node.tensors["table0"], "table1": node.tensors["table2"]}
    del graph.tensors["embeddings.positions"]


KINDS: dict[str, tuple[Callable[[Graph], None], ...]] = {
    "plain": (),
    "counting": (counting,),
    "counting-distant": (counting, distant),
    "placeless": (placeless,),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that gives hidden states for each of KINDS."""
    root = tmp_path_factory.mktemp("kinds")
    save_tokenizer(root / "source")
    for name, changes in KINDS.items():
        graph = graphs.encoder(length=LENGTH + 1)  # one is that of padding, where positions are counted
        for change in changes:
            change(graph)
        write_model(graph, root / name, root / "source")
    return {name: root / name for name in KINDS}


@pytest.fixture(scope="module")
def server(
    folders: dict[str, Path], tiny_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """The models of KINDS, and one that fills gaps, which has a slash in its name and another version."""
    masks = {"path": str(model_directory(tiny_models, "fill_mask")), "task": "fill_mask", "version": "2.1"}
    models = {name: str(folder) for name, folder in folders.items()} | {"some/masks": masks}
    config = tmp_path_factory.mktemp("config") / "serve.yaml"
    config.write_text(json.dumps({"models": models, "threads": 1}))
    with LiveServer(["--config", str(config)]) as live:
        yield live


def test_limits(folders: dict[str, Path]) -> None:
    plain = read_limits(folders["plain"])
    assert (plain.ids, plain.types, plain.positions, plain.padding, plain.distances) == (50, 2, LENGTH + 1, None, False)
    assert plain.fills == {"last_hidden_state": 0.0}
    counting = read_limits(folders["counting-distant"])
    assert (counting.positions, counting.padding, counting.distances) == (LENGTH, 0, True)
    placeless = read_limits(folders["placeless"])
    assert (placeless.positions, placeless.padding) == (None, None)


LEFT = [[0, 0, 1, 1, 1]]
HOLES = [[1, 0, 1, 1, 0]]
FULL = [[1, 1, 1, 1, 1]]
PADDED = [[0, 0, 5, 6, 7]]
MIXED = [[3, 0, 5, 6, 0]]
WORDS = [[3, 4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("kind", "ids", "mask"),
    [
        ("plain", WORDS, [[1, 1, 1, 0, 0]]),
        ("counting", PADDED, LEFT),
        ("counting", MIXED, HOLES),
        ("counting", MIXED, FULL),
        ("counting-distant", PADDED, LEFT),
        ("placeless", WORDS, LEFT),
        ("placeless", WORDS, HOLES),
    ],
)
def test_padding_is_as_the_session_has_it(
    server: LiveServer, folders: dict[str, Path], kind: str, ids: list[list[int]], mask: list[list[int]]
) -> None:
    feeds = {
        "input_ids": np.array([*ids, *WORDS]),
        "attention_mask": np.array([*mask, *FULL]),
        "token_type_ids": np.array([[0, 1, 0, 1, 1], [1, 1, 0, 0, 0]]),
    }
    found = decoded(infer(server, kind, feeds, parameters={"binary_data_output": True}))
    expected = Session(folders[kind], threads=1).run(feeds)
    assert np.array_equal(found["last_hidden_state"], expected["last_hidden_state"])


@pytest.mark.parametrize(
    ("kind", "ids", "mask", "said"),
    [
        ("plain", PADDED, LEFT, "padding may only stand at the end"),
        ("plain", WORDS, HOLES, "padding may only stand at the end"),
        ("counting", WORDS, LEFT, "no padding but that of the token id 0"),
        ("counting-distant", MIXED, HOLES, "attends by distance"),
    ],
)
def test_padding_that_changes_positions_is_refused(
    server: LiveServer, kind: str, ids: list[list[int]], mask: list[list[int]], said: str
) -> None:
    answer = infer(server, kind, {"input_ids": np.array(WORDS + ids), "attention_mask": np.array(FULL + mask)})
    assert answer.status == 400
    assert "row 1 has padding before tokens" in answer.json["error"]
    assert said in answer.json["error"]


def test_a_name_with_a_slash_and_a_version(server: LiveServer) -> None:
    for path in ("some/masks", "some/masks/versions/2.1"):
        found = server.get(f"/v2/models/{path}").json
        assert (found["name"], found["versions"]) == ("some/masks", ["2.1"])
        assert server.get(f"/v2/models/{path}/ready").json["ready"]
        assert server.get(f"/v2/models/{path}/config").json["name"] == "some/masks"
        assert server.get(f"/v2/models/{path}/stats").json["model_stats"][0]["version"] == "2.1"
        assert infer(server, path, {"text": ["a [MASK] house"]}).status == 200
    assert server.get("/v2/models/some%2Fmasks").json["name"] == "some/masks"
    assert server.get("/v2/models/some/masks/versions/1").status == 404
    assert server.get("/v2/models/some").status == 404


def test_gaps_are_json(server: LiveServer, tiny_models: Path) -> None:
    filled = TASKS["fill_mask"](model_directory(tiny_models, "fill_mask"), threads=1)(["a [MASK] house"])
    fills = json.loads(decoded(infer(server, "some/masks", {"text": ["a [MASK] house"]}))["fills"][0])
    assert [each["token"] for each in fills[0]] == [each.token for each in filled[0][0]]
    answer = infer(server, "some/masks", {"text": ["a house"]})
    assert answer.status == 400
    assert "[MASK]" in answer.json["error"]


def test_an_answer_must_find_room(folders: dict[str, Path], tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    limits = {"max_body_bytes": 200_000, "max_buffer_mb": 0.5}
    config.write_text(json.dumps({"models": {"m": str(folders["plain"])}, "threads": 1, **limits}))
    with LiveServer(["--config", str(config)]) as live:
        for rows, status in ((100, 200), (500, 413)):
            ids = np.ones((rows, LENGTH), np.int8)
            answer = infer(live, "m", {"input_ids": ids}, parameters={"binary_data_output": True})
            assert answer.status == status
        assert "at most 250000" in answer.json["error"]


# ---- the repository ----


@pytest.fixture
def own(tiny_models: Path, tmp_path: Path) -> Iterator[tuple[LiveServer, Path]]:
    """A server, and the folder of its model m, which may be changed."""
    folder = tmp_path / "m"
    shutil.copytree(model_directory(tiny_models, "embed"), folder)
    with LiveServer([f"m={folder}", "--threads", "1"]) as live:
        yield live, folder


def index(server: LiveServer, body: Any = None) -> Any:
    answer = server.post("/v2/repository/index", body)
    assert answer.status == 200
    return answer.json


def test_unload_and_load(own: tuple[LiveServer, Path]) -> None:
    server, _ = own
    assert index(server) == [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
    assert server.post("/v2/repository/models/m/unload", {"parameters": {"unload_dependents": True}}).status == 200
    assert index(server) == [{"name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]
    assert index(server, {"ready": True}) == []
    for path in ("/v2/health/ready", "/v2/models/m/ready", "/v2/models/m"):
        answer = server.get(path)
        assert answer.status == 503, path
        assert "error" in answer.json
    assert infer(server, "m", {"text": ["a"]}).status == 503
    assert server.get("/v2/health/live").status == 200
    assert server.post("/v2/repository/models/m/unload", None).status == 200
    assert server.post("/v2/repository/models/m/load", {}).status == 200
    assert infer(server, "m", {"text": ["a"]}).status == 200
    assert server.get("/v2/health/ready").status == 200


def test_a_load_that_fails_leaves_the_model(own: tuple[LiveServer, Path]) -> None:
    server, folder = own
    before = decoded(infer(server, "m", {"text": ["a red house"]}))["embedding"]
    graph = (folder / "graph.json").read_bytes()
    (folder / "graph.json").write_bytes(b"{}")
    answer = server.post("/v2/repository/models/m/load", {"parameters": {}})
    assert answer.status == 400
    assert "failed to load 'm'" in answer.json["error"]
    (entry,) = index(server)
    assert entry["state"] == "READY"
    assert entry["reason"] in answer.json["error"]
    after = decoded(infer(server, "m", {"text": ["a red house"]}))["embedding"]
    assert np.array_equal(after, before)
    server.post("/v2/repository/models/m/unload", None)
    assert server.post("/v2/repository/models/m/load", None).status == 400
    (entry,) = index(server)
    assert entry["state"] == "UNAVAILABLE"
    (folder / "graph.json").write_bytes(graph)
    assert server.post("/v2/repository/models/m/load", None).status == 200
    assert server.get("/v2/models/m/ready").status == 200


def test_what_the_repository_refuses(own: tuple[LiveServer, Path]) -> None:
    server, _ = own
    for path, body, status in (
        ("models/none/load", None, 404),
        ("models/none/unload", None, 404),
        ("models/m/load", {"parameters": {"config": "{}"}}, 400),
        ("models/m/load", {"parameters": 1}, 400),
        ("models/m/load", b"{", 400),
        ("models/m/unload", [], 400),
        ("index", {"ready": "yes"}, 400),
    ):
        answer = server.post(f"/v2/repository/{path}", body)
        assert answer.status == status, (path, body)
        assert list(answer.json) == ["error"]
    assert server.get("/v2/models/m/ready").status == 200


def test_keys_are_needed_but_for_health(tiny_models: Path) -> None:
    arguments = [f"m={model_directory(tiny_models, 'embed')}", "--threads", "1"]
    with LiveServer(arguments, {"FASTCPU_API_KEYS": "somebody=secret-key"}) as server:
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready"):
            assert server.get(path).status == 200
        for path in ("/v2", "/v2/models/m", "/v2/models/m/stats"):
            assert server.get(path).status == 401
            assert server.get(path, {"Authorization": "Bearer secret-key"}).status == 200
        assert infer(server, "m", {"text": ["a"]}).status == 401
        assert server.post("/v2/repository/models/m/unload", None).status == 401
