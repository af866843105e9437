"""Random structural edits of graph.json and of the safetensors header, each with the right checksums.

A model opens and gives one answer, whatever the number of threads, or it is refused with a typed error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu import FileFormatError, GraphError, InputError
from tests.runtime.hostile import FEEDS, Model, outcome, same, seed_model, weights_file

CASES = 300
KINDS = ["f32", "static", "dynamic", "ops"]

# What numbers and strings become: limits of every type on the way, and what JSON can say that the format cannot.
LITERALS: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 4, 16, 127, 128, 255, 256, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53,
    2**63, 2**64, 0.5, -0.0, 1e-45, 1e-38, 3.4e38, 1e39, 1e308, "", "f32", "u8", "s32", "s8", "tokens", "sequences",
    "output", "none", "table", "ids", "mask", "types", "dense", "block", [], {}, [0], {"a": 0},
]  # fmt: skip

Place = tuple[Any, Any]  # a container and a key of it


@pytest.fixture(scope="module")
def seeds() -> dict[str, Model]:
    return {kind: seed_model(kind) for kind in KINDS}


def places(node: Any) -> Iterator[Place]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from places(value)


def choice(rng: np.random.Generator, items: list[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def edit(document: Any, rng: np.random.Generator) -> str:
    """One random edit in place; says which."""
    found = list(places(document))
    container, key = choice(rng, found)
    other_container, other_key = choice(rng, found)
    kind = choice(rng, ["delete", "duplicate", "literal", "literal", "copy", "swap", "nudge", "rename", "shuffle"])
    value = container[key]
    if kind == "delete":
        del container[key]
    elif kind == "duplicate" and isinstance(container, list):
        container.insert(key, value)
    elif kind == "copy":
        container[key] = json.loads(json.dumps(other_container[other_key]))
    elif kind == "swap":
        a, b = json.dumps(value), json.dumps(other_container[other_key])
        container[key], other_container[other_key] = json.loads(b), json.loads(a)
    elif kind == "nudge" and isinstance(value, int | float) and not isinstance(value, bool):
        container[key] = choice(rng, [value + 1, value - 1, -value, 2 * value, value * 4, value + 0.5, value * 1e-30])
    elif kind == "rename" and isinstance(container, dict):
        container[choice(rng, ["x", "scale", str(other_key)])] = container.pop(key)
    elif kind == "shuffle" and isinstance(value, list):
        rng.shuffle(value)
    else:
        container[key] = choice(rng, LITERALS)
    return f"{kind} {key!r}"


def check(directory: Path, what: str) -> bool:
    """Whether the model opened; more than a typed error is a failure."""
    result = outcome(directory, FEEDS, threads=1)
    if isinstance(result, Exception):
        assert isinstance(result, FileFormatError | GraphError | InputError), f"{what}: {result!r}"
        return False
    again = outcome(directory, FEEDS, threads=3, execution="dense")
    assert not isinstance(again, Exception), f"{what}: {again!r}"
    assert same(result, again), f"{what}: two answers"
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_graph(seeds: dict[str, Model], kind: str, tmp_path: Path, seed: int) -> None:
    opened = 0
    for case in range(CASES):
        rng = np.random.default_rng([seed, case])
        model = seeds[kind].copy()
        what = ", ".join(edit(model.graph, rng) for _ in range(int(rng.integers(1, 4))))
        opened += check(model.write(tmp_path / "m"), f"case {case}: {what}")
    print(f"{opened} of {CASES} opened")
    assert 0 < opened < CASES


@pytest.mark.parametrize("kind", KINDS)
def test_header(seeds: dict[str, Model], kind: str, tmp_path: Path, seed: int) -> None:
    directory = seeds[kind].write(tmp_path / "m")
    header, data = seeds[kind].layout()
    written = (directory / "weights.safetensors").read_bytes()
    size = int.from_bytes(written[:8], "little")
    metadata = {"__metadata__": json.loads(written[8 : 8 + size])["__metadata__"]}
    for case in range(CASES // 2):
        rng = np.random.default_rng([seed, case])
        edited = json.loads(json.dumps(metadata | header))
        what = ", ".join(edit(edited, rng) for _ in range(int(rng.integers(1, 3))))
        (directory / "weights.safetensors").write_bytes(weights_file(edited, bytes(data)))
        check(directory, f"case {case}: {what}")


@pytest.mark.parametrize("kind", KINDS)
def test_weights(seeds: dict[str, Model], kind: str, tmp_path: Path, seed: int) -> None:
    """Random bytes in every tensor, with checksums that agree."""
    for number, name in enumerate(seeds[kind].entries):
        rng = np.random.default_rng([seed, number])
        model = seeds[kind].copy()
        data = bytearray(model.entries[name].data)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        model.entries[name].data = bytes(data)
        check(model.write(tmp_path / "m"), name)
