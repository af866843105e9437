"""The front on STS-B: accuracy on its test set against measured latency, of our models and of the dense engines.

    FASTCPU_DATA=DATA python -m bench.accuracy.front [--seed 0] [--shapes b1s32,b1s128] [--quick]

Ours are the models that `bench.accuracy` has made (accuracy: the mean over the seeds in bench/results/accuracy); peers
are ONNX Runtime in fp32, the teacher, and in int8, and OpenVINO in int8, each as in `bench.e2e`. Every model is timed
against ONNX Runtime int8 in one run (`bench.measure`), so that latencies, the peer's over the ratio, are comparable.
Answers of students differ by design, so theirs are not compared: accuracy is. Writes bench/results/front.json and
front.svg and prints the table.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy import runs
from bench.accuracy.stsb import RECIPES
from bench.compare import QUICK, pick_cpus
from bench.dropins.peer import PeerSession
from bench.e2e import find_engine
from bench.inputs import Shape
from bench.machine import describe_machine, git_state, now, package_versions
from bench.measure import Settings, measure_case, prepare_engine, settings_json
from bench.models import DEFAULT_CACHE, PreparedModel, prepare_model
from bench.report import write_json
from fastcpu.report import svg
from fastcpu.report.table import text_table

MODEL = "minilm"
OURS = "fastcpu"
PEER = "onnxruntime_int8"
TEACHER = "onnxruntime_fp32"
PEERS = (TEACHER, PEER, "openvino_int8")
RESULT = runs.ROOT / "bench" / "results" / "front.json"
PLOT = RESULT.with_suffix(".svg")
_LONGEST = Shape(1, 128)
_TITLE = "STS-B test, Spearman x 100, against milliseconds"


@dataclass(frozen=True)
class Entry:
    """A model on the front: Spearman's correlation times 100, and milliseconds and ratio to the peer by shape."""

    name: str
    accuracy: float
    seeds: int
    milliseconds: dict[str, float]
    ratios: dict[str, dict[str, float]]


