"""`fastcpu eval`: the metric of a task, for a compressed model, an ONNX file or a Hugging Face directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcpu.cli.paths import path_argument
from fastcpu.eval import TASKS

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers
    from fastcpu.eval.engine import Evaluation

_DESCRIPTION = """
Evaluates a model on a task. A compressed directory runs in fastcpu and needs no torch; an .onnx file (with its
tokenizer.json beside it) and a Hugging Face directory run in ONNX Runtime, as the reference. Intervals are 95 %
bootstrap intervals.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("eval", help="measure the quality of a model on a task", description=_DESCRIPTION)
    parser.add_argument(
        "model", type=path_argument, metavar="MODEL", help="compressed directory, .onnx file or Hugging Face directory"
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument(
        "--data", type=path_argument, metavar="D", help="data set (default: its folder in $FASTCPU_DATA)"
    )
    parser.add_argument("--split", default="test", help="part of the data set (default: %(default)s)")
    parser.add_argument(
        "--against", type=path_argument, metavar="OTHER", help="a second model; the difference is measured in pairs"
    )
    parser.add_argument(
        "--max-length", type=int, default=128, metavar="N", help="longest text in tokens (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all available CPUs)")
    parser.add_argument("--json", type=path_argument, metavar="F", help="write the result to a file")


def run(args: argparse.Namespace) -> int:
    from importlib import import_module

    from fastcpu import InputError, _core
    from fastcpu.eval.engine import open_engine
    from fastcpu.files import write_json

    for name in ("threads", "max_length"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    task = import_module(f"fastcpu.eval.{args.task}")
    data = task.load(args.data, args.split)
    threads = args.threads or _core.available_cpus()
    evaluations: list[tuple[Path, Evaluation]] = []
    for path in filter(None, (args.model, args.against)):
        evaluation = task.evaluate(open_engine(path, threads, args.max_length), data)
        evaluations.append((path, evaluation))
        print(f"{path}: {evaluation.examples} examples")
        for name, interval in evaluation.values.items():
            print(f"  {name} {interval.value:.4f} (95 % interval {interval.low:.4f} to {interval.high:.4f})")

    result: dict[str, Any] = {"task": args.task, "split": args.split, "max_length": args.max_length, "models": []}
    for path, evaluation in evaluations:
        metrics = {name: interval.to_json() for name, interval in evaluation.values.items()}
        result["models"].append({"model": str(path), "examples": evaluation.examples, "metrics": metrics})
    if args.against is not None:
        differences = task.compare(evaluations[0][1], evaluations[1][1])
        result["difference"] = {name: interval.to_json() for name, interval in differences.items()}
        print(f"difference to {args.against}")
        for name, interval in differences.items():
            print(f"  {name} {interval.value:+.4f} (95 % interval {interval.low:+.4f} to {interval.high:+.4f})")
    if args.json is not None:
        write_json(args.json, result)
    return 0
