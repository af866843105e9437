"""A model that is opened to be served: what is said of one that cannot be."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastcpu.errors import FastcpuError, InputError
from fastcpu.serve.config import ModelConfig
from fastcpu.serve.model import Model
from tests.serve.live import model_directory
from tests.tasks.models import LENGTH


@pytest.fixture
def directory(tiny_models: Path, tmp_path: Path) -> Path:
    """A copy of an embedding model, to be changed."""
    return Path(shutil.copytree(model_directory(tiny_models, "embed"), tmp_path / "model"))


def refused(directory: Path, words: str, **settings: int) -> FastcpuError:
    """The error for a model that cannot be served."""
    with pytest.raises(FastcpuError, match=words) as caught:
        Model("org/name", ModelConfig(path=str(directory), **settings), 1).warm_up()
    assert str(caught.value).startswith(f"model 'org/name' ({directory}): ")
    assert str(caught.value).count("org/name") == 1
    return caught.value


def test_max_length_is_at_most_that_of_the_model(directory: Path) -> None:
    longest = Model("m", ModelConfig(path=str(directory)), 1).max_length
    assert longest == LENGTH
    words = f"max_length is {longest + 1}, and the model takes {longest} tokens at most"
    assert isinstance(refused(directory, words, max_length=longest + 1), InputError)
    for length in (longest, longest - 1):
        assert Model("m", ModelConfig(path=str(directory), max_length=length), 1).max_length == length


@pytest.mark.parametrize("name", ["graph.json", "weights.safetensors", "tokenizer.json"])
def test_errors_begin_with_name_and_directory(directory: Path, name: str) -> None:
    (directory / name).write_text("{")
    refused(directory, ".")
    (directory / name).unlink()
    refused(directory, re.escape(name))


def test_what_computes_nonsense_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "isfinite", lambda values: np.zeros(np.shape(values), bool))
    refused(directory, "computes values of .* that are not finite")
