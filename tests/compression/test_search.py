"""Which candidate a search chooses, decided by made-up latencies and scores."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from fastcpu.compression.candidate import SPARSITIES, Candidate, candidates, recipe_for
from fastcpu.compression.latency import Latency
from fastcpu.compression.search import LAST_SHARE, Search, table
from fastcpu.compression.target import Target
from fastcpu.errors import AccuracyError, InputError
from fastcpu.recipe import Distill, Prune, Recipe, Student

DENSE = 12.0


def latency(candidate: Candidate) -> Latency:
    """A layer takes 2 ms dense; with zeros a third more, times what is left of it."""
    share = 1.0 if candidate.sparsity == 0 else (1 - candidate.sparsity) * 4 / 3
    mine = 2.0 * candidate.layers * share
    return Latency(mine, DENSE, DENSE / mine)


class Recorder:
    """A function of a search that remembers its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        return self.function(*arguments)


def search(
    target: Target, score: Callable[..., float], floor: float | None = None
) -> tuple[Search, Recorder, Recorder]:
    measure, scored = Recorder(latency), Recorder(score)
    return Search(candidates(6, True, True), target, measure, scored, floor), measure, scored


# ---- candidates ----


@pytest.mark.parametrize(
    ("depth", "expected"), [(12, [12, 10, 8, 6, 4]), (6, [6, 5, 4, 3, 2]), (4, [4, 3, 2, 1]), (1, [1])]
)
def test_depths(depth: int, expected: list[int]) -> None:
    found = candidates(depth, True, True)
    assert [each[0].layers for each in found] == expected
    assert all([each.sparsity for each in depth] == list(SPARSITIES) for depth in found)


def test_what_cannot_vary_does_not() -> None:
    assert candidates(12, False, False) == [[Candidate(12, 0.0)]]


def test_a_recipe_keeps_all_but_layers_and_sparsity() -> None:
    recipe = Recipe("r", "", Student(4, "last"), Prune(0.3, score="snip_momentum"), Distill(batch=7))
    changed = recipe_for(recipe, Candidate(2, 0.7), 6)
    assert changed == Recipe("r", "", Student(2, "last"), Prune(0.7, score="snip_momentum"), Distill(batch=7))
    whole = recipe_for(recipe, Candidate(6, 0.0), 6)
    assert (whole.student, whole.prune) == (None, None)


# ---- a target ----


def test_of_each_depth_the_least_compressed_that_is_fast_enough() -> None:
    found, measure, _ = search(Target(speedup=4.0), lambda *_: 0.0)
    # 3 ms at most: 6 layers need 0.82, 5 layers 0.775, 4 layers 0.72, 3 layers 0.625, 2 layers 0.44
    assert found.fast_enough() == [Candidate(6, 0.9), Candidate(5, 0.8), Candidate(3, 0.7), Candidate(2, 0.5)]
    assert len(measure.calls) == len(set(measure.calls)) < 20
    assert found.rows[Candidate(4, 0.9)].verdict == "more compressed than 5 layers, 80 % zero, which is fast enough"


@pytest.mark.parametrize("milliseconds", [1.0, 1.5, 2.2, 3.1, 4.0, 5.0, 7.0, 9.0, 12.0])
def test_skipping_measurements_changes_nothing(milliseconds: float) -> None:
    found, _, _ = search(Target(milliseconds=milliseconds), lambda *_: 0.0)
    meets = [each for each in found.rows if latency(each).milliseconds <= milliseconds]
    least = [a for a in meets if not any(b != a and b.layers >= a.layers and b.sparsity <= a.sparsity for b in meets)]
    assert found.fast_enough() == least


def test_halving_keeps_the_better_half() -> None:
    accuracy = {6: 0.80, 5: 0.81, 3: 0.84, 2: 0.79}
    found, _, score = search(Target(speedup=4.0), lambda each, share: accuracy[each.layers] + share)
    assert found.choose() == Candidate(3, 0.7)
    assert [(each.layers, share) for each, share in score.calls] == [
        (6, LAST_SHARE / 2),
        (5, LAST_SHARE / 2),
        (3, LAST_SHARE / 2),
        (2, LAST_SHARE / 2),
        (5, LAST_SHARE),
        (3, LAST_SHARE),
    ]
    assert found.rows[Candidate(3, 0.7)].verdict == "chosen"
    assert found.rows[Candidate(5, 0.8)].verdict == "less accurate than 3 layers, 70 % zero at 20 % of the steps"


def test_measurement_decides_between_depth_and_sparsity() -> None:
    """A sentence task loses little with layers, a token task little with zeros."""
    for best in (6, 2):
        found, _, _ = search(Target(speedup=4.0), lambda each, _, best=best: -abs(each.layers - best))
        assert found.choose().layers == best


