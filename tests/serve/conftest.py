"""Tiny models of every task, and a server of them that tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.live import LiveServer, model_directory
from tests.tasks.models import compiled

for package in ("tokenizers", "uvicorn", "starlette", "uvloop", "httptools", "msgspec", "orjson", "prometheus_client"):
    pytest.importorskip(package)

TASKS = ("embed", "classify", "rerank", "qa", "tag", "fill_mask")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model for each of TASKS; `model_directory` says where. Read only: others use it, too."""
    folder = tmp_path_factory.mktemp("models")
    for task in TASKS:
        compiled(task, folder / task)
    return folder


@pytest.fixture(scope="session")
def server(tiny_models: Path) -> Iterator[LiveServer]:
    """All tiny models, named after their tasks. Tests must leave it as it was."""
    arguments = [f"{task}={model_directory(tiny_models, task)}" for task in TASKS]
    with LiveServer([*arguments, "--threads", "1"]) as live:
        yield live
