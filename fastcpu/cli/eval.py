"""`fastcpu eval`: the metric of a task, for a compressed model, an ONNX file or a Hugging Face directory."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcpu.cli.paths import check_json, for_people, path_argument
from fastcpu.eval import TASKS

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers
    from fastcpu.eval.engine import Evaluation
    from fastcpu.eval.task import EvalTask

_DESCRIPTION = """
Evaluates a model on a task. A compressed directory runs in fastcpu and needs no torch; an .onnx file (with its
tokenizer.json beside it) runs in ONNX Runtime and a Hugging Face directory in torch, as references. All are given the
same tokens and measured alike. Intervals are 95 % bootstrap intervals. An evaluation on data that is named test is
logged beside the model, in MODEL.evaluations.jsonl.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("eval", help="measure the quality of a model on a task", description=_DESCRIPTION)
    parser.add_argument(
        "model", type=path_argument, metavar="MODEL", help="compressed directory, .onnx file or Hugging Face directory"
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument(
        "--data",
        type=path_argument,
        metavar="D",
        help="file, or folder with files of several splits (default for sts and retrieval: in $FASTCPU_DATA)",
    )
    parser.add_argument("--split", default="test", help="part of a folder (default: %(default)s)")
    parser.add_argument(
        "--columns",
        default="",
        metavar="MAP",
        help="what the task reads from which column: sentence1=a,sentence2=b,label=c; numbers, from 1, for tables "
        "without a header",
    )
    parser.add_argument(
        "--against", type=path_argument, metavar="OTHER", help="a second model; the difference is measured in pairs"
    )
    parser.add_argument(
        "--max-length", type=int, metavar="N", help="longest sequence in tokens (default: 128, for qa windows of 384)"
    )
    parser.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="qa, tag: tokens that windows share (default: a third of the length, 128 of 384)",
    )
    parser.add_argument("--max-answer", type=int, metavar="N", help="qa: longest answer in tokens (default: 30)")
    parser.add_argument("--no-answer", action="store_true", default=None, help="qa: a passage may have no answer")
    parser.add_argument(
        "--labels", metavar="A,B,...", help="classify, tag: names of the model's labels (default: in its config.json)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all available CPUs)")
    parser.add_argument("--final", action="store_true", help="log the evaluation whatever the data is named")
    parser.add_argument(
        "--log",
        type=path_argument,
        metavar="F",
        help="where to log (default: MODEL.evaluations.jsonl beside each model)",
    )
    parser.add_argument("--json", type=path_argument, metavar="F", help="write the result to a file")


def run(args: argparse.Namespace) -> int:
    from fastcpu import InputError, _core
    from fastcpu.eval.data import parse_columns
    from fastcpu.eval.log import EvaluationLog, is_test, log_entry, log_file
    from fastcpu.eval.task import find_task, open_model
    from fastcpu.files import write_json

    for name in ("threads", "max_length"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    task = find_task(args.task)
    options = _options(args, task)
    columns = parse_columns(args.columns)
    files = task.files(args.data, args.split)
    data = task.load(args.data, args.split, columns)
    final = args.final or is_test(files)
    if args.log is not None and not final:
        raise InputError("--log is for evaluations on data that is named test, or with --final")
    models = [path for path in (args.model, args.against) if path is not None]
    for path in models:
        if not path.exists():
            raise InputError(f"model {str(path)!r} does not exist")
    check_json(args.json)
    _check_outputs({"--log": args.log, "--json": args.json}, models, files)
    logs = [EvaluationLog(args.log or log_file(path)) for path in models] if final else []
    threads = args.threads or _core.available_cpus()
    evaluated: list[dict[str, Any]] = []
    evaluations: list[Evaluation] = []
    for path in models:
        model = open_model(task, path, threads, args.max_length, **options)
        evaluations.append(task.evaluate(model, data))
        evaluated.append(_entry(path, model.tokenizer.max_length, evaluations[-1]))
    result: dict[str, Any] = {
        "task": args.task,
        "data": [str(file) for file in files],
        "split": args.split,
        "final": final,
        "max_length": args.max_length or task.MAX_LENGTH,
        "options": options,
        "models": evaluated,
    }
    for log, path, evaluation, entry in zip(logs, models, evaluations, evaluated, strict=final):
        length = entry["max_length"]
        log.append(log_entry(args.task, files, args.split, path, evaluation, max_length=length, options=options))
    out = for_people(args.json)
    for path, entry in zip(models, evaluated, strict=True):
        print(f"{path}: {entry['examples']} examples", file=out)
        for name, value in entry["metrics"].items():
            print(f"  {name} {value['value']:.4f} (95 % interval {value['low']:.4f} to {value['high']:.4f})", file=out)
    if args.against is not None:
        differences = task.compare(evaluations[0], evaluations[1])
        if not differences:
            raise InputError(
                f"{args.model} and {args.against} have no metric in common: "
                f"{', '.join(evaluations[0].values)} and {', '.join(evaluations[1].values)}"
            )
        result["difference"] = {name: interval.to_json() for name, interval in differences.items()}
        print(f"difference to {args.against}", file=out)
        for name, interval in differences.items():
            print(
                f"  {name} {interval.value:+.4f} (95 % interval {interval.low:+.4f} to {interval.high:+.4f})", file=out
            )
    for file in dict.fromkeys(log.path for log in logs):
        print(f"logged in {file}", file=out)
    if args.json is not None:
        write_json(args.json, result)
    return 0


def _check_outputs(outputs: dict[str, Path | None], models: Sequence[Path], files: Sequence[Path]) -> None:
    """InputError for an output that would damage the data or a model."""
    from fastcpu import InputError

    data, folders = {file.resolve() for file in files}, [path.resolve() for path in models]
    for option, path in outputs.items():
        place = None if path is None else path.resolve()
        if place in data:
            raise InputError(f"{option} {path}: that is the data of this evaluation")
        if place is not None and any(place.is_relative_to(folder) for folder in folders):
            raise InputError(f"{option} {path}: that is a model of this evaluation, or within it")


def _options(args: argparse.Namespace, task: EvalTask) -> dict[str, Any]:
    """What was given of the options that only some tasks have; InputError for one that this task has not."""
    from fastcpu import InputError

    given = {name: getattr(args, name) for name in ("stride", "max_answer", "no_answer", "labels")}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in task.OPTIONS:
            raise InputError(f"--{name.replace('_', '-')} is not used by the task {args.task}")
    if "labels" in given:
        given["labels"] = given["labels"].split(",")
    return given


def _entry(path: Path, max_length: int, evaluation: Evaluation) -> dict[str, Any]:
    metrics = {name: interval.to_json() for name, interval in evaluation.values.items()}
    return {"model": str(path), "examples": evaluation.examples, "max_length": max_length, "metrics": metrics}
