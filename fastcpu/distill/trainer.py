"""The training loop: deterministic, and able to go on after a kill at any moment."""

from __future__ import annotations

import fnmatch
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastcpu.distill import checkpoint, schedule
from fastcpu.distill.corpus import Batch, Corpus, Order
from fastcpu.distill.hardware import has_bf16
from fastcpu.distill.losses import LOSSES, Loss, runs_twice
from fastcpu.distill.losses.loss import Outputs, Part
from fastcpu.distill.masks import Masks
from fastcpu.distill.model import choose_attention, depths, outputs
from fastcpu.distill.words import train_rows
from fastcpu.errors import InputError, TrainingError
from fastcpu.recipe import Distill, Recipe

if TYPE_CHECKING:
    import torch

    from fastcpu.distill.sparse_linear import Blocks
    from fastcpu.frontend.sentence_transformers import Pooling

CHECKPOINT_VARIABLE = "FASTCPU_CHECKPOINT_SECONDS"
"""Environment variable: seconds between two checkpoints, 60 by default. It does not change the model."""
_LOG_STEPS = 10
_WARM_UP = 4
_COUNTED = 1000


class Teacher(Protocol):
    """Where targets come from."""

    def __call__(self, indices: NDArray[np.int64], batch: Batch) -> Outputs:
        """The teacher's outputs for sequences of the corpus, whose padded batch is given too."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where training stands after a step.

    Attributes:
        step: finished steps of ``steps``.
        losses: of the last step, by name, unweighted.
        sparsity: share of blocks that are zero.
        seconds: since this process began to train.
    """

    step: int
    steps: int
    losses: dict[str, float]
    sparsity: float
    seconds: float


