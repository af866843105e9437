"""`fastcpu compile`: a model becomes a directory that the runtime executes, without training."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcpu.cli.choices import Choices
from fastcpu.cli.paths import check_outside, for_people, path_argument

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers

_DESCRIPTION = """
Compiles a local Hugging Face or sentence-transformers directory, or an .onnx file, without training: imports it,
prunes and quantizes it if asked to, and writes a model directory. Zeros that the weights hold already are kept.
Needs fastcpu[compress].
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("compile", help="turn a model into a model directory", description=_DESCRIPTION)
    parser.add_argument("model", type=path_argument, metavar="MODEL", help="Hugging Face directory or .onnx file")
    parser.add_argument("-o", "--out", type=path_argument, required=True, metavar="OUT", help="directory to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that OUT holds")
    parser.add_argument(
        "--quantize",
        choices=Choices("fastcpu.pipeline", "QUANTIZE"),
        default="none",
        metavar="SCHEME",
        help="%(choices)s: int8 with a scale per token is dynamic, with scales from calibration data static "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--calibration", type=path_argument, metavar="D", help="text file for --quantize static, one text per line"
    )
    parser.add_argument(
        "--observer",
        choices=Choices("fastcpu.quantize", "OBSERVERS"),
        metavar="NAME",
        help="%(choices)s: how static scales are chosen (default: mse)",
    )
    parser.add_argument(
        "--smooth",
        type=_alpha,
        metavar="ALPHA",
        help="smooth what --quantize static makes of LayerNorm outputs (SmoothQuant): 0 to 1, or auto, which tries "
        "several (default: off)",
    )
    parser.add_argument(
        "--sparsity", type=float, metavar="S", help="share of the weight blocks of each encoder linear to zero, 0 to 1"
    )
    parser.add_argument(
        "--pattern",
        choices=Choices("fastcpu.prune", "PATTERNS"),
        metavar="NAME",
        help="%(choices)s: block of --sparsity (default: 4x1)",
    )
    parser.add_argument(
        "--only", action="extend", nargs="+", default=[], metavar="GLOB", help="prune and quantize these linears"
    )
    parser.add_argument(
        "--ignore", action="extend", nargs="+", default=[], metavar="GLOB", help="leave these linears alone"
    )
    parser.add_argument("--max-length", type=int, metavar="N", help="cut calibration texts to N tokens (default: 128)")
    parser.add_argument(
        "--per-token",
        action="store_true",
        help="each token gets its own scale where an .onnx file quantizes whole batches with DynamicQuantizeLinear",
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: all available CPUs)")
    parser.add_argument("--json", type=path_argument, metavar="F", help="write what was done to a file")


def _alpha(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number or auto, not {text!r}") from None


def run(args: argparse.Namespace) -> int:
    import fastcpu
    from fastcpu.export.directory import is_free
    from fastcpu.files import write_json

    if args.max_length is not None and args.max_length < 1:
        raise fastcpu.InputError(f"--max-length must be at least 1, not {args.max_length}")
    if args.threads < 0:
        raise fastcpu.InputError(f"--threads must not be negative, but is {args.threads}")
    if not args.overwrite and not is_free(args.out):
        raise fastcpu.OutputError(f"{args.out}: exists already; --overwrite replaces a model")
    check_outside("--json", args.json, [args.model, args.out])
    compiled = fastcpu.compile(
        args.model,
        args.out,
        quantize=args.quantize,
        calibration=args.calibration,
        observer=args.observer,
        smooth=args.smooth,
        sparsity=args.sparsity,
        pattern=args.pattern,
        only=args.only,
        ignore=args.ignore,
        max_length=args.max_length,
        per_token=args.per_token,
        threads=args.threads,
    )
    files = {path.name: path.stat().st_size for path in sorted(args.out.iterdir()) if path.is_file()}
    print(_summary(args.out, compiled.report, files), file=for_people(args.json))
    if args.json is not None:
        write_json(args.json, {"directory": str(args.out), "files": files} | compiled.report)
    return 0


def _summary(out: Path, report: dict[str, Any], files: dict[str, int]) -> str:
    layers = report["layers"]
    kinds = Counter((row["storage"], row["encoding"]) for row in layers)
    names = {("f32", "dense"): "f32", ("s8", "dense"): "dense int8", ("s8", "block"): "4x1 block-sparse int8"}
    lines = [
        f"{out}: {files['weights.safetensors'] / 1e6:.1f} MB of weights, written in {report['seconds']:.1f} s",
        f"  {len(layers)} linears: " + ", ".join(f"{count} {names[kind]}" for kind, count in sorted(kinds.items())),
    ]
    pruned = [row["zero_blocks"] for row in layers if row["pruned"] and row["zero_blocks"] is not None]
    if pruned:
        lines.append(f"  {len(pruned)} pruned: {100 * sum(pruned) / len(pruned):.1f} % of their 4x1 blocks are zero")
    options = report["options"]
    if options["calibration_sequences"] is not None:
        lines.append(f"  scales from {options['calibration_sequences']} sequences, observer {options['observer']}")
    if "smooth" in report:
        alpha = report["smooth"]["alpha"]
        lines.append("  not smoothed: nearest to f32 without" if alpha is None else f"  smoothed with alpha {alpha:g}")
    lines += [f"  {name} stays f32: {reason}" for name, reason in report["kept_f32"].items()]
    if count := len(report["not_fused"]):
        lines.append(f"  not fused: {count} place{'s' if count > 1 else ''}; `fastcpu doctor {out}` says why")
    return "\n".join(lines)
