"""One case of the measurement contract: engines against each other on one model at one shape.

Every engine is checked against the reference before it is timed, then timed round-robin with only one process running
at a time. Whoever else uses the CPUs meanwhile is measured, and rounds they disturb are repeated while there is
patience left.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import stats
from bench.client import EngineFailure, WorkerProcess
from bench.e2e import REFERENCE
from bench.inputs import Feeds, Shape, bench_feeds
from bench.machine import now, wait_until_quiet
from bench.models import PreparedModel

log = logging.getLogger("bench")

CONTRACT_ROUNDS = 7
CONTRACT_SECONDS = 2.0
CONTRACT_THREADS = 2


@dataclass(frozen=True)
class Settings:
    """How to measure; times in seconds, shares 0..1."""

    threads: int
    cpus: tuple[int, ...]
    rounds: int = CONTRACT_ROUNDS
    seconds: float = CONTRACT_SECONDS
    """Least time of one engine in one round."""
    warmup: float = 1.0
    """Warm-up of an engine before its first round."""
    round_warmup: float = 0.25
    """Warm-up of an engine in each round; at least one run."""
    trial: float = 0.5
    """Length of each of the three trials that choose a variant."""
    max_foreign: float = 0.05
    """Share of the CPUs that other processes may take in a round."""
    patience: float = 120.0
    """Time that one case may spend on waiting for quiet and on repeating disturbed rounds."""
    time_void: bool = False
    """Also time an engine whose answers are well-formed but not close enough; it stays void."""
    seed: int = 0

    def departures(self) -> list[str]:
        """Which of these settings are not the contract's."""
        found = []
        if self.rounds < CONTRACT_ROUNDS:
            found.append(f"{self.rounds} rounds instead of at least {CONTRACT_ROUNDS}")
        if self.seconds < CONTRACT_SECONDS:
            found.append(f"rounds of {self.seconds:g} s instead of at least {CONTRACT_SECONDS:g} s")
        if self.threads != CONTRACT_THREADS or len(self.cpus) != CONTRACT_THREADS:
            found.append(f"{self.threads} threads on {len(self.cpus)} CPUs instead of {CONTRACT_THREADS} on 2")
        return found


@dataclass
class Contestant:
    """An engine in one case."""

    name: str
    worker: WorkerProcess
    precision: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    variant: str = ""
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    slots: list[dict[str, Any]] = field(default_factory=list)
    void: str = ""
    """Why its figures, if it has any, do not count; empty if they do."""
    dead: bool = False
    """Whether its process failed."""

    @property
    def rates(self) -> list[float]:
        """Sequences per second of each round."""
        return [slot["sequences_per_second"] for slot in self.slots if slot["kept"]]


def prepare_engine(
    name: str, model: PreparedModel, cache: Path, settings: Settings, options: Mapping[str, str]
) -> None:
    """Lets engine `name` make its files for `model` in a process that ends with it; EngineFailure if it cannot."""
    with WorkerProcess(name, settings.cpus, _log_file(cache, model, name, "prepare")) as worker:
        _prepare(worker, model, cache, options)


def engine_cache(cache: Path, name: str, model: PreparedModel) -> Path:
    """Directory of what engine `name` derived from `model`."""
    return cache / "engines" / model.label / name.replace(":", "_")


def _log_file(cache: Path, model: PreparedModel, name: str, phase: str) -> Path:
    return cache / "logs" / f"{model.label}-{name.replace(':', '_')}-{phase}.log"


def _prepare(worker: WorkerProcess, model: PreparedModel, cache: Path, options: Mapping[str, str]) -> str:
    directory = engine_cache(cache, worker.engine, model)
    directory.mkdir(parents=True, exist_ok=True)
    reply, _ = worker.call(
        "prepare", model=str(model.directory.resolve()), cache=str(directory.resolve()), options=dict(options)
    )
    return str(reply["precision"])


