"""`fastcpu compress`: prune, distill, quantize and export, as a recipe says."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from fastcpu.cli import status
from fastcpu.cli.paths import check_json, for_people, path_argument
from fastcpu.eval import TASKS

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers
    from fastcpu.compression.target import Target
    from fastcpu.distill.trainer import Progress

_RECIPE, _SEARCHED_RECIPE = "int8-dynamic", "sparse80-int8"

_DESCRIPTION = """
Compresses a model as a recipe says (`fastcpu recipes` lists them) and writes a directory that fastcpu runs. What was
done so far lies in OUT.work until the model is complete; the same command goes on from there after an interruption.
With --target-speedup or --target-latency, layers and sparsity are searched for: the most accurate model that is fast
enough is written. With --max-drop and --data, but neither recipe nor target, it is the fastest that has not lost more.
Exit status: as of every command (`fastcpu --help`), and 3 if the model has lost more accuracy than --max-drop allows;
nothing is written then.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "compress", help="prune, distill and quantize a model as a recipe says", description=_DESCRIPTION
    )
    parser.add_argument(
        "model", type=path_argument, metavar="MODEL", help="Hugging Face or sentence-transformers directory"
    )
    parser.add_argument("-o", "--out", type=path_argument, required=True, metavar="OUT", help="directory to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that OUT holds")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier start stopped, as is always done")
    parser.add_argument(
        "--recipe", metavar="R", help="name or file (default: int8-dynamic; of a search: sparse80-int8)"
    )
    parser.add_argument(
        "--data", type=path_argument, nargs="+", default=[], metavar="D", help="texts to train and calibrate with"
    )
    parser.add_argument(
        "--columns",
        default="",
        metavar="C,...",
        help="columns of tables and objects that are texts, or what a row is: "
        "sentence1=C,label=C to learn labels as well, sentence1=C,sentence2=C or question=C,context=C for pairs",
    )
    parser.add_argument(
        "--exclude",
        type=path_argument,
        nargs="+",
        default=[],
        metavar="D",
        help="evaluation sentences to keep out of the data",
    )
    parser.add_argument("--task", choices=TASKS, help="measure the model on this task before it is written")
    parser.add_argument(
        "--eval-data", type=path_argument, metavar="D", help="its data (default: a folder in $FASTCPU_DATA)"
    )
    parser.add_argument(
        "--eval-columns", default="", metavar="MAP", help="its columns, as --columns of `fastcpu eval`: label=c,..."
    )
    parser.add_argument("--split", default="dev", help="part of it to choose by (default: %(default)s)")
    parser.add_argument(
        "--metric", default="", metavar="M", help="what the drop is measured by (default: the first metric of the task)"
    )
    parser.add_argument(
        "--max-drop", metavar="X", help="what may be lost: points of the metric x 100 (0.5), or a share (1%%)"
    )
    parser.add_argument(
        "--plan",
        choices=("auto", "uniform"),
        default="auto",
        help="where more than --max-drop is lost, leave layers in f32, one by one (auto), or write nothing (uniform)",
    )
    parser.add_argument(
        "--target-speedup", type=float, metavar="X", help="search: X times as fast as this model in dense int8"
    )
    parser.add_argument("--target-latency", type=float, metavar="MS", help="search: at most MS milliseconds per run")
    parser.add_argument("--batch", type=int, metavar="N", help="sequences per run that a search times (default: 8)")
    parser.add_argument("--seq", type=int, metavar="N", help="tokens per sequence of it (default: 128)")
    parser.add_argument(
        "--teacher",
        type=path_argument,
        action="append",
        metavar="MODEL",
        help="model to learn from (default: MODEL); the logits of several are averaged",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="training steps")
    parser.add_argument("--budget", type=float, metavar="MIN", help="minutes of training, turned into steps once")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="(default: %(default)s)")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="layers to prune and quantize")
    parser.add_argument("--ignore", action="append", default=[], metavar="GLOB", help="layers to leave alone")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="(default: all available CPUs)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default: %(default)s)"
    )
    parser.add_argument("--no-timing", action="store_true", help="do not measure latency for the report")
    parser.add_argument(
        "--peers", default="", metavar="LIST", help="other engines to measure for the report: onnxruntime,openvino"
    )
    parser.add_argument("--json", type=path_argument, metavar="F", help="write the report to a file, too")
    parser.add_argument(
        "--keep-student", type=path_argument, metavar="DIR", help="keep the trained model before quantization here, too"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and how long it will take, about; write nothing"
    )


