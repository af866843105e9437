"""Model directories: read back by safetensors and the C++ reader, complete or not there at all."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import time
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

import fastcpu
from fastcpu import _core
from fastcpu.errors import GraphError, InputError, OutputError
from fastcpu.export import blocks, directory, weights, write_model
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph, Quantization, Tensor
from tests.reference import executor, graphs


def _sparse(graph: Graph) -> Graph:
    """`graph` with one weight as s8 blocks behind a static quantization, and one as dense s8."""
    rng = np.random.default_rng(0)
    linears = [node for node in graph.nodes if node.op == "linear"]
    for node, encoding in zip(linears[:2], ("block", "dense"), strict=True):
        weight = graph.tensors[node.tensors["weight"]]
        data = rng.integers(-127, 128, weight.data.shape).astype(np.int8)
        data[:4] = 0
        data[4:8, ::2] = 0
        scale = rng.random(len(data)).astype(np.float32)
        graph.tensors[weight.name] = Tensor(weight.name, data, scale, encoding)  # type: ignore[arg-type]
        name = f"{node.name}.x"
        graph.add_value(graphs.Value(name, "u8", "tokens", data.shape[1], Quantization(0.1, 77)))
        quantize = graphs.Node("quantize", f"{node.name}.quantize", [node.inputs[0]], [name])
        graph.nodes.insert(graph.nodes.index(node), quantize)
        node.inputs = [name]
    return graph


def test_round_trip(tmp_path: Path) -> None:
    graph = _sparse(graphs.encoder(head="qa"))
    out = write_model(graph, tmp_path / "model")
    assert out == tmp_path / "model"
    document = json.loads((out / "graph.json").read_text())
    assert (document["format"], document["version"]) == ("fastcpu", 1)
    assert document["producer"] == f"fastcpu {fastcpu.__version__}"
    assert document["values"]["layer0.q.x"]["scale"] == float(np.float32(0.1))
    stored = load_file(out / "weights.safetensors")
    entries = {name: array for name, array in stored.items() if not name.startswith("_pad.")}
    assert set(entries) == set(document["checksums"])
    for name, array in entries.items():
        assert document["checksums"][name] == f"crc32c:{_core.crc32c(array):08x}"
    assert set(document["tensors"]) == set(graph.tensors)
    for name, tensor in graph.tensors.items():
        described = document["tensors"][name]
        assert described["shape"] == list(tensor.data.shape)
        if described["encoding"] == "dense":
            np.testing.assert_array_equal(entries[described["parts"]["values"]], tensor.data)
        if tensor.scale is not None:
            np.testing.assert_array_equal(entries[described["scale"]], tensor.scale)
    feeds = graphs.batch()
    expected = executor.run(graph, feeds)
    for name, array in fastcpu.Session(out).run(feeds).items():
        np.testing.assert_array_equal(array, expected[name])


def test_safetensors_layout(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "a": np.arange(3, dtype=np.int8),
        "empty": np.zeros((0, 4), np.int8),
        "b": np.arange(64, dtype=np.uint8),
        "c": np.arange(5, dtype=np.uint16),
        "d": np.array(2.5, np.float32),
        "e": np.arange(6, dtype=np.int32).reshape(2, 3).T,
        "f": np.arange(2, dtype=np.uint32),
    }
    path = tmp_path / "w.safetensors"
    weights.write(path, arrays, {"graph": "of what"})
    stored = load_file(path)
    for name, array in arrays.items():
        assert stored[name].dtype == array.dtype
        np.testing.assert_array_equal(stored[name], array)
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    assert (8 + size) % 64 == 0
    header = json.loads(raw[8 : 8 + size])
    position = 0
    assert header.pop("__metadata__") == {"graph": "of what"}
    for name, item in header.items():
        begin, end = item["data_offsets"]
        assert begin == position
        assert begin % 64 == 0 or name.startswith("_pad.")
        position = end
    assert position == len(raw) - 8 - size


def _decode(
    shape: tuple[int, int], values: NDArray[Any], index: NDArray[Any], offsets: NDArray[Any]
) -> NDArray[np.int8]:
    weight = np.zeros(shape, np.int8)
    for group in range(shape[0] // 4):
        for block in range(offsets[group], offsets[group + 1]):
            weight[4 * group : 4 * group + 4, index[block]] = values[block]
    return weight


@given(st.integers(1, 5), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_blocks(groups: int, columns: int, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (4 * groups, columns)
    keep = np.repeat(rng.random((groups, columns)) < density, 4, axis=0)
    weight = (rng.integers(-127, 128, shape) * keep).astype(np.int8)
    values, index, offsets = blocks.encode(weight)
    assert (values.dtype, index.dtype, offsets.dtype) == (np.int8, np.uint16, np.uint32)
    assert values.any(axis=1).all()
    assert all((np.diff(index[a:b].astype(int)) > 0).all() for a, b in pairwise(offsets))
    np.testing.assert_array_equal(_decode(shape, values, index, offsets), weight)


def _crc32c_of(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4095, 4096, 4097, 3 * 4096, 7 * 4096 + 5])
def test_crc32c(size: int, rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, size).astype(np.uint8)
    assert _core.crc32c(data) == _crc32c_of(data.tobytes())


def test_crc32c_check_value() -> None:
    assert _core.crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283
    assert _core.crc32c(np.frombuffer(b"123456789", np.uint8)) != zlib.crc32(b"123456789")


# ---- files ----


def test_side_files_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "vocab.txt", "modules.json", "1_Pooling/config.json", "README.md"):
        (source / name).write_text(name)
    (source / "model.safetensors").write_bytes(b"weights")
    out = write_model(graphs.encoder(), tmp_path / "out", source)
    copied = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert copied == [
        "1_Pooling/config.json",
        "config.json",
        "graph.json",
        "modules.json",
        "tokenizer.json",
        "vocab.txt",
        "weights.safetensors",
    ]
    assert (out / "1_Pooling" / "config.json").read_text() == "1_Pooling/config.json"
    with pytest.raises(InputError, match="no such directory"):
        write_model(graphs.encoder(), tmp_path / "out", tmp_path / "absent")


def _state(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_replaces_a_model(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    write_model(graphs.encoder(seed=1), out)
    (out / "report.json").write_text("{}")
    before = _state(out)
    write_model(graphs.encoder(seed=2), out)
    after = _state(out)
    assert set(after) == {"graph.json", "weights.safetensors"}
    assert after["weights.safetensors"] != before["weights.safetensors"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert stat.S_IMODE(out.stat().st_mode) & 0o500 == 0o500


def test_leaves_other_directories_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    write_model(graphs.encoder(), tmp_path / "mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(OutputError, match="photos: exists and is not a fastcpu model"):
        write_model(graphs.encoder(), tmp_path / "photos")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file: exists and is not"):
        write_model(graphs.encoder(), tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine", "photos"]


@pytest.mark.parametrize(
    "text", ['{"nodes": [1, 2], "edges": []}', '["fastcpu"]', '{"format": "fastcpu"', "[" * 100_000]
)
def test_a_graph_json_of_somebody_else_makes_no_model(text: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "graph.json").write_text(text)
    with pytest.raises(OutputError, match="out: exists and is not a fastcpu model"):
        write_model(graphs.encoder(), out)
    assert _state(out) == {"graph.json": text.encode()}


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("thesis.txt", "thesis.txt"),
        ("config.json.orig", "config.json.orig"),
        ("1_Pooling/thesis.txt", "1_Pooling/thesis.txt"),
        ("photos/cat.jpg", "photos"),
        ("deep/config.json", "deep"),
    ],
)
def test_files_of_others_in_a_model_are_not_lost(name: str, named: str, tmp_path: Path) -> None:
    out = write_model(graphs.encoder(seed=1), tmp_path / "out")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("years of work")
    before = _state(out)
    with pytest.raises(OutputError, match=f"out/{named}: not a file that fastcpu writes; move it away"):
        write_model(graphs.encoder(seed=2), out)
    assert _state(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_comes_while_the_model_is_written_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_model(graphs.encoder(seed=1), tmp_path / "out")
    write = weights.write

    def write_and_add(*args: Any) -> None:
        write(*args)
        (out / "thesis.txt").write_text("years of work")

    monkeypatch.setattr(weights, "write", write_and_add)
    with pytest.raises(OutputError, match=r"thesis\.txt: not a file that fastcpu writes"):
        write_model(graphs.encoder(seed=2), out)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_whatever_was_written_can_be_replaced(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json"):
        (source / name).write_text(name)
    out = write_model(graphs.encoder(), tmp_path / "out", source, {"report.json": "{}"})
    assert set(_state(write_model(graphs.encoder(), out))) == {"graph.json", "weights.safetensors"}


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    target = write_model(graphs.encoder(seed=1), tmp_path / "models" / "target")
    link = tmp_path / "link"
    link.symlink_to(target)
    before = _state(target)
    assert write_model(graphs.encoder(seed=2), link) == link
    assert link.is_symlink()
    assert _state(target) != before
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_dir() and not path.is_symlink()) == [
        "models",
        "target",
    ]


NO_SPACE = OSError(28, "No space left on device")


@pytest.fixture(params=["at once", "in two steps"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the new directory takes the place of the old one."""
    if request.param == "in two steps":
        monkeypatch.setattr(directory, "_exchange", lambda *_: False)
    return str(request.param)


