"""Damaged and hostile model directories: one typed error that says what and where, never a crash or a wrong answer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu import FileFormatError, GraphError, InputError, ResourceError
from tests.runtime.hostile import FEEDS, KINDS, Answers, Model, outcome, refuse, same

# ---- files ----


@pytest.mark.parametrize("name", ["graph.json", "weights.safetensors"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "cannot open .*{name}: No such file"),
        (lambda path: path.mkdir(), "{name} is not a regular file"),
        (os.mkfifo, "{name} is not a regular file"),
        (lambda path: path.symlink_to(path), "cannot open .*{name}: Too many levels"),
        (lambda path: path.symlink_to("/dev/zero"), "{name} is not a regular file"),
    ],
    ids=["missing", "directory", "fifo", "loop", "device"],
)
def test_what_is_not_a_file(
    seeds: dict[str, Model], name: str, make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    model = seeds["f32"].write(tmp_path / "m")
    (model / name).unlink()
    make(model / name)
    refuse(model, ResourceError, message.format(name=name))


@pytest.mark.parametrize("name", ["graph.json", "weights.safetensors"])
def test_empty_file(seeds: dict[str, Model], name: str, tmp_path: Path) -> None:
    model = seeds["f32"].write(tmp_path / "m")
    (model / name).write_bytes(b"")
    refuse(model, FileFormatError, f"{name}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable_file(seeds: dict[str, Model], tmp_path: Path) -> None:
    model = seeds["f32"].write(tmp_path / "m")
    (model / "graph.json").chmod(0)
    refuse(model, ResourceError, "cannot open .*graph.json: Permission denied")


@pytest.mark.parametrize("model", ["", b""])
def test_empty_path(model: str | bytes) -> None:
    with pytest.raises(InputError, match="path of the model is empty"):
        fastcpu.Session(model)  # type: ignore[arg-type]


def test_a_directory_that_is_not_compiled_yet(seeds: dict[str, Model], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    refuse(tmp_path, ResourceError, f"cannot open .*/graph.json: .*`fastcpu compile {tmp_path} -o OUT` makes a model")
    model = seeds["f32"].write(tmp_path / "m")
    (model / "config.json").write_text("{}")
    fastcpu.Session(model)


@pytest.mark.parametrize("path", ["nowhere", "file", "nul\0byte", b"\xff\xfe", os.fsdecode(b"\xff")])
def test_bad_directory(path: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    with pytest.raises(ResourceError, match=r"graph\.json|NUL in the path"):
        fastcpu.Session(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["graph.json", "weights.safetensors"])
def test_truncated_anywhere(seeds: dict[str, Model], kind: str, name: str, tmp_path: Path) -> None:
    model = seeds[kind].write(tmp_path / "m")
    data = (model / name).read_bytes()
    for size in sorted({len(data) * i // 50 for i in range(50)} | {1, 7, 8, 9, 63, 64, len(data) - 1}):
        if data[:size].strip() == data.strip():
            continue
        (model / name).write_bytes(data[:size])
        refuse(model, FileFormatError, name if size else "unexpected end|truncated")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["graph.json", "weights.safetensors"])
def test_flipped_bytes(
    seeds: dict[str, Model], answers: dict[str, Answers], kind: str, name: str, tmp_path: Path, seed: int
) -> None:
    model = seeds[kind].write(tmp_path / "m")
    data = (model / name).read_bytes()
    rng = np.random.default_rng(seed)
    refused = 0
    for position in sorted({*range(0, len(data), len(data) // 200), *range(12)}):
        flipped = bytearray(data)
        flipped[position] ^= int(rng.integers(1, 256))
        (model / name).write_bytes(flipped)
        result = outcome(model, FEEDS)
        if isinstance(result, fastcpu.FastcpuError):
            assert isinstance(result, FileFormatError), (position, result)
            refused += 1
        else:  # padding
            assert name == "weights.safetensors", position
            assert same(result, answers[kind]), position
    assert refused > 150


@pytest.mark.parametrize("extra", [b"\0", b"junk" * 100])
def test_appended_bytes(seeds: dict[str, Model], extra: bytes, tmp_path: Path) -> None:
    for name, message in [("graph.json", "text after the document"), ("weights.safetensors", "no tensor covers byte")]:
        model = seeds["f32"].write(tmp_path / name)
        with (model / name).open("ab") as file:
            file.write(extra)
        refuse(model, FileFormatError, message)


def test_files_of_different_models(seeds: dict[str, Model], tmp_path: Path) -> None:
    a, b = seeds["f32"].write(tmp_path / "a"), seeds["static"].write(tmp_path / "b")
    (a / "graph.json").write_bytes((b / "graph.json").read_bytes())
    refuse(a, FileFormatError, "graph.json is damaged or belongs to other weights")


# ---- graph.json ----


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unexpected end"),
        ("\ufeff{}", "expected a value"),
        ("null", "not a fastcpu model"),
        ("[]", "not a fastcpu model"),
        ("{}", "not a fastcpu model"),
        ('{"format": 7}', "not a fastcpu model"),
        ('{"format": "onnx"}', "not a fastcpu model"),
        ('{"format": "fastcpu"}', '"version" is missing'),
        ('{"format": "fastcpu", "version": "1"}', "version: expected a number"),
        ('{"format": "fastcpu", "version": 1.5}', "version: expected an integer"),
        ('{"format": "fastcpu", "version": 2}', "version 2 is not supported"),
        ('{"format": "fastcpu", "version": -1}', "version -1 is not supported"),
        ('{"format": "fastcpu", "version": 1e300}', "version: expected an integer"),
        ('{"format": "fastcpu", "version": 1, "name": 3}', "name: expected a string"),
        ('{"format": "fastcpu", "format": "fastcpu"}', 'duplicate key "format"'),
        ('{"version": NaN}', "expected a value"),
        ('{"version": Infinity}', "expected a value"),
        ('{"version": -Infinity}', "expected a value"),
        ('{"version": 1e999}', "number out of range"),
        ('{"version": ' + "9" * 100 + "}", "number is too long"),
        ('{"version": 01}', "expected '}'"),
        ('{"a": "\\ud800"}', "lone surrogate"),
        ('{"a": "\\u0000"}', "NUL in a string"),
        ('{"a": "\n"}', "control character"),
        ('{"a": 1,}', "expected a key"),
        ('{"a": 1', "unexpected end"),
        ('{"a": tru}', "unknown literal"),
        ("[" * 10_000, "nested too deeply"),
        ('{"a":' * 10_000, "nested too deeply"),
        ("[" + "1," * (1 << 20) + "1]", "too many values"),
        ('{"' + "k" * 200_000 + '": [' + "0," * 100_000 + "}", "expected a value"),
    ],
    ids=lambda value: value[:40].encode("unicode_escape").decode() if isinstance(value, str) else None,
)
def test_bad_documents(seeds: dict[str, Model], text: str, message: str, tmp_path: Path) -> None:
    refuse(seeds["f32"].write(tmp_path / "m", text=text), FileFormatError, f"graph.json: .*{message}")


def test_invalid_utf8(seeds: dict[str, Model], tmp_path: Path) -> None:
    text = json.dumps(seeds["f32"].graph).encode()
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
        broken = text.replace(b'"layer0.q"', b'"layer0.' + bad + b'"')
        assert broken != text
        refuse(seeds["f32"].write(tmp_path / "m", text=broken), FileFormatError, "graph.json: .*invalid UTF-8")


@pytest.mark.parametrize("key", ["inputs", "outputs", "tensors", "values", "nodes", "checksums"])
@pytest.mark.parametrize("value", [None, 3, "text", True, "missing", "other"])
def test_sections_of_the_wrong_type(seeds: dict[str, Model], key: str, value: Any, tmp_path: Path) -> None:
    model = seeds["static"].copy()
    if value == "missing":
        del model.graph[key]
    else:
        model.graph[key] = ({} if isinstance(model.graph[key], list) else []) if value == "other" else value
    refuse(model.write(tmp_path / "m"), FileFormatError, f"graph.json: .*{key}")


def edit(*path: Any, to: Any) -> Callable[[Model], None]:
    """Sets an item of the graph; `...` removes it."""

    def change(model: Model) -> None:
        place: Any = model.graph
        for step in path[:-1]:
            place = place[step]
        if to is ...:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return change


def node(name: str, key: str, to: Any) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        (found,) = (item for item in model.graph["nodes"] if item["name"] == name)
        if to is ...:
            del found[key]
        else:
            found[key] = to

    return change


def attr(name: str, key: str, to: Any) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        (found,) = (item for item in model.graph["nodes"] if item["name"] == name)
        if to is ...:
            del found["attrs"][key]
        else:
            found.setdefault("attrs", {})[key] = to

    return change


def swap_nodes(model: Model) -> None:
    model.graph["nodes"][2:4] = model.graph["nodes"][3:1:-1]


def cycle(model: Model) -> None:
    model.graph["nodes"][2]["inputs"] = [model.graph["nodes"][5]["outputs"][0]]


def repeat_node(model: Model) -> None:
    model.graph["nodes"].append(dict(model.graph["nodes"][3]))


def write_twice(model: Model) -> None:
    model.graph["nodes"].append(dict(model.graph["nodes"][3], name="again"))


def read_an_output(model: Model) -> None:
    model.graph["values"]["more"] = dict(model.graph["values"]["start_logits"])
    model.graph["nodes"].append(
        {"op": "pointwise", "name": "more", "inputs": ["start_logits"], "outputs": ["more"],
         "attrs": {"function": "relu"}}
    )  # fmt: skip


def share_an_output(model: Model) -> None:
    model.graph["outputs"][1]["value"] = "start_logits"


def name_outputs_alike(model: Model) -> None:
    model.graph["outputs"][1]["name"] = "start_logits"


ATTENTION, NORM, QUANTIZED = "layer0.attention", "layer0.norm1", "layer0.attention.out"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (node("qa", "op", "conv"), GraphError, r"'qa' \(conv\): unknown op"),
        (node("qa", "op", "Linear"), GraphError, "unknown op"),
        (node("qa", "op", ""), GraphError, "unknown op"),
        (node("qa", "op", ...), FileFormatError, r"nodes\[\d+\]: \"op\" is missing"),
        (node("qa", "name", ...), FileFormatError, '"name" is missing'),
        (node("qa", "inputs", []), GraphError, "'qa'.*has 0 inputs"),
        (node("qa", "inputs", ["nothing"]), FileFormatError, r"inputs\[0\]: no value 'nothing'"),
        (node("qa", "inputs", [["ids"]]), FileFormatError, r"inputs\[0\]: expected a string"),
        (node("qa", "inputs", ["ids"]), GraphError, "'qa'.*value 'ids'"),
        (node("qa", "outputs", []), FileFormatError, "'qa.out' is read before it is written"),
        (node("end_logits.repad", "outputs", []), FileFormatError, "'end_logits' is never written"),
        (node("qa", "outputs", ["qa.out", "qa.out"]), FileFormatError, "'qa.out' is written twice"),
        (node("qa", "tensors", ...), GraphError, "'qa'.*needs a tensor \"weight\"|weight"),
        (node("qa", "tensors", {"weight": "nothing"}), FileFormatError, "no tensor 'nothing'"),
        (node("qa", "tensors", []), FileFormatError, "tensors: expected an object"),
        (node("qa", "attrs", []), FileFormatError, "attrs: expected an object"),
        (attr("qa", "activation", "swish"), GraphError, "'qa'.*unknown activation \"swish\""),
        (attr("qa", "activation", 1), FileFormatError, "activation: expected a string"),
        (attr("qa", "activation", "table"), GraphError, "'qa'.*table"),
        (attr("qa", "alpha", 1), GraphError, "'qa'.*unknown attribute \"alpha\""),
        (swap_nodes, FileFormatError, "is read before it is written"),
        (cycle, FileFormatError, "is read before it is written"),
        (repeat_node, FileFormatError, "two nodes are named"),
        (write_twice, FileFormatError, "is written twice"),
        (read_an_output, GraphError, "reads 'start_logits', which is an output|wrong space"),
        (share_an_output, GraphError, "two outputs share the value 'start_logits'"),
        (name_outputs_alike, FileFormatError, "two outputs are named 'start_logits'"),
        (attr(ATTENTION, "heads", 0), FileFormatError, "heads: expected an integer from 1"),
        (attr(ATTENTION, "heads", -2), FileFormatError, "heads: expected an integer from 1"),
        (attr(ATTENTION, "heads", 1 << 40), FileFormatError, "heads: expected an integer from 1"),
        (attr(ATTENTION, "heads", 2.5), FileFormatError, "heads: expected an integer"),
        (attr(ATTENTION, "heads", "2"), FileFormatError, "heads: expected a number"),
        (attr(ATTENTION, "heads", ...), GraphError, f"'{ATTENTION}'.*\"heads\" is missing"),
        (attr(ATTENTION, "heads", 3), (GraphError, FileFormatError), "heads"),
        (attr(ATTENTION, "kv_heads", 0), FileFormatError, "kv_heads: expected an integer from 1"),
        (attr(ATTENTION, "head_dim", 4096), GraphError, f"'{ATTENTION}'.*heads do not fit"),
        (attr(ATTENTION, "head_dim", ...), GraphError, "\"head_dim\" is missing"),
        (attr(ATTENTION, "k_offset", 40), (GraphError, FileFormatError), "heads do not fit|k_offset|group"),
        (attr(ATTENTION, "v_offset", -1), FileFormatError, "v_offset: expected an integer from 0"),
        (attr(ATTENTION, "scale", "1"), FileFormatError, "scale: expected a number"),
        (attr(ATTENTION, "scale", -1), GraphError, "scale must not be negative"),
        (attr(ATTENTION, "scale", 1e39), FileFormatError, "scale: expected a number in the range of f32"),
        (attr(ATTENTION, "causal", 0), FileFormatError, "causal: expected true or false"),
        (attr(NORM, "epsilon", 0), GraphError, f"'{NORM}'.*epsilon must be positive"),
        (attr(NORM, "epsilon", -1e-5), GraphError, "epsilon must be positive"),
        (attr(NORM, "residual", False), GraphError, f"'{NORM}'.*residual"),
        (attr("start_logits.repad", "begin", 1), FileFormatError, "end: expected an integer from 2"),
        (attr("start_logits.repad", "begin", -1), FileFormatError, "begin: expected an integer from 0"),
        (attr("start_logits.repad", "end", 3), FileFormatError, "end: expected an integer from 1 to 2, not 3"),
        (attr("start_logits.repad", "end", 2), GraphError, "squeeze needs one channel"),
        (attr("start_logits.repad", "squeeze", False), GraphError, "output 'start_logits' has wrong dims"),
        (attr("start_logits.repad", "fill", [0]), FileFormatError, "fill: expected a number"),
        (attr("unpad", "offset", 0), GraphError, "'unpad'.*unknown attribute \"offset\""),
        (node("unpad", "inputs", ["input_ids"]), GraphError, "'unpad'.*needs the inputs"),
        (node("unpad", "inputs", ["input_ids", "token_type_ids", "attention_mask"]), GraphError, "wrong role"),
        (node("unpad", "inputs", ["a", "b", "c"]), GraphError, "no input is named 'a'"),
        (node("unpad", "outputs", ["ids"]), FileFormatError, "'positions' is read before it is written"),
        (edit("nodes", to=[]), FileFormatError, "value '.*' is never written"),
        (edit("outputs", to=[]), FileFormatError, "no outputs"),
        (edit("outputs", 0, "value", to="h"), FileFormatError, "no value 'h'"),
        (edit("outputs", 0, "value", to="qa.out"), FileFormatError, "not in space \"output\""),
        (edit("outputs", 0, "dtype", to="float16"), FileFormatError, "\"float16\" is not supported"),
        (edit("outputs", 0, "dims", to=["batch"]), GraphError, "output 'start_logits' has wrong dims"),
        (edit("outputs", 0, "dims", to=["batch", 9]), GraphError, "output 'start_logits' has wrong dims"),
        (edit("outputs", 0, "dims", to=["batch", "sequence", 2]), GraphError, "output 'start_logits' has wrong dims"),
        (edit("outputs", 0, "dims", to=["batch", -1]), FileFormatError, r"dims\[1\]: expected an integer from 0"),
        (edit("inputs", to=[]), FileFormatError, "no input with role \"ids\""),
        (edit("inputs", 0, "role", to="embedding"), FileFormatError, "unknown role \"embedding\""),
        (edit("inputs", 1, "role", to="ids"), FileFormatError, "two inputs with the same name or role"),
        (edit("inputs", 1, "name", to="input_ids"), FileFormatError, "two inputs with the same name or role"),
        (edit("inputs", 0, "dtype", to="int8"), FileFormatError, "\"int8\" is not supported"),
        (edit("inputs", 1, "optional", to=1), FileFormatError, "optional: expected true or false"),
        (edit("values", "qa.out", "channels", to=0), FileFormatError, "qa.out.channels: expected an integer from 1"),
        (edit("values", "qa.out", "channels", to=-4), FileFormatError, "channels: expected an integer from 1"),
        (edit("values", "qa.out", "channels", to=1 << 40), FileFormatError, "channels: expected an integer from 1"),
        (edit("values", "qa.out", "channels", to=2.5), FileFormatError, "channels: expected an integer"),
        (edit("values", "qa.out", "channels", to=3), GraphError, "'qa'.*'qa.out' has 3 channels, expected 2"),
        (edit("values", "qa.out", "dtype", to="f64"), FileFormatError, "unknown dtype \"f64\""),
        (edit("values", "qa.out", "dtype", to="s32"), GraphError, "'qa'"),
        (edit("values", "qa.out", "space", to="heap"), FileFormatError, "unknown space \"heap\""),
        (edit("values", "qa.out", "space", to="sequences"), GraphError, "'qa.out' is in the wrong space"),
        (edit("values", "qa.out", "space", to="output"), GraphError, "'qa.out' is in the wrong space"),
        (edit("values", "qa.out", to=...), FileFormatError, "no value 'qa.out'"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else None,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["f32", "static"])
def test_bad_graphs(
    seeds: dict[str, Model], kind: str, change: Callable[[Model], None], error: Any, message: str, tmp_path: Path
) -> None:
    model = seeds[kind].copy()
    change(model)
    directory = model.write(tmp_path / "m")
    with pytest.raises(error, match=message):
        fastcpu.Session(directory)


def quantized_value(kind: str, model: Model) -> str:
    key = "scale" if kind == "static" else "dynamic"
    return next(name for name, value in model.graph["values"].items() if key in value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0}, "a scale must be a positive normal f32"),
        ({"scale": -0.1}, "a scale must be a positive normal f32"),
        ({"scale": 1e-42}, "a scale must be a positive normal f32"),
        ({"scale": 1e39}, "scale: expected a number in the range of f32"),
        ({"scale": None}, "scale: expected a number"),
        ({"scale": ...}, '"scale" is missing'),
        ({"zero_point": 256}, "zero_point: expected an integer from 0 to 255, not 256"),
        ({"zero_point": -1}, "zero_point: expected an integer from 0"),
        ({"zero_point": 1.5}, "zero_point: expected an integer"),
        ({"groups": []}, "groups must begin at channel 0"),
        ({"groups": [[1, 0.1, 3]]}, "groups must begin at channel 0"),
        ({"groups": [[0, 0.1, 3], [0, 0.1, 3]]}, "groups are not ascending"),
        ({"groups": [[0, 0.1]]}, "expected .first_channel, scale, zero_point."),
        ({"groups": [[0, 0, 3]]}, "a scale must be a positive normal f32"),
        ({"groups": [[0, 0.1, 3], [999, 0.1, 3]]}, r"expected an integer from 0 to"),
        ({"dynamic": "nothing"}, "no value 'nothing'"),
        ({"dynamic": "ids"}, "a dynamic scale is an f32 value with one channel"),
        ({"dynamic": 4}, "dynamic: expected a string"),
    ],
)
def test_bad_quantization(seeds: dict[str, Model], change: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = seeds["static"].copy()
    name = quantized_value("static", model)
    if change.keys() & {"groups", "dynamic"}:
        for key in ("scale", "zero_point"):
            edit("values", name, key, to=...)(model)
    for key, to in change.items():
        edit("values", name, key, to=to)(model)
    refuse(model.write(tmp_path / "m"), FileFormatError, f"values.{name}.*{message}|{message}")


@pytest.mark.parametrize(
    ("place", "keys", "message"),
    [
        ((), {"comment": "x"}, 'graph.json: .*unknown key "comment"'),
        (("inputs", 0), {"rolle": "ids"}, r'inputs\[0\]: unknown key "rolle"'),
        (("outputs", 0), {"optional": True}, r'outputs\[0\]: unknown key "optional"'),
        (("values", "qa.out"), {"chanels": 2}, 'values.qa.out: unknown key "chanels"'),
        (("values", "qa.out"), {"scale": 0.1}, 'values.qa.out: "scale" belongs to u8 values'),
        (("values", "qa.out"), {"zero_point": 3}, 'values.qa.out: "zero_point" belongs to u8 values'),
        (("values", "qa.out"), {"dynamic": "qa.out"}, 'values.qa.out: "dynamic" belongs to u8 values'),
        (("values", "ids"), {"groups": []}, 'values.ids: "groups" belongs to u8 values'),
        (("values", QUANTIZED), {"groups": []}, f'values.{QUANTIZED}: "scale" contradicts "groups"'),
        (("values", QUANTIZED), {"dynamic": "qa.out"}, f'values.{QUANTIZED}: "scale" contradicts "dynamic"'),
        (("tensors", "qa.weight"), {"shapes": []}, 'tensors.qa.weight: unknown key "shapes"'),
        (("tensors", "qa.bias"), {"scale": "qa.weight.scale"}, 'tensors.qa.bias: "scale" belongs to s8 tensors'),
        (("tensors", "qa.bias"), {"block": [4, 1]}, 'tensors.qa.bias: "block" belongs to block tensors'),
        (("tensors", "qa.bias", "parts"), {"index": "qa.bias"}, 'tensors.qa.bias.parts: unknown key "index"'),
        (("tensors", "layer0.fc1.weight", "parts"), {"mask": "qa.bias"}, 'weight.parts: unknown key "mask"'),
        (("nodes", 3), {"attributes": {}}, r'nodes\[3\]: unknown key "attributes"'),
    ],
    ids=lambda value: value[-50:] if isinstance(value, str) else None,
)  # fmt: skip
def test_keys_that_would_be_ignored(
    seeds: dict[str, Model], place: tuple[Any, ...], keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = seeds["static"].copy()
    found: Any = model.graph
    for step in place:
        found = found[step]
    found |= keys
    refuse(model.write(tmp_path / "m"), FileFormatError, message)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("op", "key", "value", "message"),
    [
        ("linear", "table_scale", 0.1, '"table_scale" belongs to a table'),
        ("linear", "table_zero_point", 3, '"table_zero_point" belongs to a table'),
        ("attention", "k_scale", 0.1, '"k_scale" belongs to u8 inputs|k_scale is not the scale'),
    ],
)
def test_attributes_that_would_be_ignored(
    seeds: dict[str, Model], kind: str, op: str, key: str, value: Any, message: str, tmp_path: Path
) -> None:
    model = seeds[kind].copy()
    found = next(n for n in model.graph["nodes"] if n["op"] == op and "table" not in n.get("tensors", {}))
    found["attrs"][key] = value
    refuse(model.write(tmp_path / "m"), GraphError, f"'{found['name']}'.*{message}")


@pytest.mark.parametrize("dims", [[], ["batch"], ["batch", "sequence", "more"], ["batch", 4], "batch", ...])
def test_dims_of_inputs(seeds: dict[str, Model], dims: Any, tmp_path: Path) -> None:
    model = seeds["f32"].copy()
    edit("inputs", 0, "dims", to=dims)(model)
    refuse(model.write(tmp_path / "m"), FileFormatError, r"inputs\[0\].*(dims|expected a string)")


def test_dynamic_scales_that_are_misused(seeds: dict[str, Model], tmp_path: Path) -> None:
    seed = seeds["dynamic"]
    value = quantized_value("dynamic", seed)
    scale = seed.graph["values"][value]["dynamic"]
    producer = next(i for i, item in enumerate(seed.graph["nodes"]) if value in item["outputs"])
    consumer = next(i for i, item in enumerate(seed.graph["nodes"]) if value in item["inputs"])
    outputs, inputs = seed.graph["nodes"][producer]["outputs"], seed.graph["nodes"][consumer]["inputs"]
    f32 = next(name for name, item in seed.graph["values"].items() if item["dtype"] == "f32" and item["channels"] > 1)
    static = {"dtype": "u8", "space": "tokens", "channels": 16, "scale": 0.1, "zero_point": 128}
    for change in (
        edit("nodes", producer, "outputs", to=[name for name in outputs if name != scale]),
        edit("nodes", consumer, "inputs", to=[value]),
        edit("nodes", consumer, "inputs", to=[scale, value]),
        edit("nodes", consumer, "inputs", to=[value, value]),
        edit("nodes", consumer, "inputs", to=[*inputs, scale]),
        edit("values", value, to=static),
        edit("values", value, "dynamic", to=f32),
        edit("values", scale, "space", to="sequences"),
        edit("values", scale, "channels", to=2),
        edit("values", scale, "dtype", to="u8"),
        edit("values", scale, to=...),
        edit("nodes", -1, "inputs", to=[scale]),
    ):
        model = seed.copy()
        change(model)
        result = outcome(model.write(tmp_path / "m"), FEEDS)
        assert isinstance(result, GraphError | FileFormatError), change
