"""What the benchmark asks of an engine, and the cache of what engines derive from a model."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bench.inputs import Feeds, Shape
from bench.models import PreparedModel

Answers = dict[str, NDArray[np.float32]]
"""{output name: float32 [batch, sequence, ...]}."""

Precision = Literal["fp32", "int8"]


class Engine(ABC):
    """One inference engine, driven in a process of its own.

    Life: `prepare` in a short-lived process makes files; then, in the timed process, `prepare` again (finding them),
    `load`, and for each shape `use` one of `variants`, then `run` many times. The engine's package is imported by
    these methods and not with the module, so that a missing one fails only its own engine.
    """

    name: ClassVar[str]
    """As on the command line and in result files."""
    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions are reported."""
    environment: ClassVar[str] = ""
    """The environment of `bench.environments` that has its packages; empty for the benchmark's own."""
    models: ClassVar[tuple[str, ...]] = ()
    """The benchmark models that it runs; empty for all."""
    precision: Precision
    """Decides which tolerance the answers are held to."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """`options`: this engine's --option KEY=VALUE; ValueError for a key that `option_names` lacks."""
        unknown = set(options) - set(self.option_names)
        if unknown:
            raise ValueError(f"{self.name} has no option {sorted(unknown)}; it has {list(self.option_names)}")
        self.options = dict(options)

    option_names: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:
        """Makes what the engine needs of `model` in `cache_dir`, unless it is there; remembers where it is."""

    @abstractmethod
    def load(self, threads: int) -> None:
        """Readies the engine to compute with `threads` threads."""

    def variants(self, shape: Shape) -> tuple[str, ...]:  # noqa: ARG002  (not every engine's choice depends on it)
        """Configurations worth trying at `shape`; the benchmark times the fastest whose answers are right."""
        return ("default",)

    @abstractmethod
    def use(self, variant: str, shape: Shape) -> None:
        """Makes `run` use `variant` for inputs of `shape`."""

    @abstractmethod
    def run(self, feeds: Feeds) -> Answers:
        """Whole model, NumPy in ({input name: int64 [batch, sequence]}) and NumPy out."""

    def reference(self, feeds: Feeds) -> Answers | None:  # noqa: ARG002  (for those that have one)
        """The right answers of the variant in use, where it computes other weights than the benchmark's model has."""
        return None

    def info(self) -> dict[str, Any]:
        """What a reader needs to repeat the run: configuration and settings, JSON-serializable."""
        return {}


def cached_artifact(path: Path, stamp: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """`path`, a directory that `build` filled; it is built again when `stamp` is not the one it was built with.

    `build` gets a directory to write to that is renamed when it returns, so a half-built one is never used.
    """
    stamp_file = path / "stamp.json"
    if stamp_file.exists() and json.loads(stamp_file.read_text()) == dict(stamp):
        return path
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    build(partial)
    (partial / stamp_file.name).write_text(json.dumps(dict(stamp), indent=2) + "\n")
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)
    return path
