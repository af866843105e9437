"""What the serving benchmark asks of a peer: a command that starts its server, and its requests and responses."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.environments import ROOT, python_of

HOST = "127.0.0.1"
"""All servers listen here only."""
JSON = {"Content-Type": "application/json"}


class Request(NamedTuple):
    """A POST request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Peer(ABC):
    """One embedding server in an environment of its own.

    Life: `prepare` makes the files that the server loads, `command` with `environ` starts it, `ready_path` answers 200
    from when it can embed. It then takes what `body` makes, and `vectors` reads its responses.
    """

    name: ClassVar[str]
    """As on the command line and in result files."""
    variants: ClassVar[tuple[str, ...]]
    """Its engines, the default one first."""
    ready_path: ClassVar[str] = "/health"
    defaults: ClassVar[Mapping[str, str]] = {}
    """Its options and what they are if not given."""

    def __init__(self, variant: str = "", options: Mapping[str, str] | None = None) -> None:
        """`variant`: one of `variants`; `options`: some of `defaults`. ValueError for others."""
        self.variant = variant or self.variants[0]
        if self.variant not in self.variants:
            raise ValueError(f"{self.name} has no variant {self.variant!r}; it has {', '.join(self.variants)}")
        unknown = set(options or {}) - set(self.defaults)
        if unknown:
            raise ValueError(f"{self.name} has no option {sorted(unknown)}; it has {sorted(self.defaults)}")
        self.options = {**self.defaults, **(options or {})}

    @property
    def environment(self) -> str:
        """The environment of `bench.environments` that has its packages."""
        return self.name

    @property
    def python(self) -> str:
        """The Python of its environment; FileNotFoundError that says how to make it."""
        return str(python_of(self.environment))

    def prepare(self, model_dir: Path, cache: Path) -> Path:  # noqa: ARG002  (most need no files of their own)
        """What `command` takes as its model: `model_dir`, or files made of it in `cache`."""
        return model_dir

    @abstractmethod
    def command(self, model_dir: Path, port: int, threads: int) -> list[str]:
        """The server on 127.0.0.1:`port`, computing with `threads` threads; `model_dir` comes from `prepare`."""

    def environ(self, model_dir: Path, threads: int) -> dict[str, str]:  # noqa: ARG002  (some read it)
        """What its environment variables differ in from this process's."""
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
        return dict.fromkeys(counts, str(threads)) | {
            "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore",
        }

    @abstractmethod
    def body(self, texts: Sequence[str]) -> Request:
        """The request that embeds `texts`."""

    @abstractmethod
    def vectors(self, response: bytes) -> NDArray[np.float32]:
        """float32 [texts, dimension], from the body of a response with status 200."""
