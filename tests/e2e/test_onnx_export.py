"""int8 ONNX files of a real model, run by ONNX Runtime, against a float simulation of the same quantization points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu.export.reader import read_graph
from fastcpu.graph.ir import Graph
from tests.e2e.conftest import padded
from tests.reference import executor, numerics
from tests.reference.ort import open_exact

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from fastcpu.export.onnx import export_onnx  # noqa: E402  (needs onnx)

TEXTS = 8
MOST_DIFFERENT = 1e-3
"""Of the codes of a value, where both sides computed them from the same codes: ties that round the other way."""
# One such code changes many in later layers, so that whole models agree less: 0.998 here, as the simulation does with
# itself and half an ulp of noise before each rounding, and 0.96 to 0.99 where a file says anything else than the graph.
MIN_COSINE = 0.997


def attention_with_f32_softmax(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    q_zero_point: int,
    c: np.float32,
    ov: np.float32,
    out_zero_point: int | None,
    causal: bool,
    exp2: Any,
    bias: NDArray[np.float32] | None = None,
) -> NDArray[Any]:
    """`numerics.attention_u8` as the files have it: probabilities are not rounded to codes."""
    centered = [x.astype(np.float32) - np.float32(zero) for x, zero in ((q, q_zero_point), (k, 128), (v, 128))]
    y = numerics.attention_f32(*centered, c, causal, exp2, exact=False, bias=bias) * ov
    return y if out_zero_point is None else numerics.to_u8(y + np.float32(out_zero_point), out_zero_point)


@pytest.fixture
def exported(minilm_int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Graph, Path]:
    """The graph and its file; the simulation has the softmax of files."""
    graph = read_graph(minilm_int8)
    dynamic = any(value.dynamic_scale is not None for value in graph.values.values())
    monkeypatch.setattr(numerics, "attention_u8", attention_with_f32_softmax)
    return graph, export_onnx(minilm_int8, tmp_path / "model.onnx", "matmulinteger" if dynamic else "qdq")


@pytest.fixture
def feeds(minilm_rows: list[NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    batch = padded(minilm_rows[:TEXTS])
    return batch | {"token_type_ids": np.zeros_like(batch["input_ids"])}


def run_onnx(model: bytes | str, outputs: list[str], feeds: dict[str, NDArray[np.int64]]) -> list[NDArray[Any]]:
    session = open_exact(model)
    found: list[NDArray[Any]] = session.run(outputs, {item.name: feeds[item.name] for item in session.get_inputs()})
    return found


def test_every_op_gives_the_codes_of_the_simulation(
    exported: tuple[Graph, Path], feeds: dict[str, NDArray[np.int64]]
) -> None:
    """Each op of the simulation reads what ONNX Runtime has computed so far."""
    graph, path = exported
    model = onnx.load(path)
    names = {f"{name}.codes": name for name in graph.values}
    names |= {f"{name}.scale": value.dynamic_scale for name, value in graph.values.items() if value.dynamic_scale}
    made = [name for node in model.graph.node for name in node.output if name in names]
    for name in made:
        kind = onnx.TensorProto.UINT8 if name.endswith(".codes") else onnx.TensorProto.FLOAT
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    real = feeds["attention_mask"].astype(bool)
    given = {
        names[name]: np.ascontiguousarray(array[real].T)
        for name, array in zip(made, run_onnx(model.SerializeToString(), made, feeds), strict=True)
    }
    assert len(given) >= 6 * 4  # layers, and the linears of each
    replaced = executor.Run(graph, feeds, exact=False, given=given).replaced
    assert set(replaced) == set(given)
    for name, mine in replaced.items():
        if mine.dtype == np.uint8:
            steps = np.abs(mine.astype(np.int32) - given[name])
            assert (steps > 0).mean() <= MOST_DIFFERENT, name
            assert steps.max() <= 2, name
        else:
            np.testing.assert_allclose(mine, given[name], rtol=1e-5, err_msg=name)


def test_onnx_runtime_gives_what_the_simulation_gives(
    exported: tuple[Graph, Path], feeds: dict[str, NDArray[np.int64]]
) -> None:
    graph, path = exported
    expected = executor.run(graph, feeds, exact=False)["sentence_embedding"].astype(np.float64)
    (got,) = run_onnx(str(path), ["sentence_embedding"], feeds)
    cosines = (got * expected).sum(axis=1) / (np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1))
    assert cosines.mean() >= MIN_COSINE
