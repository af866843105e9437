"""Engines of known behaviour for tests of the benchmark; no package is needed to run them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.e2e.protocol import Answers, Engine, Precision, cached_artifact
from bench.inputs import Feeds, Shape
from bench.models import PreparedModel


class Fake(Engine):
    """Answers input_ids + error as float32 after `delay` seconds; `slow` takes four times as long as `quick`."""

    name: ClassVar[str] = "fake_engines:Fake"
    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    option_names: ClassVar[tuple[str, ...]] = ("delay", "error", "fail_in")
    precision: Precision = "fp32"

    def _maybe_fail(self, where: str) -> None:
        if self.options.get("fail_in") == where:
            raise RuntimeError(f"made to fail in {where}")

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:
        print("an engine may print to standard output")
        self._maybe_fail("prepare")
        self._output = model.outputs[0]
        cached_artifact(cache_dir / "made", {"model": model.fingerprint}, lambda path: (path / "file").touch() or None)

    def load(self, threads: int) -> None:
        self._maybe_fail("load")
        self._threads = threads

    def variants(self, shape: Shape) -> tuple[str, ...]:  # noqa: ARG002
        return ("slow", "quick", "wrong")

    def use(self, variant: str, shape: Shape) -> None:  # noqa: ARG002
        self._variant = variant

    def run(self, feeds: Feeds) -> Answers:
        self._maybe_fail("run")
        if self.options.get("fail_in") == "exit":
            os._exit(3)
        time.sleep(float(self.options.get("delay", "0.001")) * (4 if self._variant == "slow" else 1))
        error = 1.0 if self._variant == "wrong" else float(self.options.get("error", "0"))
        return {self._output: feeds["input_ids"].astype(np.float32) + np.float32(error)}

    def info(self) -> dict[str, Any]:
        return {"threads": self._threads, "pid": os.getpid()}


class FakeInt8(Fake):
    """The same, held to the tolerance of int8 engines."""

    name: ClassVar[str] = "fake_engines:FakeInt8"
    precision: Precision = "int8"


class FakeOtherWeights(Fake):
    """Answers that are 5 too large, which its own reference says they should be."""

    name: ClassVar[str] = "fake_engines:FakeOtherWeights"

    def variants(self, shape: Shape) -> tuple[str, ...]:  # noqa: ARG002
        return ("quick",)

    def run(self, feeds: Feeds) -> Answers:
        return {
            self._output: feeds["input_ids"].astype(np.float32) + np.float32(5 + float(self.options.get("error", "0")))
        }

    def reference(self, feeds: Feeds) -> Answers | None:
        return {self._output: feeds["input_ids"].astype(np.float32) + np.float32(5)}


class FakeElsewhere(Fake):
    """An engine whose environment nobody made."""

    name: ClassVar[str] = "fake_engines:FakeElsewhere"
    environment: ClassVar[str] = "nowhere"


class FakeReference(Fake):
    """Exact answers, one variant."""

    name: ClassVar[str] = "fake_engines:FakeReference"

    def variants(self, shape: Shape) -> tuple[str, ...]:  # noqa: ARG002
        return ("quick",)