def test_one_that_is_fast_enough_is_not_tried_out() -> None:
    found, _, score = search(Target(speedup=1.0 / 0.3), lambda *_: 0.0)
    only = Search([[Candidate(6, 0.0), Candidate(6, 0.9)]], Target(speedup=3.0), latency, score)
    assert only.choose() == Candidate(6, 0.9)
    assert not score.calls
    assert len(found.fast_enough()) > 1


def test_a_speed_that_nothing_reaches() -> None:
    found, measure, score = search(Target(milliseconds=0.1), lambda *_: 0.0)
    with pytest.raises(
        InputError, match=r"reaches 0.1 ms: the fastest, 2 layers, 90 % zero, takes 0.533 ms, .* 22.50x"
    ):
        found.choose()
    assert len(measure.calls) == 1
    assert not score.calls


@pytest.mark.parametrize(("floor", "expected", "full"), [(0.83, 3, [3]), (0.0, 3, [3]), (0.95, 2, [3, 2])])
def test_a_target_and_a_drop(floor: float, expected: int, full: list[int]) -> None:
    """The second best of short trainings is the model where only it holds the drop."""

    def score(each: Candidate, share: float) -> float:
        return {3: 0.9, 2: 0.99}[each.layers] if share == 1 else -abs(each.layers - 3)

    found, _, calls = search(Target(speedup=4.0), score, floor)
    assert found.choose().layers == expected
    assert [each.layers for each, share in calls.calls if share == 1] == full
    assert (floor == 0.95) == (found.rows[Candidate(3, 0.7)].verdict == "loses too much after all steps")


def test_a_target_and_a_drop_that_cannot_be_held() -> None:
    found, _, score = search(Target(speedup=4.0), lambda each, share: share - each.layers / 100, 2.0)
    with pytest.raises(AccuracyError, match=r"no candidate holds the drop: 2 layers, 50 % zero, the most accurate"):
        found.choose()
    assert sum(share == 1 for _, share in score.calls) == 2


# ---- a drop ----


def accuracy(candidate: Candidate, share: float) -> float:
    """Rises with layers, weights and training."""
    return 0.8 + 0.01 * candidate.layers - 0.1 * candidate.sparsity**2 + 0.02 * share


FLOORS = [accuracy(each, 1.0) - 1e-9 for depth in candidates(6, True, True) for each in depth]


@pytest.mark.parametrize("floor", FLOORS)
def test_the_fastest_that_holds_the_drop(floor: float) -> None:
    found, _, score = search(Target(), accuracy, floor)
    chosen = found.choose()
    assert accuracy(chosen, 1.0) >= floor
    holding = [each for each in found.rows if accuracy(each, 1.0) >= floor]
    assert latency(chosen).milliseconds == min(latency(each).milliseconds for each in holding)
    assert len([share for _, share in score.calls if share == 1.0]) <= 5
    assert found.rows[chosen].verdict == "chosen"


def test_a_drop_that_nothing_holds() -> None:
    found, _, _ = search(Target(), accuracy, 0.99)
    with pytest.raises(
        AccuracyError, match=r"6 layers, dense, the most accurate, has 0.8800 and must have at least 0.99"
    ):
        found.choose()


# ---- records ----


def test_the_table_names_every_candidate_and_why_it_was_dropped() -> None:
    found, _, _ = search(Target(speedup=4.0), accuracy)
    found.choose()
    rows = [row.to_json() for row in found.rows.values()]
    assert [row["verdict"] for row in rows].count("chosen") == 1
    assert not [row for row in rows if row["verdict"] == "not looked at"]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert any(line.startswith("6 layers, 90 % zero  ") and " 7.50  " in line for line in lines)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"speedup": 2.0, "milliseconds": 3.0}, r"not both"),
    *(({"speedup": value}, r"must be above 1, not") for value in (1.0, 0.0, -2.0, float("nan"), float("inf"))),
    *(({"milliseconds": value}, r"positive number of milli") for value in (0.0, -1.0, float("nan"), float("inf"))),
    ({"speedup": 2.0, "batch": 0}, r"must be at least 1"),
    ({"speedup": 2.0, "sequence": 0}, r"must be at least 1"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_targets_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Target(**options).checked()


def test_what_is_measured_is_asked_for_once() -> None:
    found, measure, score = search(Target(), accuracy, accuracy(Candidate(3, 0.6), 1.0))
    found.choose()
    for calls in (measure.calls, score.calls):
        assert all(a != b for a, b in itertools.combinations(calls, 2))
