"""Which candidate becomes the model: decided from measured latencies and from scores of short trainings.

Nothing here trains or measures; both are functions that the caller gives. Whatever they return decides, so stored
results make the same choice again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastcpu.compression.candidate import Candidate
from fastcpu.compression.latency import Latency
from fastcpu.compression.target import Target
from fastcpu.errors import AccuracyError, InputError

Measure = Callable[[Candidate], Latency]
Score = Callable[[Candidate, float], float]
"""Called with a candidate and a share of its training steps; higher is better."""

LAST_SHARE = 0.2
"""The decision between the last two of a halving is made at this share of the steps; at each one before, at half."""
FIRST_LOOK = 0.05
"""Share of the steps after which a search for the highest speed orders its candidates."""


@dataclass
class Row:
    """What became of a candidate.

    Attributes:
        scores: by share of the training steps.
        verdict: why it was dropped, or ``chosen``.
    """

    candidate: Candidate
    latency: Latency | None = None
    scores: dict[float, float] = field(default_factory=dict)
    verdict: str = "not looked at"

    def to_json(self) -> dict[str, Any]:
        """As report.json holds it."""
        return {
            "layers": self.candidate.layers,
            "sparsity": self.candidate.sparsity,
            "milliseconds": None if self.latency is None else self.latency.milliseconds,
            "speedup": None if self.latency is None else self.latency.speedup,
            "scores": [{"share": share, "score": score} for share, score in self.scores.items()],
            "verdict": self.verdict,
        }


class Search:
    """One search among candidates.

    Args:
        candidates: as `fastcpu.compression.candidate.candidates` orders them.
        target: the speed, if it has one.
        measure, score: what decides.
        floor: the lowest score that is accepted after full training; None where nothing is agreed.

    Attributes:
        rows: the candidates and what became of them, filled by `choose`.
    """

    def __init__(
        self,
        candidates: Sequence[Sequence[Candidate]],
        target: Target,
        measure: Measure,
        score: Score,
        floor: float | None = None,
    ) -> None:
        self._depths = candidates
        self._target = target
        self._measure_one = measure
        self._score_one = score
        self._floor = floor
        self.rows = {candidate: Row(candidate) for depth in candidates for candidate in depth}

    def choose(self) -> Candidate:
        """The most accurate candidate that meets the target; without a target, the fastest that holds the floor.

        Raises:
            InputError: no candidate is fast enough.
            AccuracyError: no candidate holds the floor; with a target, neither of the last two does.
        """
        if self._target.has_speed:
            chosen = self._first_to_hold(self._most_accurate(self.fast_enough()))
        else:
            chosen = self._fastest()
        self.rows[chosen].verdict = "chosen"
        return chosen

    # ---- latency ----

    def fast_enough(self) -> list[Candidate]:
        """Those that meet the target while none with as many layers and no more zeros does; the deepest first.

        More zeros of as many layers are faster, apart from the step from none to some, and so are fewer layers of the
        same sparsity: most candidates need no measurement.
        """
        smallest = self._depths[-1][-1]
        check_reachable(self._target, smallest, self._latency(smallest))
        found: list[Candidate] = []
        for depth in self._depths:
            below = [each for each in depth if not found or each.sparsity < found[-1].sparsity]
            least = self._least_compressed(below)
            if least is not None:
                found.append(least)
            for each in depth:
                if found and each not in found and each.sparsity >= found[-1].sparsity:
                    self.rows[each].verdict = f"more compressed than {found[-1]}, which is fast enough"
        return found

    def _least_compressed(self, depth: Sequence[Candidate]) -> Candidate | None:
        if not depth or self._meets(depth[0]):
            return depth[0] if depth else None
        low, high = 1, len(depth)
        while low < high:
            middle = (low + high) // 2
            if self._meets(depth[middle]):
                high = middle
                continue
            for each in depth[low:middle]:
                self.rows[each].verdict = f"too slow, as {depth[middle]} is"
            low = middle + 1
        return depth[low] if low < len(depth) else None

    def _meets(self, candidate: Candidate) -> bool:
        meets = is_fast_enough(self._target, self._latency(candidate))
        self.rows[candidate].verdict = "fast enough" if meets else "too slow"
        return meets

    def _latency(self, candidate: Candidate) -> Latency:
        row = self.rows[candidate]
        if row.latency is None:
            row.latency = self._measure_one(candidate)
        return row.latency

    # ---- accuracy ----

    def _score(self, candidate: Candidate, share: float) -> float:
        scores = self.rows[candidate].scores
        if share not in scores:
            scores[share] = self._score_one(candidate, share)
        return scores[share]

    def _first_to_hold(self, ordered: Sequence[Candidate]) -> Candidate:
        """The first that holds the floor after full training, if there is a floor."""
        if self._floor is None:
            return ordered[0]
        for each in ordered:
            if self._score(each, 1.0) >= self._floor:
                return each
            self.rows[each].verdict = "loses too much after all steps"
        raise self._too_much(max(ordered, key=lambda each: self._score(each, 1.0)))

    def _too_much(self, best: Candidate) -> AccuracyError:
        return AccuracyError(
            f"no candidate holds the drop: {best}, the most accurate, has {self._score(best, 1.0):.4f} and "
            f"must have at least {self._floor:.4f}; nothing was written"
        )

    def _most_accurate(self, left: Sequence[Candidate]) -> Sequence[Candidate]:
        """The last two, the better one first, or the only one.

        Successive halving (Jamieson and Talwalkar, 2016); of equal scores the deeper candidate stays.

        Every training is a whole one, schedules included, of fewer steps: before its end, a student that is still
        being pruned says nothing about itself.
        """
        rungs = (len(left) - 1).bit_length()
        ordered = list(left)
        for rung in range(rungs):
            share = LAST_SHARE / 2 ** (rungs - 1 - rung)
            ordered = sorted(left, key=lambda each: -self._score(each, share))
            kept = ordered[: (len(left) + 1) // 2]
            for each in left:
                if each not in kept:
                    self.rows[each].verdict = f"less accurate than {kept[-1]} at {100 * share:g} % of the steps"
            left = [each for each in left if each in kept]
        return ordered

    def _fastest(self) -> Candidate:
        """The fastest that holds the floor after full training.

        Short trainings, the fastest candidate first, until one holds the floor already: this gives an order in which
        slower means more accurate, and full trainings bisect it.
        """
        assert self._floor is not None
        front: list[Candidate] = []
        rows = list(self.rows.values())
        for row in rows:
            self._latency(row.candidate)
            row.verdict = "slower than one that holds the drop"
        for row in sorted(rows, key=_milliseconds):
            score = self._score(row.candidate, FIRST_LOOK)
            better = max(front, key=lambda each: self._score(each, FIRST_LOOK), default=None)
            if better is not None and score <= self._score(better, FIRST_LOOK):
                row.verdict = f"slower and no more accurate than {better}"
                continue
            front.append(row.candidate)
            if score >= self._floor:
                break
        low, high = 0, len(front)
        while low < high:
            middle = (low + high) // 2
            if self._score(front[middle], 1.0) >= self._floor:
                high = middle
                continue
            for each in front[low : middle + 1]:
                self.rows[each].verdict = f"loses too much, as {front[middle]} does after all steps"
            low = middle + 1
        if low == len(front):
            raise self._too_much(front[-1])
        return front[low]


def is_fast_enough(target: Target, latency: Latency) -> bool:
    """Whether what was measured meets the target."""
    return (target.speedup is None or latency.speedup >= target.speedup) and (
        target.milliseconds is None or latency.milliseconds <= target.milliseconds
    )


def check_reachable(target: Target, smallest: Candidate, latency: Latency) -> None:
    """InputError if the smallest candidate is too slow."""
    if not is_fast_enough(target, latency):
        raise InputError(
            f"no candidate reaches {target}: the fastest, {smallest}, takes {latency.milliseconds:.3g} ms, "
            f"which is {latency.speedup:.2f}x dense int8"
        )


def _milliseconds(row: Row) -> float:
    assert row.latency is not None
    return row.latency.milliseconds


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `Row.to_json` for the terminal."""
    from fastcpu.report.table import text_table

    header = ("candidate", "ms", "x dense int8", "score (share of the steps)", "")
    cells = [
        (
            str(Candidate(row["layers"], row["sparsity"])),
            "" if row["milliseconds"] is None else f"{row['milliseconds']:.3g}",
            "" if row["speedup"] is None else f"{row['speedup']:.2f}",
            ", ".join(f"{each['score']:.4f} ({100 * each['share']:g} %)" for each in row["scores"]),
            row["verdict"],
        )
        for row in rows
    ]
    return text_table(header, cells)
