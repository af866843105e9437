"""Compares engines end to end on benchmark models, as the measurement contract asks.

One process per engine, pinned to the same CPUs, one running at a time, round-robin, answers compared before timing.
The defaults are the contract's; --quick is for development and says so in its output.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import report
from bench.client import ROOT, EngineFailure
from bench.e2e import ENGINES, find_engine
from bench.e2e.fastcpu import FastCpu
from bench.environments import python_path
from bench.inputs import SHAPES, Shape
from bench.machine import describe_machine, git_state, now, package_versions
from bench.measure import (
    CONTRACT_ROUNDS,
    CONTRACT_SECONDS,
    CONTRACT_THREADS,
    Settings,
    engine_cache,
    measure_case,
    prepare_engine,
    settings_json,
)
from bench.models import DEFAULT_CACHE, MODELS, PreparedModel, find_spec, load_prepared

log = logging.getLogger("bench")

MODEL_PACKAGES = ("numpy", "torch", "transformers", "onnx")
QUICK: dict[str, Any] = {"rounds": 3, "seconds": 0.5, "warmup": 0.5, "trial": 0.3}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--model", default="distilbert-qa", help=f"comma-separated, of {', '.join(m.name for m in MODELS)}")
    add("--sparsity", default="0", help="comma-separated shares of zero 4x1 blocks per encoder linear (0 = dense)")
    add("--shapes", default="", help=f"comma-separated, such as {SHAPES[2]} (default: the model's in the contract)")
    add(
        "--engines",
        default="",
        help=f"comma-separated, of {', '.join(e.name for e in ENGINES)} (default: all that are installed)",
    )
    add("--subject", default="", help="engine whose ratio to the others is shown (default: the first one)")
    add("--option", action="append", default=[], metavar="ENGINE.KEY=VALUE", help="such as fastcpu.model=DIR")
    add("--rebuild", default=FastCpu.name, help="engines whose derived files are made anew (default: %(default)s)")
    add("--threads", type=int, default=CONTRACT_THREADS)
    add("--cpus", default="", help="comma-separated CPUs to pin to (default: as many allowed ones as threads)")
    add("--rounds", type=int, default=CONTRACT_ROUNDS)
    add("--seconds", type=float, default=CONTRACT_SECONDS, help="least seconds of one engine in one round")
    add("--max-foreign", type=float, default=Settings.max_foreign, help="share of the CPUs others may take, 0..1")
    add(
        "--patience", type=float, help=f"seconds per case for waiting for quiet ({Settings.patience:g}; with --quick 0)"
    )
    add("--time-void", action="store_true", help="also time engines whose answers are not close enough")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="3 rounds of 0.5 s: not contract-conform")
    add("--cache", type=Path, default=DEFAULT_CACHE, help="directory for models (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write everything measured there")
    add("--append", action="store_true", help="keep the other cases that FILE has")
    add("--note", default="", help="text for FILE, such as what else the machine was doing")
    return parser


def parse_options(texts: list[str]) -> dict[str, dict[str, str]]:
    """{engine: {key: value}} of ENGINE.KEY=VALUE texts; ValueError for another form."""
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        engine, dot, key = target.rpartition(".")
        if not (equals and dot and engine and key):
            raise ValueError(f"--option {text!r} is not of the form ENGINE.KEY=VALUE")
        options.setdefault(engine, {})[key] = value
    return options


def default_engines() -> list[str]:
    """All engines but those whose environment was not made."""
    return [engine.name for engine in ENGINES if not engine.environment or python_path(engine.environment).exists()]


def engines_of(model: str, names: Sequence[str]) -> list[str]:
    """Those of the engines `names` that run the benchmark model `model`."""
    return [name for name in names if not find_engine(name).models or model in find_engine(name).models]


def pick_cpus(text: str, threads: int) -> tuple[int, ...]:
    """The CPUs in `text`, or the first `threads` that this process may use; ValueError if there are too few."""
    allowed = sorted(os.sched_getaffinity(0))
    cpus = tuple(int(cpu) for cpu in text.split(",")) if text else tuple(allowed[:threads])
    if len(cpus) < threads or not set(cpus) <= set(allowed):
        raise ValueError(f"{threads} threads need that many of the CPUs {allowed}, not {list(cpus)}")
    return cpus


def _prepared_model(name: str, sparsity: float, cache: Path) -> PreparedModel:
    """Builds or finds the model in a process that ends with it: torch's threads are gone before anything is timed."""
    command = [
        sys.executable,
        "-m",
        "bench.models",
        name,
        "--sparsity",
        repr(sparsity),
        "--cache",
        str(cache.resolve()),
    ]
    made = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if made.returncode != 0:
        raise ValueError(f"the model {name} could not be made")  # that process has said why
    return load_prepared(Path(made.stdout.strip().splitlines()[-1]))


