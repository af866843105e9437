"""Damaged and hostile weights.safetensors, behind checksums that are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu import FileFormatError, GraphError
from tests.runtime.hostile import FEEDS, Answers, Header, Model, outcome, refuse, same


@pytest.mark.parametrize(
    "length", [0, 1, 2**16, 2**31, 2**32, 2**62, 2**63, 2**64 - 8, 2**64 - 1], ids=lambda n: f"{n:#x}"
)
def test_absurd_header_lengths(seeds: dict[str, Model], length: int, tmp_path: Path) -> None:
    model = seeds["f32"].write(tmp_path / "m")
    data = (model / "weights.safetensors").read_bytes()
    (model / "weights.safetensors").write_bytes(length.to_bytes(8, "little") + data[8:])
    refuse(model, FileFormatError, "weights.safetensors: (truncated|data is not aligned|invalid JSON)")


NAME = "layer0.fc1.bias"


def entry(key: str, to: Any) -> Callable[[Header], None]:
    return lambda header: header[NAME].update({key: to})


def offsets(change: Callable[[int, int], list[Any]]) -> Callable[[Header], None]:
    return lambda header: header[NAME].update(data_offsets=change(*header[NAME]["data_offsets"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (offsets(lambda a, b: [a, b + 1]), "has \\d+ bytes, its shape needs"),
        (offsets(lambda a, b: [a, b - 1]), "has \\d+ bytes, its shape needs"),
        (offsets(lambda a, b: [b, a]), "lies outside the file"),
        (offsets(lambda _a, b: [-64, b]), r"data_offsets\[0\]: expected an integer from 0"),
        (offsets(lambda a, b: [a + 0.5, b]), r"data_offsets\[0\]: expected an integer"),
        (offsets(lambda a, _b: [a, 2**40]), "lies outside the file"),
        (offsets(lambda a, _b: [a, 2**53]), "lies outside the file"),
        (offsets(lambda a, _b: [a, 2**63]), "expected an integer"),
        (offsets(lambda a, _b: [a, 1e300]), "expected an integer"),
        (offsets(lambda a, b: [a + 4, b + 4]), "not aligned to 64 bytes"),
        (offsets(lambda a, b: [0, b - a]), "tensors overlap at byte|damaged"),
        (offsets(lambda a, _b: [a]), "data_offsets needs two numbers"),
        (offsets(lambda a, b: [a, b, b]), "data_offsets needs two numbers"),
        (offsets(lambda _a, b: ["0", b]), r"data_offsets\[0\]: expected a number"),
        (entry("data_offsets", {}), "data_offsets: expected an array"),
        (entry("dtype", "F64"), 'unsupported dtype "F64"'),
        (entry("dtype", "I32"), "is not f32"),
        (entry("dtype", "U8"), "its shape needs"),
        (entry("dtype", 4), "dtype: expected a string"),
        (entry("shape", [2**31]), "absurd shape|its shape needs"),
        (entry("shape", [2**31, 2**31]), "absurd shape"),
        (entry("shape", [2**31] * 4), "absurd shape"),
        (entry("shape", [2**32, 2**32]), "expected an integer from 0"),
        (entry("shape", [0, 2**31]), "its shape needs 0"),
        (entry("shape", [-1]), r"shape\[0\]: expected an integer from 0"),
        (entry("shape", [1.5]), r"shape\[0\]: expected an integer"),
        (entry("shape", [1] * 5), "more than 4 dimensions"),
        (entry("shape", [8, 4]), "has shape"),
        (entry("shape", 32), "shape: expected an array"),
        (entry("shape", []), "its shape needs"),
        (lambda header: header.pop(NAME), "no tensor covers byte|no such tensor"),
        (lambda header: header.update({NAME: 3}), "expected an object"),
        (lambda header: header.update({"../../etc/passwd": header.pop(NAME)}), "no such tensor|has no checksum"),
        (lambda header: header.pop("__metadata__"), '"__metadata__" is missing'),
        (lambda header: header.update(__metadata__={}), '"graph" is missing'),
        (lambda header: header.update(__metadata__={"graph": 7}), "graph: expected a string"),
        (lambda header: header.update(__metadata__={"graph": "crc32c:00000000"}), "graph.json is damaged"),
        (lambda header: header.update(more={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}), "has no checksum"),
    ],
)
def test_bad_headers(seeds: dict[str, Model], change: Callable[[Header], None], message: str, tmp_path: Path) -> None:
    refuse(seeds["f32"].write(tmp_path / "m", edit_header=change), FileFormatError, message)


def test_holes_and_overlaps(seeds: dict[str, Model], tmp_path: Path) -> None:
    pads = [name for name in seeds["static"].layout()[0] if name.startswith("_pad.")]
    assert pads
    for name in pads:
        model = seeds["static"].write(tmp_path / "m", edit_header=lambda header, name=name: header.pop(name))
        refuse(model, FileFormatError, "no tensor covers byte")
        twice = lambda header, name=name: header.update({"_pad.twice": header[name]})  # noqa: E731
        refuse(seeds["static"].write(model, edit_header=twice), FileFormatError, "tensors overlap at byte")


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a/b", "C:\\x", "\u202e", "x" * 5000, ""])
def test_names_are_never_paths(seeds: dict[str, Model], answers: dict[str, Answers], name: str, tmp_path: Path) -> None:
    model = seeds["f32"].copy()
    model.graph["tensors"][NAME]["parts"]["values"] = name
    model.entries[name] = model.entries.pop(NAME)
    model.graph["checksums"][name] = model.graph["checksums"].pop(NAME)
    result = outcome(model.write(tmp_path / "m"), FEEDS)
    assert not isinstance(result, Exception)
    assert same(result, answers["f32"])
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_pad_is_not_a_tensor(seeds: dict[str, Model], tmp_path: Path) -> None:
    model = seeds["static"].copy()
    header, _ = model.layout()
    pad = next(name for name in header if name.startswith("_pad."))
    model.graph["tensors"]["qa.bias"] = {
        "encoding": "dense", "storage": "u8", "shape": header[pad]["shape"], "parts": {"values": pad},
    }  # fmt: skip
    refuse(model.write(tmp_path / "m"), FileFormatError, f"weights.safetensors has no tensor '{pad}'")


def floats(model: Model, name: str, value: float) -> None:
    array = model.entries[name].array()
    array.reshape(-1)[array.size // 2] = value
    model.entries[name].set(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["embeddings.ids", "layer0.q.weight", "layer0.fc1.bias", "layer0.norm1.gamma"])
def test_weights_that_are_not_finite(seeds: dict[str, Model], name: str, value: float, tmp_path: Path) -> None:
    model = seeds["f32"].copy()
    floats(model, name, value)
    refuse(model.write(tmp_path / "m"), FileFormatError, f"{name}: holds NaN or infinity")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -0.01])
def test_scales_that_are_not_positive(seeds: dict[str, Model], value: float, tmp_path: Path) -> None:
    for tensor, described in seeds["static"].graph["tensors"].items():
        if described["storage"] == "s8":
            model = seeds["static"].copy()
            floats(model, described["scale"], value)
            refuse(model.write(tmp_path / "m"), FileFormatError, f"{tensor}: the scale of row \\d+ is not a positive")


def block_parts(model: Model) -> dict[str, str]:
    return next(tensor["parts"] for tensor in model.graph["tensors"].values() if tensor["encoding"] == "block")


def change_part(part: str, change: Callable[[Any], Any]) -> Callable[[Model], None]:
    def apply(model: Model) -> None:
        stored = model.entries[block_parts(model)[part]]
        array = stored.array()
        stored.set(np.ascontiguousarray(change(array)))

    return apply


def put(position: int, value: int) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[position] = value
        return array

    return change


def descriptor(key: str, to: Any) -> Callable[[Model], None]:
    def apply(model: Model) -> None:
        tensor = next(tensor for tensor in model.graph["tensors"].values() if tensor["encoding"] == "block")
        tensor[key] = to(tensor[key]) if callable(to) else to

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_part("index", put(0, 65535)), "block 0 has a bad input channel"),
        (change_part("index", put(-1, 16)), "has a bad input channel"),
        (change_part("index", lambda array: array[::-1]), "has a bad input channel"),
        (change_part("index", np.zeros_like), "has a bad input channel"),
        (change_part("index", lambda array: array[:-1]), "values has shape|values.*has shape|do not cover"),
        (change_part("index", lambda array: array[:, None]), "index: not a vector"),
        (change_part("index", lambda array: array.astype(np.uint32)), "is not u16"),
        (change_part("offsets", put(0, 1)), "block offsets do not cover the blocks"),
        (change_part("offsets", put(-1, 0)), "block offsets do not cover the blocks"),
        (change_part("offsets", put(-1, 2**32 - 1)), "block offsets do not cover the blocks"),
        (change_part("offsets", put(1, 2**32 - 1)), "row group 0 are out of order"),
        (change_part("offsets", put(2, 0)), "row group 1 are out of order"),
        (change_part("offsets", lambda array: array[:-1]), "offsets has shape"),
        (change_part("offsets", lambda array: array.astype(np.int32)), "is not u32"),
        (change_part("values", lambda array: array[:-1]), "values.*has shape|has shape"),
        (change_part("values", lambda array: array.reshape(-1)), "has shape"),
        (change_part("values", lambda array: array.view(np.uint8)), "is not s8"),
        (change_part("values", lambda array: np.full_like(array, -128)), "has a value of -128"),
        (descriptor("block", [1, 4]), "only 4x1 blocks are supported"),
        (descriptor("block", [4]), "only 4x1 blocks are supported"),
        (descriptor("block", 4), "block: expected an array"),
        (descriptor("encoding", "csr"), 'unknown encoding "csr"'),
        (descriptor("encoding", "dense"), "has shape|is not"),
        (descriptor("storage", "f32"), "is an s8 matrix|is not f32"),
        (descriptor("storage", "f16"), 'unsupported storage "f16"'),
        (descriptor("shape", lambda shape: [shape[0] + 2, shape[1]]), "rows in fours"),
        (descriptor("shape", lambda shape: [shape[0] + 4, shape[1]]), "offsets has shape"),
        (descriptor("shape", lambda shape: [2**31, shape[1]]), "offsets has shape"),
        (descriptor("shape", lambda shape: [shape[0], 65536]), "an s8 matrix|is a block"),
        (descriptor("shape", lambda shape: [shape[0], 4]), "has a bad input channel"),
        (descriptor("shape", lambda shape: [shape[0], 40_000]), "more than 32768 columns"),
        (descriptor("shape", lambda shape: [shape[0]]), "an s8 matrix"),
        (descriptor("shape", []), "an s8 matrix"),
        (descriptor("scale", "qa.bias"), "scale has shape"),
        (descriptor("scale", lambda scale: scale.replace(".scale", ".values")), "is not f32"),
        (descriptor("scale", ["x"]), "scale: expected a string"),
        (descriptor("parts", {}), '"values" is missing'),
        (descriptor("parts", lambda parts: {**parts, "index": parts["values"]}), "is not u16"),
    ],
)
def test_bad_blocks(seeds: dict[str, Model], change: Callable[[Model], None], message: str, tmp_path: Path) -> None:
    model = seeds["static"].copy()
    change(model)
    with pytest.raises((FileFormatError, GraphError), match=message):
        fastcpu.Session(model.write(tmp_path / "m"))