@pytest.mark.parametrize("step", ["weights.write", "Path.write_bytes", "_flush", "swap"])
@pytest.mark.parametrize("error", [NO_SPACE, KeyboardInterrupt()])
def test_interrupted_write_changes_nothing(
    step: str, error: BaseException, swap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_model(graphs.encoder(seed=1), tmp_path / "out")
    before = _state(out)
    rename = Path.rename

    def fail(*args: Any) -> Any:
        # The old model is moved aside by a first rename; the second one, of the new model, is what fails.
        if step == "swap" and swap == "in two steps" and ".partial" not in str(args[0]):
            return rename(*args)
        raise error

    target = {
        "weights.write": "fastcpu.export.weights.write",
        "Path.write_bytes": "pathlib.Path.write_bytes",
        "_flush": "fastcpu.export.directory._flush",
        "swap": "pathlib.Path.rename" if swap == "in two steps" else "fastcpu.export.directory._exchange",
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(target, fail)
        if isinstance(error, OSError):
            with pytest.raises(OutputError, match=r"out: cannot write the model: No space left on device"):
                write_model(graphs.encoder(seed=2), out)
        else:
            with pytest.raises(KeyboardInterrupt):
                write_model(graphs.encoder(seed=2), out)
    assert _state(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_replaces_in_either_way(swap: str, tmp_path: Path) -> None:
    out = write_model(graphs.encoder(seed=1), tmp_path / "out")
    before = _state(out)
    write_model(graphs.encoder(seed=2), out)
    assert _state(out) != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_directories_exchange_their_names_at_once(tmp_path: Path) -> None:
    """Nothing but the one system call, so that a process that is killed leaves the old model or the new one."""
    a, b = tmp_path / "a", tmp_path / "b"
    for path in (a, b):
        path.mkdir()
        (path / "name").write_text(path.name)
    if not directory._exchange(a, b):
        pytest.skip("this system cannot exchange names")
    assert (a / "name").read_text() == "b"
    assert (b / "name").read_text() == "a"
    with pytest.raises(OSError, match="No such file"):
        directory._exchange(a, tmp_path / "absent")


@pytest.mark.parametrize("error", [NO_SPACE, KeyboardInterrupt()])
@pytest.mark.parametrize("again", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_the_old_model_is_kept_when_it_cannot_be_put_back(
    error: BaseException, again: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_model(graphs.encoder(seed=1), tmp_path / "out")
    before = _state(out)
    rename = Path.rename

    def fail(source: Path, target: Path) -> Path:
        if source.name.endswith(".partial"):
            raise error
        if source.name.endswith(".old"):
            raise again
        return rename(source, target)

    monkeypatch.setattr(directory, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
        write_model(graphs.encoder(seed=2), out)
    (old,) = tmp_path.iterdir()
    assert _state(old) == before
    if isinstance(again, OSError):
        assert isinstance(caught.value, OutputError)
        assert str(caught.value).endswith(f"; the model that was there is now {old}")


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_leaves_a_whole_model(seed: int, tmp_path: Path) -> None:
    out = write_model(graphs.encoder(seed=1), tmp_path / "out")
    if not directory._exchange(out, Path(shutil.copytree(out, tmp_path / "copy"))):
        pytest.skip("this system cannot exchange names")
    code = (
        "import itertools, sys\nfrom tests.reference import graphs\nfrom fastcpu.export import write_model\n"
        "for seed in itertools.count():\n    write_model(graphs.encoder(layers=1, seed=seed), sys.argv[1])\n"
        "    print(seed, flush=True)\n"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], cwd=root, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    time.sleep(random.Random(seed).random() * 0.02)
    process.kill()
    process.communicate()
    assert fastcpu.Session(out).outputs


def test_permissions_are_those_of_any_new_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the umask, which belongs to all threads of the process, is left alone."""
    before = os.umask(0o027)
    with monkeypatch.context() as patch:
        patch.delattr(os, "umask")
        out = write_model(graphs.encoder(), tmp_path / "out")
    assert os.umask(before) == 0o027
    assert stat.S_IMODE(out.stat().st_mode) == 0o750
    assert stat.S_IMODE((out / "graph.json").stat().st_mode) == 0o640


def test_target_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        write_model(graphs.encoder(), tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="/proc"):
        write_model(graphs.encoder(), "/proc/fastcpu-model")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_parent(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write_model(graphs.encoder(), tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def test_invalid_graphs_are_not_written(tmp_path: Path) -> None:
    graph = graphs.encoder()
    graph.tensors["layer0.q.bias"].data[0] = np.inf
    with pytest.raises(GraphError, match="NaN or infinite"):
        write_model(graph, tmp_path / "out")
    graph = graphs.encoder()
    clash = graph.tensors.pop("layer0.q.bias")
    graph.tensors["_pad.0"] = Tensor("_pad.0", clash.data)
    next(node for node in graph.nodes if node.op == "linear").tensors["bias"] = "_pad.0"
    with pytest.raises(GraphError, match=r"part '_pad\.0' has a name that is taken"):
        write_model(graph, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_the_runtime_refuses_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the checks of Python are blind; the message is the runtime's and names no temporary directory."""
    graph = graphs.encoder()
    next(node for node in graph.nodes if node.op == "layernorm").attrs["epsilon"] = -1.0
    monkeypatch.setattr(verify, "check", lambda _: None)
    out = write_model(graphs.encoder(seed=1), tmp_path / "out")
    before = _state(out)
    with pytest.raises(GraphError, match=r"node 'embeddings\.norm' \(layernorm\): epsilon must be positive"):
        write_model(graph, out)
    graph.nodes.append(graph.nodes[-1])
    with pytest.raises(GraphError, match=f"{out}/graph.json: .*two nodes are named"):
        write_model(graph, out)
    assert _state(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
