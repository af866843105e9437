"""Where a gate refuses a model, layers of it are left in f32: those first whose integers cost the outputs most."""

from __future__ import annotations

import glob
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcpu.errors import AccuracyError
from fastcpu.pipeline import Compiled, compile  # noqa: A004  (the public name)
from fastcpu.tasks.engine import FloatArray, as_engine, batches
from fastcpu.tasks.tokenizer import Text, Tokenizer

_NUMBERED = re.compile(r".*?\.\d+(?=\.)")
INPUTS = 64
"""On so many texts or pairs the outputs of models are compared."""


def fall_back(
    refused: AccuracyError,
    build: Callable[[Sequence[str]], Compiled],
    layers: Sequence[Sequence[str]],
    tell: Callable[[str], None],
) -> Compiled:
    """The first model that the gate accepts of those with one layer left alone, two, and so on.

    Args:
        refused: why the gate has refused the model with all layers compressed.
        build: makes, measures and publishes a model in which the linears with these names are left alone.
        layers: names of the linears of each layer, in the order in which they are given up.
        tell: called with what is tried.

    Raises:
        AccuracyError: no model with a layer that is compressed was accepted.
    """
    alone: list[str] = []
    for count, names in enumerate(layers[:-1], 1):
        alone += names
        tell(f"{count} of {len(layers)} layers left alone")
        try:
            return build(alone)
        except AccuracyError as error:
            last = error
    if not alone:
        raise refused
    raise AccuracyError(f"with {len(layers) - 1} of {len(layers)} layers left alone: {last}") from refused


def by_error(
    source: Path, inputs: Sequence[Text], options: Mapping[str, Any], threads: int, folder: Path, max_length: int
) -> list[list[str]]:
    """The layers that options of `fastcpu.compile` compress, as names of their linears, costly ones first.

    The cost of a layer is the squared error of the model's outputs where this layer alone is compressed, for some of
    the inputs, evenly spread and cut to ``max_length`` tokens.
    Linears outside numbered layers are one layer together, unless there is pruning. ``folder`` is where models are made
    that are deleted again.
    """
    places = np.linspace(0, len(inputs) - 1, min(len(inputs), INPUTS)).round().astype(int)
    taken = [inputs[place] for place in places]
    with tempfile.TemporaryDirectory(dir=folder, prefix="fallback.") as scratch:

        def made(name: str, **chosen: Any) -> Compiled:
            return compile(source, Path(scratch) / name, threads=threads, **chosen)

        def outputs(name: str, **chosen: Any) -> list[Mapping[str, FloatArray]]:
            return _outputs(made(name, **chosen).directory, taken, threads, max_length)

        report = made("whole", **options).report
        layers: dict[str, list[str]] = {}
        for each in report["layers"]:
            # Pruning leaves linears outside the layers alone, and refuses to have nothing else.
            if each["pruned"] if "sparsity" in options else each["name"] not in report["kept_f32"]:
                found = _NUMBERED.match(each["name"])
                layers.setdefault(found[0] if found else "", []).append(each["name"])
        if len(layers) == 1:
            return list(layers.values())
        wanted = outputs("plain")
        costs = {}
        for number, (layer, names) in enumerate(layers.items()):
            chosen = {**options, "only": [glob.escape(name) for name in names], "ignore": ()}
            costs[layer] = _error(outputs(str(number), **chosen), wanted)
    return [layers[layer] for layer in sorted(layers, key=lambda layer: -costs[layer])]


def _outputs(directory: Path, inputs: Sequence[Text], threads: int, max_length: int) -> list[Mapping[str, FloatArray]]:
    engine = as_engine(directory, threads)
    encoded = Tokenizer(directory, max_length).encode(inputs)
    return [engine.run([encoded[row] for row in rows]) for rows in batches([len(each.ids) for each in encoded], None)]


def _error(found: Sequence[Mapping[str, FloatArray]], wanted: Sequence[Mapping[str, FloatArray]]) -> float:
    """The squared error of all outputs, each relative to its squares."""
    pairs = [(mine[name], theirs[name]) for mine, theirs in zip(found, wanted, strict=True) for name in theirs]
    return sum(float(np.square(a - b).sum() / max(float(np.square(b).sum()), 1e-30)) for a, b in pairs)