def run(args: argparse.Namespace) -> int:
    import json
    import shlex

    from fastcpu.compression.gate import Gate
    from fastcpu.compression.run import compress, is_complete, make_plan
    from fastcpu.compression.search import table
    from fastcpu.compression.work import work_path
    from fastcpu.errors import AccuracyError, InputError, OutputError
    from fastcpu.export.directory import is_free
    from fastcpu.files import write_json

    if args.task is None and (args.eval_data or args.eval_columns or args.max_drop or args.metric):
        raise InputError("--eval-data, --eval-columns, --metric and --max-drop need a --task")
    if args.plan == "uniform" and args.max_drop is None:
        raise InputError("--plan uniform says what to do where more than --max-drop is lost, which is not given")
    target = _target(args)
    if args.plan == "uniform" and target is not None:
        raise InputError("--plan uniform is not for a search, which chooses layers by itself")
    if args.json is not None:
        _check_json(args)
    out = for_people(args.json)

    options = {
        "recipe": args.recipe or (_RECIPE if target is None else _SEARCHED_RECIPE),
        "data": args.data,
        "columns": tuple(filter(None, args.columns.split(","))),
        "exclude": args.exclude,
        "teacher": args.teacher,
        "steps": args.steps,
        "budget": args.budget,
        "seed": args.seed,
        "only": args.only,
        "ignore": args.ignore,
        "threads": args.threads,
        "device": args.device,
        "gate": None
        if args.task is None
        else Gate(
            args.task,
            args.eval_data and str(args.eval_data),
            args.split,
            args.max_drop,
            args.eval_columns,
            args.plan == "auto",
            args.metric,
        ),
        "target": target,
    }
    peers = [name.strip() for name in args.peers.split(",") if name.strip()]
    if args.dry_run:
        from fastcpu.compression.estimate import estimate

        plan = make_plan(args.model, **options)
        print(json.dumps(plan.to_json() | {"estimate": estimate(plan)}, indent=1))
        return 0
    if not args.overwrite and not is_free(args.out):
        kept = args.keep_student is None or args.keep_student.is_dir()
        if kept and is_complete(args.out, make_plan(args.model, **options), peers):
            print(f"{args.out}: complete already", file=out)
            if args.json is not None:
                write_json(args.json, json.loads((args.out / "report.json").read_text(encoding="utf-8")))
            return 0
        raise OutputError(f"{args.out}: exists already; --overwrite replaces a model")
    try:
        command = shlex.join(["fastcpu", *sys.argv[1:]])
        compiled = compress(
            args.model,
            args.out,
            report=Printer(),
            command=command,
            timing=not args.no_timing,
            peers=peers,
            keep_student=args.keep_student,
            **options,
        )
    except KeyboardInterrupt:
        if work_path(args.out).is_dir():
            print(f"\nfastcpu: stopped; the same command goes on from {work_path(args.out)}", file=sys.stderr)
        raise
    except AccuracyError as error:
        print(f"fastcpu: {error}", file=sys.stderr)
        return status.ACCURACY
    found = compiled.report["compression"].get("search")
    if found is not None:
        print(f"{table(found['candidates'])}\nscore: {found['score']}", file=out)
    accuracy = compiled.report["compression"].get("accuracy")
    if accuracy is not None:
        for name, value in accuracy["model"].items():
            print(
                f"{name} {value['value']:.4f}, teacher {accuracy['teacher'][name]['value']:.4f} ({accuracy['split']})",
                file=out,
            )
    alone = compiled.report["compression"]["left_alone"]
    if alone:
        print(f"left in f32, since too much was lost with them: {', '.join(alone)}", file=out)
    print(f"wrote {compiled.directory}", file=out)
    if args.json is not None:
        write_json(args.json, compiled.report)
    return 0


def _check_json(args: argparse.Namespace) -> None:
    """What can be said at once, and not when the model is complete: whether the report can go where --json says."""
    from fastcpu.errors import InputError

    if args.dry_run:
        raise InputError("--json is for the report of a compression, and --dry-run makes none")
    if args.json.resolve().is_relative_to(args.out.resolve()):
        raise InputError(f"--json {args.json}: that is within the model, which has its own report.json")
    check_json(args.json)


def _target(args: argparse.Namespace) -> Target | None:
    """What is searched for: a target, or the highest speed where there is a drop, texts to train with and no recipe."""
    from fastcpu.compression.target import Target
    from fastcpu.errors import InputError

    speed = args.target_speedup is not None or args.target_latency is not None
    if not speed and not (args.max_drop and args.data and args.recipe is None):
        if args.batch is not None or args.seq is not None:
            raise InputError("--batch and --seq are for a search: give it --target-speedup or --target-latency")
        return None
    batch = Target.batch if args.batch is None else args.batch
    return Target(args.target_speedup, args.target_latency, batch, args.seq)


class Printer:
    """A line per stage, and a progress bar with the time that is left while a terminal looks on."""

    _EVERY = 0.5

    def __init__(self) -> None:
        self._stage, self._last, self._first = "", 0.0, 0
        self._bar = sys.stderr.isatty()

    def __call__(self, stage: str, progress: Progress | None) -> None:
        if stage != self._stage:
            print(f"{stage} ...", file=sys.stderr, flush=True)
            self._stage = stage
            self._first = -1
        if progress is None:
            return
        if self._first < 0:
            self._first = progress.step - 1
        now = time.monotonic()
        if progress.step < progress.steps and now - self._last < (self._EVERY if self._bar else 60.0):
            return
        self._last = now
        left = progress.seconds / (progress.step - self._first) * (progress.steps - progress.step)
        losses = ", ".join(f"{name} {value:.4f}" for name, value in progress.losses.items())
        line = (
            f"step {progress.step} of {progress.steps}, {left / 60:.1f} min left, "
            f"{progress.sparsity:.0%} pruned, {losses}"
        )
        end = "\n" if not self._bar or progress.step == progress.steps else ""
        print(("\r\x1b[K" if self._bar else "") + line, end=end, file=sys.stderr, flush=True)
