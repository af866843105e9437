"""`fastcpu info`: what a model directory holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcpu.cli.paths import check_outside, for_people, path_argument

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "info",
        help="show what a model directory holds",
        description="Checks a model directory and shows its inputs, outputs, layers, quantization points and sizes.",
    )
    parser.add_argument("model", type=path_argument, metavar="OUT", help="model directory")
    parser.add_argument("--json", type=path_argument, metavar="F", help="write it to a file")


def run(args: argparse.Namespace) -> int:
    from fastcpu.files import write_json

    check_outside("--json", args.json, [args.model])
    described = describe(args.model)
    print(_text(described), file=for_people(args.json))
    if args.json is not None:
        write_json(args.json, described)
    return 0


def describe(path: Path) -> dict[str, Any]:
    """What graph.json says and what lies on disk, after the reader has checked both."""
    from fastcpu import _core
    from fastcpu.export.reader import read_header

    model = _core.read_model(str(path))
    header = read_header(path)
    tensors = model["tensors"]
    producers = {value: node["name"] for node in model["nodes"] for value in node["outputs"]}
    layers = [
        {"name": node["name"], "op": node["op"], "tensor": tensor, "density": _density(tensors[tensor])}
        | {key: tensors[tensor][key] for key in ("shape", "encoding", "storage", "bytes")}
        for node in model["nodes"]
        for role, tensor in node["tensors"].items()
        if len(tensors[tensor]["shape"]) == 2
    ]
    points = [
        {"value": name, "producer": producers.get(name), "dynamic": value["dynamic"], "groups": value["groups"]}
        for name, value in model["values"].items()
        if value["dtype"] == "u8"
    ]
    return {
        "directory": str(path),
        "name": model["name"],
        "producer": header.producer,
        "version": header.version,
        "inputs": [dict(zip(("name", "role", "optional"), row, strict=True)) for row in model["inputs"]],
        "outputs": [{"name": name, "dims": dims} for name, _, dims in model["outputs"]],
        "files": {file.name: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file()},
        "layers": layers,
        "quantization_points": points,
    }


def _density(tensor: dict[str, Any]) -> float:
    """Stored blocks / all blocks."""
    from fastcpu.graph.limits import BLOCK_HEIGHT

    rows, columns = tensor["shape"]
    if tensor["encoding"] != "block" or rows * columns == 0:
        return 1.0
    density: float = tensor["blocks"] * BLOCK_HEIGHT / (rows * columns)
    return density


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _text(described: dict[str, Any]) -> str:
    from fastcpu.report.table import text_table

    written = f"format version {described['version']}, written by {described['producer'] or 'unknown'}"
    lines = [
        f"{described['directory']}: {described['name'] or 'unnamed'}, {written}",
        "",
        *[f"input   {i['name']} [batch, sequence]{', optional' if i['optional'] else ''}" for i in described["inputs"]],
        *[f"output  {item['name']} [{', '.join(item['dims'])}]" for item in described["outputs"]],
        "",
        *[f"file    {name}  {_size(size)}" for name, size in described["files"].items()],
        "",
    ]
    rows = []
    for row in described["layers"]:
        shape, density = "x".join(map(str, row["shape"])), f"{row['density']:.3f}"
        rows.append([row["name"], row["op"], shape, row["storage"], row["encoding"], density, _size(row["bytes"])])
    lines.append(text_table(("layer", "op", "shape", "storage", "encoding", "density", "size"), rows))
    points = described["quantization_points"]
    if not points:
        return "\n".join([*lines, "", "no quantization points: the model runs in f32"])
    rows = []
    for point in points:
        if point["dynamic"] is not None:
            rows.append([point["value"], point["producer"] or "", "per token", "128"])
        for first, scale, zero_point in point["groups"]:
            name = point["value"] if len(point["groups"]) == 1 else f"{point['value']}[{first}:]"
            rows.append([name, point["producer"] or "", f"{scale:.6g}", str(zero_point)])
    return "\n".join([*lines, "", text_table(("u8 value", "written by", "scale", "zero point"), rows)])