def _load(
    worker: WorkerProcess,
    model: PreparedModel,
    cache: Path,
    settings: Settings,
    options: Mapping[str, str],
    feeds: Sequence[Feeds],
) -> tuple[str, dict[str, str]]:
    """Prepares, loads and feeds the engine; its precision and the versions of its packages."""
    precision = _prepare(worker, model, cache, options)
    reply, _ = worker.call("load", threads=settings.threads)
    worker.call("feeds", feeds)
    return precision, reply["versions"]


def reference_answers(
    model: PreparedModel, shape: Shape, cache: Path, settings: Settings, feeds: Sequence[Feeds]
) -> list[stats.Answers]:
    """What the reference engine answers to `feeds`."""
    with WorkerProcess(REFERENCE.name, settings.cpus, _log_file(cache, model, REFERENCE.name, "reference")) as worker:
        _load(worker, model, cache, settings, {}, feeds)
        variants, _ = worker.call("variants", shape=str(shape))
        worker.call("use", variant=variants["variants"][0], shape=str(shape))
        _, answers = worker.call("answers")
    return list(answers)


class Patience:
    """A budget of seconds for waiting until others leave the CPUs alone, and for repeating what they disturbed."""

    def __init__(self, seconds: float) -> None:
        """Starts with `seconds`."""
        self.left = seconds

    def spend(self, began: float) -> None:
        """Takes off the time since `began` (time.monotonic())."""
        self.left -= time.monotonic() - began

    def wait(self, settings: Settings) -> None:
        """Waits for quiet while there is anything left."""
        if self.left > 0:
            began = time.monotonic()
            wait_until_quiet(settings.cpus, settings.max_foreign, self.left)
            self.spend(began)


def choose_variant(
    one: Contestant, shape: Shape, reference: Sequence[stats.Answers], settings: Settings, patience: Patience
) -> None:
    """Compares the answers of every variant and uses the one with the fastest single run among those that pass.

    The fastest single run is taken because a trial is short and another process may slow parts of it. If none passes
    the engine is void, and `one.variant` stays empty unless void engines are to be timed.
    """
    reply, _ = one.worker.call("variants", shape=str(shape))
    for variant in reply["variants"]:
        try:
            one.worker.call("use", variant=variant, shape=str(shape))
            _, answers = one.worker.call("answers")
            _, own_reference = one.worker.call("reference")
        except EngineFailure as failure:
            one.variants[variant] = {"answers": None, "problem": str(failure)}
            continue
        agreement = stats.compare_answers(answers, own_reference or reference, one.precision)
        one.variants[variant] = {"answers": agreement.as_json(), "problem": agreement.problem}
    usable = [variant for variant in one.variants if not one.variants[variant]["problem"]]
    if not usable:
        one.void = "; ".join(f"{name}: {tried['problem']}" for name, tried in one.variants.items())
        if settings.time_void:
            usable = [
                name for name, tried in one.variants.items() if tried["answers"] and tried["answers"]["comparable"]
            ]
        if not usable:
            return
    if len(usable) > 1:
        for _ in range(3):
            for variant in usable:
                one.worker.call("use", variant=variant, shape=str(shape))
                patience.wait(settings)
                timed, _ = one.worker.call("time", seconds=settings.trial, warmup_seconds=settings.round_warmup)
                best = min(timed["best_seconds"], one.variants[variant].get("trial_best_seconds", float("inf")))
                one.variants[variant]["trial_best_seconds"] = best
        usable.sort(key=lambda variant: one.variants[variant]["trial_best_seconds"])
    one.variant = usable[0]
    reply, _ = one.worker.call("use", variant=one.variant, shape=str(shape))
    one.info = reply["info"]
    one.worker.call("time", seconds=settings.warmup, warmup_seconds=0.0)


def time_slot(one: Contestant, round_index: int, shape: Shape, settings: Settings, patience: Patience) -> None:
    """One engine's turn in one round: waits for quiet, and repeats it if disturbed, while there is patience left."""
    while True:
        patience.wait(settings)
        began = time.monotonic()
        timed, _ = one.worker.call("time", seconds=settings.seconds, warmup_seconds=settings.round_warmup)
        foreign = timed["foreign_share"]
        disturbed = foreign is not None and foreign > settings.max_foreign
        kept = not disturbed or patience.left <= 0
        rate = timed["runs"] * shape.batch / timed["seconds"]
        one.slots.append(
            {"round": round_index, "sequences_per_second": rate, "kept": kept, "disturbed": disturbed} | timed
        )
        if kept:
            return
        patience.spend(began)