def accuracies(name: str) -> list[float]:
    """Of all recorded seeds of a recipe."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.RESULTS.glob(f"{name}-seed?.json"))]
    return [100 * each["metrics"]["test"]["value"] for each in found]


def peer_accuracy(engine: str, model: PreparedModel, wrapped: Path, cache: Path, data: Path, threads: int) -> float:
    """Of an engine of `bench.e2e`, its best variant at one padded sequence.

    It runs in the wrapper of sentence-transformers that is made for ``wrapped``, one of our models.
    """
    from fastcpu.eval import sts
    from fastcpu.eval.log import EvaluationLog
    from fastcpu.eval.metrics import spearman as correlation
    from fastcpu.integrations.sentence_transformers import SentenceTransformer

    contestant = find_engine(engine)({})
    contestant.prepare(model, cache / "engines" / model.label / engine)
    contestant.load(threads)
    pairs, log = sts.load(data / "stsb", "test"), EvaluationLog(runs.MODELS / "evaluations.jsonl")
    best = -1.0
    for variant in contestant.variants(_LONGEST):
        contestant.use(variant, _LONGEST)
        encoder = SentenceTransformer(wrapped, threads=1)
        session = PeerSession(contestant, model, wrapped, 384, True, True, _LONGEST.sequence)
        encoder.session = session
        first, second = (np.asarray(encoder.encode(texts, batch_size=1)) for texts in (pairs.first, pairs.second))
        found = correlation((first * second).sum(axis=1), np.asarray(pairs.gold))
        log.append(
            {
                "time": now(),
                "model": f"{engine} {variant}",
                "task": "sts",
                "split": "test",
                "metrics": {"spearman": found},
            }
        )
        best = max(best, 100 * found)
    return best


def time_models(
    models: dict[str, Path], prepared: PreparedModel, shapes: list[Shape], cache: Path, settings: Settings
) -> dict[str, dict[str, Any]]:
    """Results of `measure_case` by model and shape: each of ours beside the peer, and the peers beside each other."""
    results: dict[str, dict[str, Any]] = {}
    for shape in shapes:
        for name, directory in models.items():
            options = {OURS: {"model": str(directory.resolve())}}
            results.setdefault(name, {})[str(shape)] = measure_case(
                prepared, shape, (OURS, PEER), cache, settings, options, {}
            )
        case = measure_case(prepared, shape, PEERS, cache, settings, {}, {})
        for engine in PEERS:
            results.setdefault(engine, {})[str(shape)] = case
    return results


def entry(name: str, engine: str, accuracy: list[float], timed: dict[str, Any], peer: dict[str, float]) -> Entry:
    """One row; ``peer`` are the milliseconds of the peer at each shape, the same for all rows."""
    one = {"median": 1.0, "q1": 1.0, "q3": 1.0}
    ratios = {shape: one if engine == PEER else case["ratios"][engine][PEER] for shape, case in timed.items()}
    milliseconds = {shape: peer[shape] / each["median"] for shape, each in ratios.items()}
    return Entry(name, float(np.mean(accuracy)), len(accuracy), milliseconds, ratios)


def draw(entries: list[Entry], shape: str) -> str:
    """The plot at a shape."""
    points = []
    for each in entries:
        low, middle, high = (
            each.milliseconds[shape] * each.ratios[shape]["median"] / each.ratios[shape][key]
            for key in ("q3", "median", "q1")
        )
        points.append(svg.Point(each.name, (middle, low, high), (each.accuracy,) * 3))
    return svg.scatter(_TITLE, f"milliseconds per sequence, {shape}", "Spearman x 100", points)


def main() -> None:
    """Evaluate what has no recorded accuracy, time everything, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the models that are timed (default: %(default)s)")
    parser.add_argument("--shapes", default="b1s32,b1s128", help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.5 s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="(default: %(default)s)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    folder = os.environ.get("FASTCPU_DATA")
    if not folder:
        sys.exit("set FASTCPU_DATA")
    settings = Settings(threads=args.threads, cpus=pick_cpus("", args.threads), time_void=True)
    if args.quick:
        settings = Settings(settings.threads, settings.cpus, time_void=True, patience=0.0, **QUICK)
    models = {name: runs.MODELS / f"{name}-seed{args.seed}" for name in (Path(recipe).stem for recipe in RECIPES)}
    missing = [name for name, path in models.items() if not (path / "graph.json").is_file()]
    if missing:
        sys.exit(f"not made yet: {', '.join(missing)} (python -m bench.accuracy --parts stsb)")
    prepared = prepare_model(MODEL, 0.0, args.cache)
    shapes = [Shape.parse(text) for text in args.shapes.split(",")]
    for engine in PEERS:
        prepare_engine(engine, prepared, args.cache, settings, {})
    found = {name: accuracies(name) for name in models}
    for engine in PEERS:
        found[engine] = [peer_accuracy(engine, prepared, models["int8-static"], args.cache, Path(folder), args.threads)]
    timed = time_models(models, prepared, shapes, args.cache, settings)
    peer = {shape: case["engines"][PEER]["milliseconds"]["median"] for shape, case in timed[PEER].items()}
    entries = [entry(name, OURS, found[name], timed[name], peer) for name in models]
    entries += [entry(engine, engine, found[engine], timed[engine], peer) for engine in PEERS]
    entries.sort(key=lambda each: -each.ratios[args.shapes.split(",")[0]]["median"])
    write_json(
        RESULT,
        {
            "date": now(),
            "machine": describe_machine(),
            "git": git_state(runs.ROOT),
            "versions": package_versions(["numpy", "onnxruntime", "openvino", "nncf"]),
            "settings": settings_json(settings),
            "quick": args.quick,
            "entries": [vars(each) for each in entries],
            "departures": sorted(
                {text for cases in timed.values() for case in cases.values() for text in case["departures"]}
            ),
        },
    )
    PLOT.write_text("\n".join(draw(entries, str(shape)) for shape in shapes) + "\n", encoding="utf-8")
    header = ["model", "Spearman x 100", "seeds", *(f"{shape}: ms, ratio" for shape in peer)]
    rows = [
        [
            each.name,
            f"{each.accuracy:.2f}",
            str(each.seeds),
            *(f"{each.milliseconds[shape]:.2f}, {each.ratios[shape]['median']:.2f}x" for shape in peer),
        ]
        for each in entries
    ]
    print(text_table(header, rows))


if __name__ == "__main__":
    main()
