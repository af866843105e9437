"""`fastcpu bench`: a quick comparison with other engines."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcpu.cli.paths import check_outside, for_people, path_argument

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers

_DESCRIPTION = """
Runs a model directory beside other engines on the ONNX files that `fastcpu export` writes of it, in turns, and prints
rates and ratios. An orientation: it neither tunes the peers nor watches for other load on the machine.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("bench", help="compare the speed with other engines", description=_DESCRIPTION)
    parser.add_argument("model", type=path_argument, metavar="OUT", help="model directory")
    parser.add_argument(
        "--against",
        default="onnxruntime,openvino",
        metavar="LIST",
        help="peers, comma-separated; an empty list times fastcpu alone (default: %(default)s)",
    )
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="sequences per run (default: %(default)s)")
    parser.add_argument(
        "--seq", type=int, metavar="N", help="tokens per sequence (default: 128, or as many as the model takes)"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: all available CPUs)")
    parser.add_argument(
        "--rounds", type=int, default=7, metavar="N", help="turns of each engine (default: %(default)s)"
    )
    parser.add_argument("--json", type=path_argument, metavar="F", help="write the results to a file")


def run(args: argparse.Namespace) -> int:
    from fastcpu import InputError, _core, peers
    from fastcpu.doctor import random_feeds
    from fastcpu.files import write_json
    from fastcpu.report.machine import machine, versions

    for name in ("batch", "rounds"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} must be at least 1, not {getattr(args, name)}")
    if args.threads < 0:
        raise InputError(f"--threads must not be negative, but is {args.threads}")
    check_outside("--json", args.json, [args.model])
    names = [name.strip() for name in args.against.split(",") if name.strip()]
    absent = peers.missing(names)
    if absent and len(absent) == len(names):
        raise InputError(
            f"none of the engines to compare with is installed: {', '.join(absent)} (pip install {' '.join(absent)})"
        )
    for name in absent:
        print(f"fastcpu: {name} is not installed (pip install {name}); going on without it", file=sys.stderr)
    names = [name for name in names if name not in absent]
    threads = args.threads or _core.available_cpus()
    feeds = random_feeds(_core.read_model(str(args.model)), args.batch, args.seq)
    with tempfile.TemporaryDirectory() as folder:
        files = peers.write_files(args.model, Path(folder)) if names else {}
        rows = peers.compare(args.model, files, names, feeds, threads, args.rounds)
    result: dict[str, Any] = {
        "model": str(args.model),
        "batch": args.batch,
        "sequence": next(iter(feeds.values())).shape[1],
        "threads": threads,
        "machine": machine(),
        "versions": versions(("fastcpu", "onnxruntime", "openvino")),
        "not_installed": absent,
        "engines": rows,
    }
    print(_text(result), file=for_people(args.json))
    if args.json is not None:
        write_json(args.json, result)
    return 0


def _text(result: dict[str, Any]) -> str:
    from fastcpu.report.table import text_table

    rows, problems = [], []
    for row in result["engines"]:
        if row["problem"]:
            rows.append([row["engine"], "", "", "", ""])
            problems.append(f"{row['engine']}: {row['problem']}")
            continue
        rows.append(
            [
                row["engine"],
                f"{row['milliseconds']:.2f}",
                f"{row['sequences_per_second']:.1f}",
                f"{row['fastcpu_is_faster_by']:.2f}x",
                f"{row['cosine_to_fastcpu']:.4f}",
            ]
        )
    header = ("engine", "ms", "sequences/s", "fastcpu is faster by", "cosine of answers")
    where = f"{result['machine']['CPU']}, {result['threads']} threads"
    shape = f"batch {result['batch']}, {result['sequence']} tokens"
    note = "An orientation; `python -m bench` in the repository is the measurement that fastcpu is held to."
    return "\n".join([f"{where}, {shape}", text_table(header, rows), *problems, note])
