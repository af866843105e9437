"""What a search asks for: latencies and scores of candidates, each a file of the work folder once it is known."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcpu.compression.candidate import Candidate, candidates, recipe_for
from fastcpu.compression.gate import gate_length
from fastcpu.compression.latency import Latency, measure_beside
from fastcpu.compression.plan import Plan
from fastcpu.compression.search import Search
from fastcpu.compression.training import (
    Materials,
    Report,
    make_trainer,
    number_of_steps,
    prepare,
    save_student,
    taken_texts,
    write_student,
)
from fastcpu.compression.work import WorkFolder
from fastcpu.data import sample
from fastcpu.errors import InputError
from fastcpu.recipe import Recipe, compile_options

if TYPE_CHECKING:
    from fastcpu.distill.trainer import Trainer
    from fastcpu.tasks.tokenizer import Text

RESULT = "search.json"
"""The file of a finished search."""
_TIMED_TEXTS = 16
"""Speed does not depend on the ranges that calibration finds."""
_HELD_OUT = 2048
_HELD_OUT_SHARE = 0.1


def search(plan: Plan, work: WorkFolder, tell: Report, floor: float | None) -> Plan:
    """The plan of the candidate that the search of `plan` chooses, with its layers and sparsity in the recipe.

    ``floor`` is the lowest score that is accepted, if a drop was agreed on.

    Raises:
        InputError: no candidate is fast enough, there are too few texts, or the model does not take the batch of the
            target.
        AccuracyError: no candidate holds the drop.
    """
    assert plan.target is not None
    trials = Trials(plan, work, tell)
    if not work.done(RESULT):
        found = Search(
            candidates(trials.depth, trials.cut, plan.recipe.prune is not None),
            plan.target,
            trials.latency,
            trials.score,
            floor,
        )
        trials.check_texts()
        chosen = found.choose()
        work.write(
            RESULT,
            {
                "plan": plan.to_json(),
                "target": str(plan.target),
                "measured_on": asdict(plan.target) | {"threads": plan.threads},
                "score": trials.scored_by,
                "chosen": asdict(chosen),
                "candidates": [row.to_json() for row in found.rows.values()],
            },
        )
    chosen = Candidate(**work.read(RESULT)["chosen"])
    tell(f"chosen: {chosen}", None)
    trials.hand_over(chosen)
    return replace(plan, recipe=recipe_for(plan.recipe, chosen, trials.depth))


class Trials:
    """Measures and trains the candidates of a plan.

    Attributes:
        depth: layers of the model.
        cut: whether a student can have fewer.
    """

    def __init__(self, plan: Plan, work: WorkFolder, tell: Report) -> None:
        from fastcpu.distill.model import open_directory
        from fastcpu.frontend.torch_export import class_of

        self._plan, self._work, self._tell = plan, work, tell
        self._module, _ = open_directory(Path(plan.model))
        family, _ = class_of(self._module)
        self.depth = int(getattr(self._module.config, family.depth))
        self.cut = bool(family.layers)

    @property
    def scored_by(self) -> str:
        """What a score is."""
        gate = self._plan.gate
        return "negative loss on texts that are held out" if gate is None else f"{gate.task}, {gate.part}"

    def recipe(self, candidate: Candidate) -> Recipe:
        """What makes a candidate."""
        return recipe_for(self._plan.recipe, candidate, self.depth)

    # ---- latency ----

    def latency(self, candidate: Candidate) -> Latency:
        """Of a candidate that is not trained, pruned by magnitude: its weights make no difference."""
        name = f"latency-{candidate.key}.json"
        if not self._work.done(name):
            self._tell(f"time of {candidate}", None)
            with tempfile.TemporaryDirectory(dir=self._work.path, prefix="timed.") as folder:
                model = self._compile_untrained(candidate, Path(folder))
                measured = measure_beside(self._dense, model, self._feeds, self._plan.threads)
            self._work.write(name, asdict(measured))
        return Latency(**self._work.read(name))

    @cached_property
    def _dense(self) -> Path:
        """The model itself in int8, without training."""
        directory = self._work.path / "dense"
        if not directory.is_dir():
            with tempfile.TemporaryDirectory(dir=self._work.path, prefix="timed.") as folder:
                self._compile_untrained(Candidate(self.depth, 0.0), Path(folder)).rename(directory)
        return directory

    @cached_property
    def _feeds(self) -> dict[str, NDArray[np.int64]]:
        from fastcpu import _core
        from fastcpu.doctor import random_feeds

        target = self._plan.target
        assert target is not None
        return random_feeds(_core.read_model(str(self._dense)), target.batch, target.sequence)

    def _compile_untrained(self, candidate: Candidate, folder: Path) -> Path:
        from fastcpu.distill.model import make_student
        from fastcpu.pipeline import compile  # noqa: A004  (the public name)

        recipe = self.recipe(candidate)
        save_student(Path(self._plan.model), make_student(self._module, recipe.student), folder / "student")
        options = compile_options(_without_quality(recipe), lambda _: self._texts(_TIMED_TEXTS), self._plan.max_length)
        return compile(folder / "student", folder / "model", threads=self._plan.threads, **options).directory

    def _texts(self, count: int) -> list[Text]:
        return sample(taken_texts(self._work), count, self._plan.seed)

    # ---- accuracy ----

    def check_texts(self) -> None:
        """InputError if there are too few to hold some out where no task compares the candidates."""
        count = int(self._work.read("texts.json")["taken"])
        if self._plan.gate is None and _held_out(count) < 1:
            raise InputError(f"{count} texts are too few to hold some out and compare candidates with them")

    def score(self, candidate: Candidate, share: float) -> float:
        """After a training with a share of the steps: the gate's metric of the exported model on its split, or, without
        a gate, the negated distillation loss on texts that the training did not see.
        """
        steps = max(1, round(share * self._steps(candidate)))
        name = f"trial-{candidate.key}-{steps}"
        if not self._work.done(f"{name}.json"):
            folder = self._work.path / name
            folder.mkdir(exist_ok=True)
            plan = replace(self._plan, recipe=self.recipe(candidate))
            rows = None if plan.gate is not None else self._split[0]
            training = make_trainer(plan, self._materials, steps, folder, rows)
            title = f"trial of {candidate}, {steps} steps"
            training.run(lambda progress: self._tell(title, progress))
            self._work.write(f"{name}.json", self._score(plan, training, folder))
            if share < 1:
                shutil.rmtree(folder)
        return float(self._work.read(f"{name}.json"))

    def _score(self, plan: Plan, training: Trainer, folder: Path) -> float:
        if plan.gate is None:
            return -held_out_loss(training, self._split[1])
        from fastcpu.pipeline import compile  # noqa: A004  (the public name)

        student = folder / "student"
        if student.is_dir():  # of a start that was killed here
            shutil.rmtree(student)
        write_student(plan, self._work, training.student, student)
        model = compile(
            student,
            folder / "model",
            threads=plan.threads,
            **compile_options(plan.recipe, self._texts, plan.max_length),
        ).directory
        return plan.gate.score(model, plan.threads, gate_length(plan.recipe))

    def hand_over(self, chosen: Candidate) -> None:
        """Lets the training in full go on from what the search has: steps, and a finished student."""
        if self._work.done("student"):
            return
        steps = self._steps(chosen)
        if not self._work.done("steps.json"):
            self._work.write("steps.json", steps)
        trial = self._work.path / f"trial-{chosen.key}-{steps}"
        if self._plan.gate is not None and self._work.done(f"{trial.name}.json"):
            for name in ("log.jsonl", "student"):
                if (trial / name).exists():  # not after a kill between the two
                    (trial / name).replace(self._work.path / name)

    def _steps(self, candidate: Candidate) -> int:
        """Of a whole training; in a budget of minutes, fewer layers and more zeros take more steps."""
        name = f"steps-{candidate.key}.json"
        if not self._work.done(name):
            plan = replace(self._plan, recipe=self.recipe(candidate))
            self._work.write(name, number_of_steps(plan, self._materials, self._work.path))
        return int(self._work.read(name))

    @cached_property
    def _materials(self) -> Materials:
        return prepare(self._plan, self._work, self._tell)

    @cached_property
    def _split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sequences of the corpus to train with, and those held out."""
        count = len(self._materials.corpus)
        held_out = _held_out(count)
        order = np.random.default_rng((self._plan.seed, count)).permutation(count)
        return np.sort(order[held_out:]), np.sort(order[:held_out])


