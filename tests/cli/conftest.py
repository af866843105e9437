"""Tiny models for the commands, made once per run, and a way to run a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fastcpu.cli.main import main
from fastcpu.export.writer import write_model
from fastcpu.graph.passes import merge_qkv
from fastcpu.graph.trace import Trace
from fastcpu.prune import prune_graph
from fastcpu.quantize import SCHEMES, observe
from tests.reference import executor, graphs

Failure = Callable[[list[str]], str]


@pytest.fixture(scope="session")
def f32_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny f32 encoder with a question answering head."""
    return write_model(graphs.encoder(head="qa"), tmp_path_factory.mktemp("f32") / "model")


def _quantized(scheme: str, out: Path) -> Path:
    graph = graphs.encoder(layers=1, head="qa")
    prune_graph(graph, 0.75, ignore=["layer0.o"])
    config = SCHEMES[scheme]()
    observed = observe(graph, [graphs.batch(16, 20)], executor.taps, config.wanted(graph))
    quantized, _ = config.apply(graph, observed)
    merge_qkv.run(quantized, Trace())
    return write_model(quantized, out)


@pytest.fixture(scope="session")
def static_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder, all linears but `layer0.o` and `qa` pruned to a quarter, with static int8 quantization."""
    return _quantized("static", tmp_path_factory.mktemp("static") / "model")


@pytest.fixture(scope="session")
def dynamic_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with dynamic int8 quantization."""
    return _quantized("dynamic", tmp_path_factory.mktemp("dynamic") / "model")


@pytest.fixture
def failure(capsys: pytest.CaptureFixture[str]) -> Failure:
    """Runs a command that must fail as the command line promises: status 2 and one line, which is returned."""

    def run(arguments: list[str]) -> str:
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("fastcpu: error: ")
        assert captured.err.count("\n") == 1
        return captured.err.removeprefix("fastcpu: error: ").rstrip("\n")

    return run
