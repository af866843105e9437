"""How long a compression will take, from a few of its steps; nothing is kept."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastcpu.compression.candidate import Candidate, candidates
from fastcpu.compression.checks import check_training
from fastcpu.compression.plan import Plan
from fastcpu.compression.run import take_texts
from fastcpu.compression.search import FIRST_LOOK, LAST_SHARE, check_reachable
from fastcpu.compression.training import TIMED_STEPS, Materials, distillation, make_trainer, prepare, prune_alone
from fastcpu.compression.trials import Trials
from fastcpu.compression.work import WorkFolder

_TEXTS = 4096


def estimate(plan: Plan) -> dict[str, Any]:
    """Minutes of the parts of a compression, and what they were computed from; all data is read and checked.

    Pruning layer by layer is done in full, since it takes the same few texts for any amount of data. ``training`` is
    the training in full; a search takes at most ``trainings_of_search`` times as long beside it.

    Raises:
        InputError: what `compress` would find before it trains, a target that no candidate reaches included.
    """
    if plan.recipe.distill is not None:
        check_training(plan)
    if plan.gate is not None:
        plan.gate.load()
    if not plan.data:
        return {"minutes": {}, "note": "no training"}
    with tempfile.TemporaryDirectory() as folder, closing(WorkFolder(Path(folder) / "out", plan)) as work:
        take_texts(plan, work, _TEXTS)
        texts = work.read("texts.json")
        found: dict[str, Any] = {"texts_seen": texts["seen"]}
        began = time.monotonic()
        if plan.recipe.distill is None:
            minutes = {}
            if plan.recipe.reconstructs:
                prune_alone(plan, work, lambda *_: None)
                minutes["pruning"] = (time.monotonic() - began) / 60
            return found | {"minutes": _rounded(minutes), "note": "no training"}
        materials = prepare(plan, work, lambda *_: None)
        each = (time.monotonic() - began) / texts["taken"] / 60
        usable = texts["seen"] - texts["equal"] - texts["similar"]
        minutes = {"texts_and_teacher": each * usable}
        if plan.recipe.distill.readout:
            minutes["readout"] = each * min(usable, plan.recipe.distill.readout)
        if plan.target is None:
            _training(plan, materials, work.path, found, minutes)
        else:
            _search(plan, Trials(plan, work, lambda *_: None), materials, work.path, found, minutes)
    return found | {
        "minutes": _rounded(minutes) | {"total": round(sum(minutes.values()), 1)},
        "note": f"an estimate, from {TIMED_STEPS} training steps; evaluation and export come on top",
    }


def _rounded(minutes: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in minutes.items()}


def _training(plan: Plan, materials: Materials, folder: Path, found: dict[str, Any], minutes: dict[str, float]) -> None:
    """Adds the training in full, and the pruning before it."""
    config = distillation(plan)
    began = time.monotonic()
    trainer = make_trainer(plan, materials, 1_000_000, folder)
    if plan.recipe.reconstructs:
        minutes["pruning"] = (time.monotonic() - began) / 60
    seconds = trainer.seconds_per_step(TIMED_STEPS)
    found |= {"seconds_per_step": round(seconds, 4), "steps": config.steps or int(config.budget * 60 / seconds)}
    minutes["training"] = found["steps"] * found["seconds_per_step"] / 60


def _search(
    plan: Plan, trials: Trials, materials: Materials, folder: Path, found: dict[str, Any], minutes: dict[str, float]
) -> None:
    """Adds the parts of a search: its measurements, prunings and trainings, at most, and the training in full of all
    layers."""
    target = plan.target
    assert target is not None
    depths = candidates(trials.depth, trials.cut, plan.recipe.prune is not None)
    smallest = depths[-1][-1]
    began = time.monotonic()
    latency = trials.latency(smallest)
    each = (time.monotonic() - began) / 2  # the dense model was compiled as well
    check_reachable(target, smallest, latency)
    deepest = replace(plan, recipe=trials.recipe(Candidate(trials.depth, depths[0][-1].sparsity)))
    _training(deepest, materials, folder, found, minutes)
    count = sum(len(depth) for depth in depths)
    if target.has_speed:
        rungs = (len(depths) - 1).bit_length()
        trainings = sum(-(-len(depths) // 2**r) * LAST_SHARE / 2 ** (rungs - 1 - r) for r in range(rungs))
        trainings += plan.gate is not None and plan.gate.max_drop is not None  # where the better one loses too much
        measurements = 4 * len(depths)
    else:
        trainings, measurements = FIRST_LOOK * count + count.bit_length() - 1, count
    found |= {
        "dense_milliseconds": round(latency.dense_milliseconds, 3),
        "highest_speedup": round(latency.speedup, 2),
        "trainings_of_search": round(trainings, 2),
    }
    minutes["measurements"] = measurements * each / 60
    if "pruning" in minutes:
        minutes["pruning"] *= len(depths) if target.has_speed else count
    minutes["search"] = trainings * minutes["training"]
