"""Tiny models by architecture, written once per run, and a folder for what is compiled of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.integrations import models

MakeModel = Callable[..., Path]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this run keeps compiled models."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """``tiny(architecture, **settings)``: the directory of a tiny model; the same one for the same arguments."""
    made: dict[str, Path] = {}

    def make(architecture: str, **settings: Any) -> Path:
        key = f"{architecture} {sorted(settings.items())}"
        if key not in made:
            made[key] = models.write(tmp_path_factory.mktemp(architecture) / "model", architecture, **settings)
        return made[key]

    return make
