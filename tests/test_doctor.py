"""What the doctor concludes, and that its numbers add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastcpu import _core, doctor, roofline
from fastcpu.errors import InputError
from fastcpu.export.writer import write_model
from fastcpu.graph.ir import Graph
from fastcpu.prune import prune_graph
from fastcpu.quantize import SCHEMES, observe
from tests.reference import executor, graphs

REPORT = {
    "layers": [{"name": "layer0.q", "zero_blocks": 0.1}],
    "kept_f32": {"qa": "excluded"},
    "not_fused": ["merge_qkv did not match"],
}


def quantized(scheme: str) -> Graph:
    """One layer, fc1 and fc2 pruned to a quarter; q is stored dense and `qa` stays f32."""
    graph = graphs.encoder(layers=1, head="qa")
    prune_graph(graph, 0.75, only=["layer0.fc*"])
    config = SCHEMES[scheme]()
    observed = observe(graph, [graphs.batch(16, 20)], executor.taps, config.wanted(graph))
    return config.apply(graph, observed)[0]


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {"report.json": json.dumps(REPORT)}
    return write_model(quantized("static"), tmp_path_factory.mktemp("static") / "model", None, files)


@pytest.fixture(scope="module")
def found(static: Path) -> doctor.Json:
    return doctor.diagnose(static, batch=4, threads=1, seconds=0.05)


def test_sums(found: doctor.Json) -> None:
    assert (found["batch"], found["sequence"]) == (4, 24), "as many tokens as there are positions"
    assert found["busy_seconds"] == pytest.approx(sum(op["seconds"] for op in found["ops"]))
    assert 0 < found["busy_seconds"] <= found["thread_seconds"]
    for rows in (found["ops"], found["kinds"], found["layers"]):
        assert sum(row["share"] for row in rows) == pytest.approx(1)
    for rows in (found["kinds"], found["layers"]):
        assert sum(row["ops"] for row in rows) == len(found["ops"])
    assert found["packed_bytes"] == sum(op["packed_bytes"] for op in found["ops"]) > 0
    json.dumps(found, allow_nan=False)


def test_rates(found: doctor.Json) -> None:
    fc1 = next(op for op in found["ops"] if op["name"] == "layer0.fc1")
    assert fc1["macs"] == 4 * 24 * 16 * 32 / 4, "the blocks that are stored, on every token"
    assert fc1["gops"] == pytest.approx(2 * fc1["macs"] / fc1["seconds"] / 1e9)
    assert fc1["peak_share"] == pytest.approx(fc1["gops"] / found["peak"]["int8_gops"])
    assert all(op["gops"] is None for op in found["ops"] if op["op"] == "layernorm")


def test_no_op_has_a_bound_below_what_sets_it(found: doctor.Json) -> None:
    peak = found["peak"]
    fc1 = next(op for op in found["ops"] if op["name"] == "layer0.fc1")
    tokens = 4 * 24
    activations = tokens * (16 + 32) / (peak["l2_gbps"] * 1e9)
    over_peak = 4 / 3 if fc1["kernel"].endswith("_avx2") else 1.0
    products = 2 * fc1["macs"] / (peak["int8_gops"] * 1e9 * over_peak)
    weights = fc1["read_bytes"] / (peak["l2_gbps"] * 1e9)  # which are in a cache
    assert fc1["bound_seconds"] == pytest.approx(max(activations, products, weights))
    assert fc1["bound_by"] in ("L2", "weights", "int8 peak")
    norm = next(op for op in found["ops"] if op["op"] == "layernorm")
    assert norm["bound_by"] == "L2"
    assert norm["bound_seconds"] > 0
    for rows in (found["kinds"], found["layers"]):
        assert sum(row["bound_seconds"] for row in rows) == pytest.approx(
            sum(op["bound_seconds"] for op in found["ops"])
        )


def test_large_weights_are_read_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = {"memory_gbps": 20.0, "l2_gbps": 100.0}
    monkeypatch.setattr(roofline, "last_cache_bytes", lambda: 1000)
    assert roofline.weight_rate(1001, peak) == 20e9
    assert roofline.weight_rate(1000, peak) == 100e9
    monkeypatch.setattr(roofline, "last_cache_bytes", lambda: 0)
    assert roofline.weight_rate(1001, peak) == 100e9


def test_machine(found: doctor.Json) -> None:
    machine = found["machine"]
    assert (machine["isa"], machine["threads"]) == (_core.selected_isa(), 1)
    assert machine["cpus_available"] == _core.available_cpus()
    assert found["peak"]["threads"] == 1


def test_why_linears_run_sparse_or_dense(found: doctor.Json) -> None:
    linears = {row["name"]: row for row in found["linears"]}
    assert linears["layer0.fc1"]["sparse"]
    assert linears["layer0.fc1"]["density"] == 0.25
    assert not linears["layer0.q"]["sparse"]
    assert linears["layer0.q"]["reason"] == "10 % of its 4x1 blocks are zero: too few"
    assert linears["qa"]["reason"]
    assert found["not_fused"] == REPORT["not_fused"]


def test_a_model_without_report(tmp_path: Path) -> None:
    path = write_model(graphs.encoder(layers=1), tmp_path / "model")
    found = doctor.diagnose(path, batch=1, sequence=3, threads=1, seconds=0)
    assert (found["sequence"], found["not_fused"]) == (3, [])
    assert all("f32 weights" in row["reason"] for row in found["linears"])
    assert any("Nothing runs in int8" in verdict for verdict in found["verdicts"])
    assert any("No linear runs sparse" in verdict for verdict in found["verdicts"])


def test_verdicts_on_a_forced_tier(static: Path, each_isa: str) -> None:
    found = doctor.diagnose(static, batch=1, sequence=2, threads=1, seconds=0)
    assert found["machine"]["isa"] == each_isa
    slower = each_isa != found["machine"]["best_isa"]
    assert any(verdict.startswith("FASTCPU_ISA holds the kernels to") for verdict in found["verdicts"]) == slower


def test_dynamic_models(tmp_path: Path) -> None:
    found = doctor.diagnose(write_model(quantized("dynamic"), tmp_path / "model"), batch=2, threads=1, seconds=0)
    assert "linear int8" in {kind["name"] for kind in found["kinds"]}


@pytest.mark.parametrize("options", [{"batch": 0}, {"sequence": 0}, {"sequence": 25}, {"threads": -1}])
def test_bad_options(options: dict[str, int], static: Path) -> None:
    with pytest.raises(InputError):
        doctor.diagnose(static, **options)  # type: ignore[arg-type]