def run(args: argparse.Namespace) -> int:
    """Measures every case that `args` names; the exit status is 1 if an engine was void in one of them."""
    wanted = args.engines.split(",") if args.engines else default_engines()
    names = [find_engine(name).name if ":" not in name else name for name in wanted]
    subject = args.subject or names[0]
    options = parse_options(args.option)
    settings = Settings(
        threads=args.threads,
        cpus=pick_cpus(args.cpus, args.threads),
        rounds=args.rounds,
        seconds=args.seconds,
        max_foreign=args.max_foreign,
        patience=args.patience if args.patience is not None else 0.0 if args.quick else Settings.patience,
        time_void=args.time_void,
        seed=args.seed,
    )
    if args.quick:
        settings = replace(settings, **QUICK)
    machine = describe_machine()
    packages = {package for name in names for package in find_engine(name).packages}
    document: dict[str, Any] = {
        "schema": report.SCHEMA,
        "quick": args.quick,
        "date": now(),
        "note": args.note,
        "machine": machine,
        "versions": package_versions([*packages, *MODEL_PACKAGES]),
        "git": git_state(ROOT),
        "threads": args.threads,
        "settings": settings_json(settings),
        "results": [],
    }
    known = report.known_peers(machine, args.threads, sorted(report.RESULTS.glob("peers-*.json")))
    void = False
    for model_name in args.model.split(","):
        for sparsity in (float(text) for text in args.sparsity.split(",")):
            model = _prepared_model(model_name, sparsity, args.cache)
            engines = names if args.engines else engines_of(model_name, names)
            failed = _prepare_engines(engines, model, args, settings, options)
            shapes = args.shapes.split(",") if args.shapes else find_spec(model_name).shapes
            for shape in map(Shape.parse, shapes):
                log.info("%s %s", model.label, shape)
                result = measure_case(model, shape, engines, args.cache, settings, options, failed)
                result["departures"] += report.peers_below(result, known, subject)
                result["contract_conform"] = not result["departures"]
                void |= any(entry["void"] for entry in result["engines"].values())
                document["results"].append(result)
                print(report.format_case(result, args.threads, subject, quick=args.quick), flush=True)
                if args.json:
                    report.write_json(args.json, report.merge_results(args.json, document) if args.append else document)
    return int(void)


def _prepare_engines(
    names: list[str],
    model: PreparedModel,
    args: argparse.Namespace,
    settings: Settings,
    options: dict[str, dict[str, str]],
) -> dict[str, str]:
    """Lets every engine make its files; {engine: problem} of those that cannot."""
    failed = {}
    for name in names:
        if name in args.rebuild.split(","):
            shutil.rmtree(engine_cache(args.cache, name, model), ignore_errors=True)
        log.info("%s: preparing %s", model.label, name)
        try:
            prepare_engine(name, model, args.cache, settings, options.get(name, {}))
        except EngineFailure as failure:
            failed[name] = str(failure)
    return failed


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = _parser()
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return run(args)
    except (ValueError, EngineFailure) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
