"""The OpenAPI document, and a server that does what it says: schemathesis makes requests from it, good and bad."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastcpu.export import write_model
from tests.reference import graphs
from tests.serve.conftest import TASKS
from tests.serve.live import LiveServer, model_directory
from tests.tasks.models import LENGTH, save_tokenizer

pytest.importorskip("schemathesis")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = int(os.environ.get("FASTCPU_SCHEMA_EXAMPLES", "15"))
"""Random requests for each operation, beside those that cover its schema."""
LOADING = r"/v2/repository/models"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "negative_data_rejection", "missing_required_header", "ignored_auth",
    "unsupported_method", "allow_header_conformance", "valid_data_is_accepted", "server_errors_are_foreseen",
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Models for every operation."""
    made = tmp_path_factory.mktemp("tokens")
    save_tokenizer(made / "source")
    tokens = write_model(graphs.encoder(length=LENGTH), made / "tokens", made / "source")
    found: dict[str, Any] = {task: {"path": str(model_directory(tiny_models, task)), "task": task} for task in TASKS}
    found["rerank"] = found["rerank"]["path"]
    return found | {"org/tokens": {"path": str(tokens), "aliases": ["tokens"], "version": "2"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("schema")


@pytest.fixture(scope="module")
def live(models: dict[str, Any], folder: Path) -> Iterator[LiveServer]:
    with serving(folder / "open.yaml", models) as found:
        yield found


def serving(path: Path, models: dict[str, Any], **settings: Any) -> LiveServer:
    path.write_text(yaml.safe_dump({"models": models, "threads": 1, **settings}))
    return LiveServer(["--config", str(path)])


def checked(server: LiveServer, folder: Path, *options: str, examples: int = EXAMPLES) -> int:
    """Lets schemathesis test a server; gives the number of its requests."""
    (folder / "schemathesis.toml").write_text(
        f"""
        seed = 1
        hooks = "tests.serve.schema_hooks"
        continue-on-failure = true
        [generation]
        deterministic = true
        allow-extra-parameters = false
        max-examples = {examples}
        [checks]
        not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
        [phases.stateful]
        enabled = false
        """
    )
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"), "run",
        f"{server.url}/openapi.json", "--checks", ",".join(CHECKS), "--no-color", *options,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    count = re.search(r"(\d+) generated", done.stdout)
    print(done.stdout[-20_000:] + done.stderr[-5000:])
    assert done.returncode == 0
    assert count is not None
    assert not [event for event in server.events if event["level"] == "error"]
    return int(count.group(1))


def test_what_the_document_says_is_what_the_server_does(live: LiveServer, folder: Path) -> None:
    count = checked(live, folder, "--exclude-path-regex", LOADING)
    print(f"{count} requests")
    assert count >= 2000


def test_keys_are_needed_where_the_document_says_so(models: dict[str, Any], folder: Path) -> None:
    with serving(folder / "keyed.yaml", models, api_keys={"ann": "key-of-ann"}) as live:
        secured = document(live)
        assert {
            f"{method} {path}"
            for path, operations in secured["paths"].items()
            for method, operation in operations.items()
            if "security" not in operation
        } == {
            "get /", "get /health", "get /openapi.json", "get /v2/health/live", "get /v2/health/ready",
            "get /v2/models/{model}/ready", "get /v2/models/{model}/versions/{version}/ready",
        }  # fmt: skip
        options = ("--exclude-path-regex", LOADING, "--phases", "fuzzing", "-H", "Authorization: Bearer key-of-ann")
        assert checked(live, folder, *options, examples=5) > 100


def test_models_are_loaded_and_unloaded(models: dict[str, Any], folder: Path) -> None:
    with serving(folder / "loading.yaml", models) as live:
        assert checked(live, folder, "--include-path-regex", LOADING, examples=10) > 20
        assert live.get("/health").status in {200, 503}


# ---- the document ----


def document(server: LiveServer) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json").json
    return found


def named(found: dict[str, Any], path: str) -> Sequence[str]:
    """The models that a POST to a path may name."""
    schema = found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = found["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    names: Sequence[str] = body["properties"]["model"]["enum"]
    return names


def test_operations_name_the_models_that_they_can_use(live: LiveServer) -> None:
    found = document(live)
    assert named(found, "/embed") == named(found, "/v1/embeddings") == ["embed", "org/tokens", "tokens"]
    assert named(found, "/embed_all") == ["org/tokens", "tokens"]
    assert named(found, "/predict") == ["classify", "rerank"]
    assert named(found, "/v1/rerank") == ["rerank"]
    assert named(found, "/fill") == ["fill_mask"]
    infer = found["paths"]["/v2/models/{model}/versions/{version}/infer"]["post"]["parameters"]
    assert sorted(infer[0]["schema"]["enum"]) == sorted([*TASKS, "org/tokens", "tokens"])
    assert infer[1]["schema"]["enum"] == ["1", "2"]


def test_a_server_of_one_model_has_the_operations_of_one_model(models: dict[str, Any], folder: Path) -> None:
    with serving(folder / "one.yaml", {"only": models["embed"]}) as live:
        found = document(live)
        assert {"/embed", "/v1/embeddings", "/similarity", "/v2/models/{model}/infer"} <= found["paths"].keys()
        assert not {"/predict", "/rerank", "/qa", "/tag", "/fill", "/embed_all"} & found["paths"].keys()
        assert named(found, "/embed") == ["only", None]
        assert live.post("/embed", {"inputs": "a dog"}).status == 200
        assert live.post("/embed", {"inputs": "a dog", "model": None}).status == 200


def test_the_document_is_whole(live: LiveServer) -> None:
    found = document(live)
    schemas = found["components"]["schemas"]
    assert all(name.isalnum() for name in schemas)
    text = json.dumps(found)
    assert {name.rpartition("/")[2] for name in re.findall(r'"\$ref": "([^"]*)"', text)} <= schemas.keys()
    assert not re.search(r'"x-|Attributes:|fastcpu\.serve', text)
    assert schemas["EmbeddingRequest"]["properties"]["dimensions"]["description"].startswith("how many")
    operations = [each for methods in found["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for each in operations:
        assert each["summary"]
        for status, answer in each["responses"].items():
            assert "X-Request-Id" in answer["headers"]
            assert ("Retry-After" in answer["headers"]) == (status in {"429", "503"})
    assert "securitySchemes" not in found["components"]
