"""`fastcpu export`: a model directory becomes a file for other engines."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fastcpu.cli.choices import Choices
from fastcpu.cli.paths import path_argument

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers

_DESCRIPTION = """
Writes a model directory as ONNX opset 17, with the same inputs and outputs. fp32: dequantized weights. qdq: the
directory's own static quantization as QuantizeLinear and DequantizeLinear. matmulinteger: the form in which DeepSparse
runs int8. Needs onnx.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("export", help="write a model directory as ONNX", description=_DESCRIPTION)
    parser.add_argument("model", type=path_argument, metavar="OUT", help="model directory")
    parser.add_argument("--to", choices=("onnx",), default="onnx", help="kind of file (default: %(default)s)")
    parser.add_argument(
        "--format",
        choices=Choices("fastcpu.export.forms", "FORMS"),
        default="fp32",
        metavar="FORM",
        help="%(choices)s (default: %(default)s)",
    )
    parser.add_argument("-o", "--out", type=path_argument, required=True, metavar="FILE", help="file to write, *.onnx")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def run(args: argparse.Namespace) -> int:
    from fastcpu import OutputError
    from fastcpu.export.onnx import check_target, export_onnx

    check_target(args.out, args.model)
    if args.out.exists() and not args.overwrite:
        raise OutputError(f"{args.out}: exists already; --overwrite replaces it")
    export_onnx(args.model, args.out, args.format)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, ONNX opset 17, {args.format}")
    return 0