class Trainer:
    """Distills a student.

    The state after step k is a function of student, corpus, teacher, recipe, steps and seed (on one machine with one
    number of threads): all that is random, the order of the corpus and dropout, is a function of seed and step.

    Args:
        student: module in training mode; trained in place.
        folder: where ``checkpoint.safetensors`` and ``log.jsonl`` go; training goes on from what is there.
        device: where to train, a torch device; the teacher must give its outputs there.
        rows: the sequences of the corpus that are trained with; all by default.
    """

    def __init__(
        self,
        student: torch.nn.Module,
        pooling: Pooling | None,
        corpus: Corpus,
        teacher: Teacher,
        recipe: Recipe,
        steps: int,
        seed: int,
        folder: Path,
        device: str = "cpu",
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        import torch

        assert recipe.distill is not None
        self.config: Distill = recipe.distill
        self.prune = recipe.prune
        self.device = torch.device(device)
        self.student, self.pooling, self.corpus, self.teacher = student.to(self.device), pooling, corpus, teacher
        self.steps, self.seed, self.folder = steps, seed, folder
        self.rows = np.arange(len(corpus)) if rows is None else rows
        by_length = self.config.sampling == "by length"
        self.order = Order(corpus.lengths[self.rows], self.config.batch, seed, by_length)
        self.parts: set[Part] = {LOSSES[name].part for name in self.config.losses}
        choose_attention(student, self.device.type)
        freeze(student, self.config.freeze)
        self.masks = None if self.prune is None else Masks(student, self.prune, recipe.only, recipe.ignore)
        self.words = train_rows(student, corpus.ids)
        self.parameters = {name: p for name, p in student.named_parameters() if p.requires_grad}
        if self.words is not None:
            self.parameters[self.words.name] = self.words.rows
        if self.masks is not None:
            self.parameters |= {name: each.values for name, each in self.masks.blocks().items() if each is not None}
        self.optimizer = torch.optim.AdamW(self._groups(), lr=self.config.learning_rate, fused=True)
        self.average = {name: p.detach().clone() for name, p in self.parameters.items() if self.config.average}
        self._saved = 0
        self.bf16 = has_bf16(self.device.type)

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by weight decay, which matrices have, and by the scale of the learning rate of their layer."""
        above = depths(self.student) if self.config.layer_decay < 1 else dict.fromkeys(self.parameters, 0)
        groups: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            groups.setdefault((above[name], min(parameter.dim(), 2)), []).append(parameter)
        return [
            {
                "params": parameters,
                "weight_decay": self.config.weight_decay if dimensions > 1 else 0.0,
                "scale": self.config.layer_decay**layers,
            }
            for (layers, dimensions), parameters in groups.items()
        ]

    # ---- one step ----

    def losses(self, indices: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """The losses, by name and unweighted, on some sequences of the corpus."""
        import torch

        batch = self.corpus.batch(indices).to(self.device)
        target = self.teacher(indices, batch)
        target = replace(target, temperature=self.config.temperature, layer_map=self.config.layer_map)
        if self.corpus.labels is not None:
            labels = torch.from_numpy(self.corpus.labels[indices]).to(self.device)
            target = replace(target, labels=labels)
        twice = runs_twice(self.config.losses) and self.student.training
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            mine = outputs(self.student, self.pooling, batch.twice() if twice else batch, self.parts)
        count = len(indices)
        runs = [mine.part_of(0, count), mine.part_of(count, 2 * count)] if twice else [mine, mine]
        return {name: self._value(LOSSES[name], runs, target) for name in self.config.losses}

    @staticmethod
    def _value(loss: Loss, runs: Sequence[Outputs], target: Outputs) -> torch.Tensor:
        """Of both runs of a student on the same texts, a mean where the loss compares each with a target."""
        first, second = runs
        if loss.target == "itself":
            return loss.value(first, second)
        value = loss.value(first, target)
        return value if first is second else (value + loss.value(second, target)) / 2

    def step(self, step: int) -> dict[str, float]:
        """Makes one step and returns its losses by name."""
        import torch

        if self.config.dropout:
            torch.manual_seed(int(np.random.SeedSequence((self.seed, step)).generate_state(1, np.uint64)[0]))
        losses = self.losses(self.rows[self.order(step)])
        total = torch.stack([weight * losses[name] for name, weight in self.config.losses.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.config.clip))
        values = {f"the loss {name}": loss.item() for name, loss in losses.items()}
        values |= {"the sum of the losses": total.item(), "the norm of the gradient": norm}
        self._check_finite(step, values)
        if self.masks is not None and self.prune is not None and schedule.masks_change(self.prune, step, self.steps):
            self.masks.observe_gradients()
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * schedule.learning_rate(self.config, step, self.steps)
        self.optimizer.step()
        if self.masks is not None and self.prune is not None:
            if schedule.updates_masks(self.prune, step, self.steps):
                self._update_masks(schedule.sparsity(self.prune, step, self.steps))
            self.masks.apply()
        kept = schedule.average(self.config, step)
        with torch.no_grad():
            for name, mean in self.average.items():
                mean.lerp_(self.parameters[name], 1 - kept)
        return {name: loss.item() for name, loss in losses.items()}

    def _update_masks(self, sparsity: float) -> None:
        """Chooses masks anew; moments and means are then of what is trained from now on, weights or their blocks."""
        assert self.masks is not None
        before = self.masks.blocks()
        self.masks.update(sparsity)
        self._train_blocks(before)

    def _train_blocks(self, before: Mapping[str, Blocks | None]) -> None:
        """Follows the masks, whose blocks were others ``before``."""
        assert self.masks is not None
        weights = dict(self.student.named_parameters())
        for name, now in self.masks.blocks().items():
            old, new = self.parameters[name], weights[name] if now is None else now.values
            if old is new:
                continue

            def converted(tensor: torch.Tensor, name: str = name, now: Blocks | None = now) -> torch.Tensor:
                then = before[name]
                dense = tensor if then is None else then.scatter(tensor)
                return dense if now is None else now.gather(dense)

            for group in self.optimizer.param_groups:
                group["params"] = [new if each is old else each for each in group["params"]]
            state = self.optimizer.state.pop(old, {})
            self.optimizer.state[new] = {k: converted(v) if v.shape == old.shape else v for k, v in state.items()}
            old.grad = None
            self.parameters[name] = new
            if name in self.average:
                self.average[name] = converted(self.average[name])

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        """TrainingError for the first value that is not finite."""
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is None:
            return
        kept = f"the checkpoint of step {self._saved} is in {self.folder}" if self._saved else "there is no checkpoint"
        raise TrainingError(
            f"step {step + 1} of {self.steps}: {bad} is {values[bad]}; {kept}. "
            f"Lower the learning rate ({self.config.learning_rate:g})"
        )

    # ---- all of them ----

    def run(self, report: Callable[[Progress], None]) -> None:
        """Trains to the end, from the checkpoint if there is one. ``report`` is called after every step."""
        began = saved = time.monotonic()
        interval = checkpoint_interval()
        done = self._restore()
        for step in range(done, self.steps):
            losses = self.step(step)
            sparsity = 0.0 if self.prune is None else schedule.sparsity(self.prune, step, self.steps)
            now = time.monotonic()
            if (step + 1) % _LOG_STEPS == 0 or step + 1 == self.steps:
                self._log(step + 1, losses, sparsity)
            if now - saved > interval or step + 1 == self.steps:
                self._save(step + 1)
                saved = time.monotonic()
            report(Progress(step + 1, self.steps, losses, sparsity, now - began))
        self._take_average()

    def _take_average(self) -> None:
        """Puts the mean of the weights in their place; what is pruned stays so, and layers become what they were."""
        import torch

        with torch.no_grad():
            for name, mean in self.average.items():
                self.parameters[name].copy_(mean)
        if self.masks is not None:
            self.masks.apply()
            self.masks.release()
        if self.words is not None:
            self.words.restore()

    def seconds_per_step(self, count: int) -> float:
        """Mean duration of a step over a whole training, from the time per token of ``count`` steps after a warm-up.

        Where sparsity rises, as many more are timed at the end of it, since pruned linears take less. The student, the
        optimizer and the masks are used up.
        """
        self._timed(_WARM_UP)
        before = self._timed(count)
        if self.masks is None or self.prune is None or self.prune.reconstruct:
            return before
        self._update_masks(self.prune.sparsity)
        self.masks.apply()
        return before + (self._timed(count) - before) * schedule.mean_progress(self.prune)

    def _timed(self, count: int) -> float:
        """Seconds per step of the usual number of tokens, from the first ``count`` steps."""
        began = time.monotonic()
        for step in range(count):
            self.step(step)
        seconds = time.monotonic() - began
        return seconds / count * self._tokens(min(self.steps, _COUNTED)) / self._tokens(count)

    def _tokens(self, count: int) -> float:
        """Mean number of tokens of the first ``count`` steps, padding included."""
        batches = (self.corpus.lengths[self.rows[self.order(step)]] for step in range(count))
        return float(np.mean([len(lengths) * lengths.max() for lengths in batches]))

    # ---- state on disk ----

    @property
    def _path(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def _save(self, step: int) -> None:
        """Writes a checkpoint after ``step`` steps, unless a weight is not finite: the last good one stays."""
        self._check_finite(step - 1, {f"weight '{n}'": p.detach().sum().item() for n, p in self.parameters.items()})
        tensors = {f"weight/{name}": p.detach() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = value
        tensors |= {f"average/{name}": mean for name, mean in self.average.items()}
        if self.masks is not None:
            tensors |= {f"keep/{name}": mask for name, mask in self.masks.keep.items()}
            tensors |= {f"evidence/{name}": each for name, each in self.masks.evidence.items()}
        checkpoint.save(self._path, tensors, step)
        self._saved = step

    def _restore(self) -> int:
        import torch

        if not self._path.is_file():
            return 0
        tensors, step = checkpoint.load(self._path)
        if self.masks is not None:
            before = self.masks.blocks()
            for name, mask in self.masks.keep.items():
                mask.copy_(tensors[f"keep/{name}"])
            for name, each in self.masks.evidence.items():
                each.copy_(tensors[f"evidence/{name}"])
            self.masks.leave_out_zeros()
            self._train_blocks(before)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weight/{name}"])
                if f"step/{name}" in tensors:  # absent for what no loss reads
                    state = {k: tensors[f"{k}/{name}"].to(self.device) for k in ("step", "exp_avg", "exp_avg_sq")}
                    self.optimizer.state[parameter] = state
        for name, mean in self.average.items():
            mean.copy_(tensors[f"average/{name}"])
        self._saved = step
        return step

    def _log(self, step: int, losses: dict[str, float], sparsity: float) -> None:
        line = {
            "step": step,
            "losses": {name: round(loss, 6) for name, loss in losses.items()},
            "learning_rate": float(f"{schedule.learning_rate(self.config, step - 1, self.steps):.6g}"),
            "sparsity": round(sparsity, 6),
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def checkpoint_interval() -> float:
    """Seconds between two checkpoints; InputError for a variable that is no number."""
    given = os.environ.get(CHECKPOINT_VARIABLE, "60")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise InputError(f"{CHECKPOINT_VARIABLE} must be a number of seconds, not {given!r}")
    return seconds


def read_log(folder: Path) -> Sequence[dict[str, object]]:
    """The lines of a training log, the last one for each step."""
    path = folder / "log.jsonl"
    if not path.is_file():
        return []
    steps: dict[int, dict[str, object]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # of a kill in the middle of a line, and what was appended to it
            entry = json.loads(line)
            steps[entry["step"]] = entry
    return list(steps.values())


def freeze(module: torch.nn.Module, globs: Sequence[str]) -> None:
    """Takes the parameters that match a glob out of training.

    Raises:
        InputError: a glob that matches none, or nothing left to train.
    """
    names = [name for name, _ in module.named_parameters()]
    for glob in globs:
        if not fnmatch.filter(names, glob):
            raise InputError(f"distill: freeze: no parameter is called {glob!r}; there is, for example, {names[0]!r}")
    for name, parameter in module.named_parameters():
        if any(fnmatch.fnmatchcase(name, glob) for glob in globs):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise InputError("distill: freeze: no parameter is left to train")