def _without_quality(recipe: Recipe) -> Recipe:
    """A recipe as fast in execution that neither trains nor tries strengths of smoothing."""
    quantize = recipe.quantize
    if quantize is not None and quantize.smooth == "auto":
        quantize = replace(quantize, smooth=0.5)
    prune = None if recipe.prune is None else replace(recipe.prune, reconstruct=0)
    return replace(recipe, prune=prune, distill=None, quantize=quantize)


def _held_out(count: int) -> int:
    """How many of some texts are held out."""
    return min(_HELD_OUT, int(_HELD_OUT_SHARE * count))


def held_out_loss(training: Trainer, rows: NDArray[np.int64]) -> float:
    """Mean over some sequences of the weighted losses on a model's outputs.

    Losses on hidden states are left out where there are others: they compare as many layers as the student has, and so
    not the same from one depth to the next.
    """
    import torch

    from fastcpu.distill.losses import LOSSES

    weights = dict(training.config.losses)
    outward = {name: weight for name, weight in weights.items() if LOSSES[name].part in ("embedding", "logits")}
    ordered = rows[np.argsort(training.corpus.lengths[rows], kind="stable")]
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(ordered), training.config.batch):
            batch = ordered[start : start + training.config.batch]
            losses = training.losses(batch)
            total += len(batch) * sum(weight * float(losses[name]) for name, weight in (outward or weights).items())
    return total / len(ordered)
