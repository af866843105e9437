"""Every op of the runtime's table, on every instruction set, bit for bit against the NumPy reference.

The cases of an op are the graphs of tests/conformance/cases/<op>.py; an op without that file fails here. What Python
knows of an op, a rule of the verifier and an exported form, it can do without.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import fastcpu
from fastcpu import GraphError, _core
from fastcpu.export import onnx_ops
from fastcpu.export.onnx import to_onnx
from fastcpu.export.writer import write_model
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph
from fastcpu.graph.rules import RULES
from tests.conformance.builder import feeds
from tests.reference import executor

OPS = {row["name"]: row for row in _core.op_table()}


def cases(op: str) -> list[Graph]:
    return list(import_module(f"tests.conformance.cases.{op}").graphs())


def expected_values(graph: Graph, batch: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
    names = [value.name for value in graph.values.values() if value.space != "output" and value.dtype != "s32"]
    taps = next(iter(executor.taps(graph, [batch], names, exact=True)))
    return {name: np.asarray(array, np.float32) for name, array in taps.items()}


@pytest.mark.parametrize("op", OPS)
def test_every_value_has_the_bits_of_the_reference(op: str, tmp_path: Path, seed: int) -> None:
    graphs = cases(op)
    assert graphs
    for number, graph in enumerate(graphs):
        assert any(node.op == op for node in graph.nodes), f"case {number} of {op} does not use it"
        verify.check(graph)
        model = write_model(graph, tmp_path / str(number))
        batch = feeds(seed + number)
        expected, answers = expected_values(graph, batch), executor.run(graph, batch)
        digests = set()
        for isa in _core.supported_isas():
            before = _core.selected_isa()
            _core.force_isa_for_testing(isa)
            try:
                for threads, execution in [(1, "auto"), (2, "dense"), (3, "sparse")]:
                    session = fastcpu.Session(model, threads=threads, execution=execution, keep=["*"])  # type: ignore[arg-type]
                    outputs, kept = session.run_kept(batch, list(expected))
                    plain = fastcpu.Session(model, threads=threads, execution=execution).run(batch)  # type: ignore[arg-type]
                    where = f"case {number}, {isa}, {threads} threads, {execution}"
                    for name, array in expected.items():
                        np.testing.assert_array_equal(kept[name], array, err_msg=f"{where}: value {name}")
                    for name, array in answers.items():
                        np.testing.assert_array_equal(outputs[name], array, err_msg=f"{where}: output {name}")
                        np.testing.assert_array_equal(plain[name], array, err_msg=f"{where}: output {name}, planned")
                    digests.add(hashlib.sha256(b"".join(plain[name].tobytes() for name in answers)).hexdigest())
            finally:
                _core.force_isa_for_testing(before)
        print(f"{op} case {number}: {sorted(digests)}")
        assert len(digests) == 1


@pytest.mark.parametrize("op", [name for name, row in OPS.items() if not row["stateful"]])
def test_a_run_leaves_nothing_for_the_next(op: str, tmp_path: Path, seed: int) -> None:
    for number, graph in enumerate(cases(op)):
        session = fastcpu.Session(write_model(graph, tmp_path / str(number)), threads=2)
        batch = feeds(seed + number)
        first = session.run(batch)
        session.run({name: array[:1] for name, array in feeds(seed + number + 1).items()})
        for name, array in session.run(batch).items():
            np.testing.assert_array_equal(array, first[name], err_msg=f"case {number}: {name}")


@pytest.mark.parametrize("op", [name for name, row in OPS.items() if row["ragged_ok"]])
def test_a_sequence_alone_gives_the_same_bits(op: str, tmp_path: Path, seed: int) -> None:
    for number, graph in enumerate(cases(op)):
        session = fastcpu.Session(write_model(graph, tmp_path / str(number)), threads=2)
        batch = feeds(seed + number)
        rows = [b for b in range(len(batch["input_ids"])) if batch["attention_mask"][b].all() or b == 1]
        together = session.run(batch)
        for b in rows:
            real = batch["input_ids"][b][batch["attention_mask"][b].astype(bool)]
            alone = session.run({"input_ids": [real]})
            for name, array in alone.items():
                np.testing.assert_array_equal(
                    together[name][b, : len(real)]
                    if array.ndim > 1 and array.shape[1] == len(real)
                    else together[name][b],
                    array[0],
                    err_msg=f"case {number}, row {b}: {name}",
                )


@pytest.mark.parametrize("op", OPS)
def test_an_op_that_python_does_not_know(op: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written and run all the same, its constructor refuses what is wrong, and nobody exports it."""
    monkeypatch.delitem(RULES, op, raising=False)
    monkeypatch.delitem(onnx_ops.OPS, op, raising=False)
    for number, graph in enumerate(cases(op)):
        verify.check(graph)
        batch, directory = feeds(seed + number), tmp_path / str(number)
        outputs = fastcpu.Session(write_model(graph, directory), threads=2).run(batch)
        for name, array in executor.run(graph, batch).items():
            np.testing.assert_array_equal(outputs[name], array, err_msg=f"case {number}: output {name}")
        with pytest.raises(GraphError, match=f"op {op} has no ONNX form"):
            to_onnx(graph)

        node = next(node for node in graph.nodes if node.op == op)
        node.attrs["unknown"] = 1
        kept = (directory / "graph.json").read_bytes()
        with pytest.raises(GraphError, match=f"'{node.name}'.*unknown attribute"):
            write_model(graph, directory)
        assert (directory / "graph.json").read_bytes() == kept
        for bad in (float("nan"), float("inf"), 10**400, None, [1], "\0", np.float32(1)):
            node.attrs["unknown"] = bad
            with pytest.raises(GraphError, match=f"{op} '{node.name}': attribute 'unknown' is "):
                verify.check(graph)