def run_rounds(contestants: Sequence[Contestant], shape: Shape, settings: Settings, patience: Patience) -> None:
    """All rounds; the order is rotated by one from round to round. An engine that fails becomes void."""
    for round_index in range(settings.rounds):
        first = round_index % len(contestants)
        for one in [*contestants[first:], *contestants[:first]]:
            if one.dead:
                continue
            try:
                time_slot(one, round_index, shape, settings, patience)
            except EngineFailure as failure:
                one.void, one.dead = str(failure), True


def measure_case(
    model: PreparedModel,
    shape: Shape,
    engines: Sequence[str],
    cache: Path,
    settings: Settings,
    options: Mapping[str, Mapping[str, str]],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """The result of one case, JSON-serializable; `failed` says which engines could not be prepared and why."""
    began = now()
    feeds = bench_feeds(model.inputs, shape, model.vocab, settings.seed, model.text("bench"))
    reference = reference_answers(model, shape, cache, settings, feeds)
    patience = Patience(settings.patience)
    with ExitStack() as stack:
        contestants = []
        for name in engines:
            if name in failed:
                continue
            log_file = _log_file(cache, model, name, "run")
            one = Contestant(name, stack.enter_context(WorkerProcess(name, settings.cpus, log_file)))
            contestants.append(one)
            log.info("  %s: comparing answers", name)
            try:
                one.precision, one.versions = _load(one.worker, model, cache, settings, options.get(name, {}), feeds)
                choose_variant(one, shape, reference, settings, patience)
            except EngineFailure as failure:
                one.void, one.dead = str(failure), True
        running = [one for one in contestants if one.variant and not one.dead]
        if running:
            log.info("  timing %s", ", ".join(f"{one.name} ({one.variant})" for one in running))
            run_rounds(running, shape, settings, patience)
    result = summarize(model, shape, contestants, settings)
    result["engines"] |= {name: {"void": problem, "rounds": []} for name, problem in failed.items()}
    return result | {"began": began, "ended": now()}


def summarize(
    model: PreparedModel, shape: Shape, contestants: Sequence[Contestant], settings: Settings
) -> dict[str, Any]:
    """Medians, quartiles and ratios of a finished case, with every round and what departs from the contract."""
    reasons = settings.departures()
    engines: dict[str, Any] = {}
    for one in contestants:
        entry: dict[str, Any] = {
            "void": one.void or None,
            "precision": one.precision,
            "versions": one.versions,
            "variants": one.variants,
        }
        if one.variant and not one.dead:
            entry |= {
                "variant": one.variant,
                "answers": one.variants[one.variant]["answers"],
                "info": one.info,
                "sequences_per_second": stats.spread(one.rates).as_json(),
                "milliseconds": stats.spread([1e3 * shape.batch / rate for rate in one.rates]).as_json(),
            }
            disturbed = sum(slot["disturbed"] and slot["kept"] for slot in one.slots)
            if disturbed:
                reasons.append(f"{one.name}: other processes disturbed {disturbed} of {len(one.rates)} rounds")
        engines[one.name] = entry | {"rounds": one.slots}
    valid = [one for one in contestants if one.variant and not one.dead]
    ratios = {
        one.name: {peer.name: stats.ratio_spread(one.rates, peer.rates).as_json() for peer in valid if peer is not one}
        for one in valid
    }
    return {
        "model": model.name,
        "sparsity": model.sparsity,
        "fingerprint": model.fingerprint,
        "shape": str(shape),
        "batch": shape.batch,
        "sequence": shape.sequence,
        "contract_conform": not reasons,
        "departures": reasons,
        "engines": engines,
        "ratios": ratios,
    }


def settings_json(settings: Settings) -> dict[str, Any]:
    """`settings` as JSON."""
    return asdict(settings) | {"cpus": list(settings.cpus)}
