"""A model that is being served: its session, its tasks, and how many requests hold it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fastcpu.errors import FastcpuError, InputError
from fastcpu.graph.ir import EMBEDDING
from fastcpu.runtime import Session
from fastcpu.serve.config import ModelConfig
from fastcpu.serve.limits import read_limits
from fastcpu.tasks import TASKS
from fastcpu.tasks.engine import SessionEngine
from fastcpu.tasks.task import AnyTask
from fastcpu.tasks.tokenizer import Encoded, length_limit, read_config

State = frozenset[tuple[str, int, int, int]]
_WARM_UP_TOKENS = (16, 128)
_generations = itertools.count(1)


class Model:
    """An open model. Requests hold it while they need it, so that it can be replaced at any time.

    Args:
        name: what clients call it.
        config: where it is and how it is run.
        threads: threads per run.

    Attributes:
        lane: its queue in the scheduler; every opening of a model has its own.
        tasks: what it can do, by name in `fastcpu.tasks`.
        main: the name of the first of them.
        limits: of what it can be given.
        users: how many requests hold it.
        queued: whether the scheduler has its queue.
        loaded: when it was opened, seconds since 1970.
        state: of its files when it was opened, as `state_of` gives it.

    Raises:
        FastcpuError: the directory cannot be served; the message begins with name and directory, and says why.
    """

    def __init__(self, name: str, config: ModelConfig, threads: int) -> None:
        self.name = name
        self.config = config
        self.version = config.version
        self.directory = Path(config.path)
        self.lane = f"{name}/{config.version}#{next(_generations)}"
        with self._naming():
            self.state = state_of(self.directory)
            self.session = Session(config.path, threads=threads)
            self.engine = SessionEngine(self.session)
            self.limits = read_limits(self.directory)
            longest = length_limit(self.directory)
            if config.max_length is not None and config.max_length > longest:
                raise InputError(f"max_length is {config.max_length}, and the model takes {longest} tokens at most")
            names = _tasks_of(self.engine, config.task)
            self.tasks: dict[str, AnyTask] = {
                task: TASKS[task](self.engine, max_length=config.max_length) for task in names
            }
        self.main = names[0]
        self.max_length = self.tasks[self.main].tokenizer.max_length
        self.users = 0
        self.queued = False
        self.loaded = time.time()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Lets errors begin with name and directory."""
        try:
            yield
        except FastcpuError as error:
            kind = InputError if isinstance(error, InputError) else FastcpuError
            raise kind(f"model {self.name!r} ({self.directory}): {error}") from error

    def warm_up(self) -> None:
        """Runs a few tokens: memory is there, weights are packed, and a model that computes nonsense is found out."""
        with self._naming():
            for tokens in _WARM_UP_TOKENS:
                ids = np.full(min(tokens, self.max_length), 1, np.int64)
                outputs = self.engine.run([Encoded(ids, np.zeros_like(ids))])
                for name, values in outputs.items():
                    if not np.isfinite(values).all():
                        raise InputError(f"it computes values of {name} that are not finite")

    def task(self, *names: str) -> AnyTask | None:
        """The first of these tasks that the model has."""
        return next((self.tasks[name] for name in names if name in self.tasks), None)


def state_of(directory: Path) -> State:
    """What changes when a file of a model directory does; InputError if that is none."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(directory) if entry.is_file()]
    except OSError as error:
        raise InputError(f"no model directory: {error.strerror}") from error
    if not any(name == "graph.json" for name, _ in found):
        raise InputError("no model directory: it has no graph.json")
    return frozenset((name, each.st_mtime_ns, each.st_size, each.st_ino) for name, each in found)


def _tasks_of(engine: SessionEngine, given: str | None) -> Sequence[str]:
    """The tasks for a model with these outputs, the most telling first."""
    if given is not None:
        return (given,)
    outputs = engine.outputs
    if EMBEDDING in outputs or "last_hidden_state" in outputs:
        return ("embed",)
    if "start_logits" in outputs and "end_logits" in outputs:
        return ("qa",)
    logits = outputs.get("logits", ())
    if len(logits) == 2:
        # One label is a cross-encoder's score of relevance as often as a yes-or-no question.
        return ("rerank", "classify") if logits[1] == 1 else ("classify",)
    if len(logits) == 3:
        architectures = read_config(engine.directory / "config.json").get("architectures") or ()
        return ("fill_mask",) if any("MaskedLM" in str(each) for each in architectures) else ("tag",)
    raise InputError(f"it has outputs for none of the tasks {', '.join(TASKS)}")
