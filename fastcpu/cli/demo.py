"""`fastcpu demo`: a sentence encoder compressed in minutes and measured beside ONNX Runtime."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastcpu.cli import status
from fastcpu.cli.paths import path_argument

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers

_DESCRIPTION = """
Compresses a small sentence encoder to int8, dense without training and by the recipe sparse80-quick, and measures
quality, latency and throughput beside ONNX Runtime on a retrieval task made from the docstrings of installed packages,
and quality on medical terms. Writes report.html and report.json. Takes about twelve minutes on two cores; needs
fastcpu[compress] and onnxruntime. Exit status: as of every command (`fastcpu --help`), and 3 if a
model keeps less quality than it should.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "demo", help="compress a small encoder and measure it, in minutes", description=_DESCRIPTION
    )
    parser.add_argument(
        "-o", "--out", type=path_argument, default=Path("fastcpu-demo"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        type=path_argument,
        metavar="DIR",
        help="another BERT-like sentence encoder, a Hugging Face directory (default: all-MiniLM-L6-v2)",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of every engine (default: all available CPUs)"
    )


def run(args: argparse.Namespace) -> int:
    from fastcpu import InputError, _core
    from fastcpu.demo import summary
    from fastcpu.demo.run import MODEL_NAME, Options, packaged_model, run_demo
    from fastcpu.demo.task import Sizes
    from fastcpu.files import json_text, write_text

    if args.threads is not None and args.threads < 1:
        raise InputError(f"--threads must be at least 1, not {args.threads}")
    if args.model is not None and not (args.model / "config.json").is_file():
        raise InputError(f"--model {str(args.model)!r} is not a model directory: it has no config.json")
    start = time.perf_counter()

    def log(message: str) -> None:
        print(f"[{time.perf_counter() - start:6.1f} s] {message}", flush=True)

    options = Options(
        out=args.out,
        model_dir=args.model or packaged_model(),
        model_name=MODEL_NAME if args.model is None else args.model.name,
        threads=args.threads or _core.available_cpus(),
        sizes=Sizes(),
        command=shlex.join(["fastcpu", *sys.argv[1:]]),
    )
    report = summary.to_json(run_demo(options, log))
    write_text(args.out / "report.json", json_text(report))
    write_text(args.out / "report.html", summary.html(report))
    print(f"\n{summary.terminal(report)}\n\nreport: {args.out / 'report.html'}")
    for line in report["broken"]:
        print(f"fastcpu: {line}", file=sys.stderr)
    return status.ACCURACY if report["broken"] else 0
