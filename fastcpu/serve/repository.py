"""The models of a server: by name and version, loaded, replaced and unloaded while requests run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from fastcpu.errors import FastcpuError
from fastcpu.serve.config import Config, ModelConfig
from fastcpu.serve.executor import Executor
from fastcpu.serve.model import Model, state_of
from fastcpu.serve.model import State as Files
from fastcpu.serve.problems import Problem

State = Literal["loading", "ready", "unavailable"]
Change = Callable[[str, Model | None, str], None]
"""Is told the name of a model, what it is now, and why it could not be loaded ("" if it could)."""
UNLOADED = "unloaded"
"""The reason of a model that was taken out of service on purpose."""


class ModelError(FastcpuError):
    """A model cannot be opened, for a reason that nobody foresaw."""


@dataclass
class Slot:
    """The place of a model, whether it is loaded or not.

    Attributes:
        config: how it is run.
        model: what answers, None while there is none.
        state: of loading.
        reason: why the last loading failed, "" if it did not.
        lock: held while the model is loaded or unloaded.
        tried: the files that were last opened, whether they could be or not.
        seen: the files that `refresh` saw last.
    """

    config: ModelConfig
    model: Model | None = None
    state: State = "unavailable"
    reason: str = "not loaded"
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tried: Files | None = None
    seen: Files | None = None


class Repository:
    """The models that a configuration names.

    Args:
        config: of the server.
        executor: which runs them.
        threads: threads per run.
        changed: told of every model that was loaded or unloaded, or could not be.
    """

    def __init__(self, config: Config, executor: Executor, threads: int, changed: Change) -> None:
        self._executor = executor
        self._threads = threads
        self._changed = changed
        self._slots: dict[str, Slot] = {}
        self._names = _names(config)
        self._applying = asyncio.Lock()
        for name in config.models:
            self._slots[name] = Slot(config.model(name))

    def names(self) -> list[str]:
        """Of all models, loaded or not."""
        return list(self._slots)

    def known(self) -> dict[str, str]:
        """The models by all their names."""
        return dict(self._names)

    def slot(self, name: str) -> Slot:
        """The place of a model, by its name or an alias. Problem if there is none."""
        known = self._names.get(name)
        if known is None:
            there = ", ".join(self._slots)
            raise Problem(404, "model_not_found", f"there is no model {name!r:.200}; there are {there}", param="model")
        return self._slots[known]

    def models(self) -> list[Model]:
        """Those that answer."""
        return [slot.model for slot in self._slots.values() if slot.model is not None]

    @property
    def ready(self) -> bool:
        """Whether any model answers. One that an operator unloaded or added broken does not stop the others."""
        return any(slot.model is not None for slot in self._slots.values())

    def find(self, name: str | None, version: str | None = None) -> Model:
        """The model of that name, or the only one that answers. Problem if it does not answer."""
        if name is None:
            names = [name for name, slot in self._slots.items() if slot.model is not None] or self.names()
            if len(names) != 1:
                raise Problem(400, "invalid_request", f"which model? There are {', '.join(names)}", param="model")
            name = names[0]
        slot = self.slot(name)
        if slot.model is None:
            raise Problem(
                503, "model_not_ready", f"model {name!r} is {slot.state}: {slot.reason}", param="model", retry_after=1.0
            )
        if version is not None and version != slot.model.version:
            raise Problem(
                404,
                "model_not_found",
                f"model {name!r} has no version {version!r:.60}; it has {slot.model.version}",
                param="version",
            )
        return slot.model

    @contextmanager
    def held(self, model: Model) -> Iterator[None]:
        """Keeps a model open for a request, even if it was replaced or unloaded since the request found it."""
        if not model.queued:
            self._open_queue(model)
        model.users += 1
        try:
            yield
        finally:
            model.users -= 1
            self._close_unused(model)

    def _open_queue(self, model: Model) -> None:
        self._executor.locked(lambda scheduler: scheduler.add(model.lane, model.config.policy()))
        model.queued = True

    def _close_unused(self, model: Model) -> None:
        """Forgets the queue of a model that nobody holds and new requests will not find. Nothing waits in it then."""
        slot = self._slots.get(model.name)
        if model.queued and not model.users and (slot is None or slot.model is not model):
            self._executor.locked(lambda scheduler: scheduler.remove(model.lane))
            model.queued = False

    async def load(self, name: str, config: ModelConfig | None = None) -> Model:
        """Opens a model, and lets it take the place of the one of that name, whose requests are answered by it still.

        Args:
            name: of a model of the configuration, or an alias.
            config: how it is run from now on; by default as until now.

        Raises:
            FastcpuError: it cannot be served; the one before goes on answering.
            Problem: there is no such model.
        """
        self.slot(name)
        return await self._load(self._names[name], config)

    async def _load(self, name: str, config: ModelConfig | None) -> Model:
        slot = self._slots[name]
        async with slot.lock:
            if self._slots.get(name) is not slot:
                raise Problem(404, "model_not_found", f"model {name!r} was removed", param="model")
            wanted = slot.config if config is None else config
            if slot.model is None:
                slot.state, slot.reason = "loading", "not loaded yet"
            slot.tried = _files(wanted)
            try:
                model = await asyncio.get_running_loop().run_in_executor(None, self._open, name, wanted)
            except BaseException as error:
                slot.reason = str(error) or type(error).__name__
                if slot.model is None:
                    slot.state = "unavailable"
                self._changed(name, slot.model, slot.reason)
                if isinstance(error, FastcpuError) or not isinstance(error, Exception):
                    raise
                raise ModelError(f"model {name!r} cannot be opened: {type(error).__name__}: {error}") from error
            slot.config = wanted
            self._replace(slot, model)
            slot.state, slot.reason = "ready", ""
            self._changed(name, model, "")
            return model

    def _replace(self, slot: Slot, model: Model | None) -> None:
        """Lets new requests find `model` from now on."""
        if model is not None:
            self._open_queue(model)
        before, slot.model = slot.model, model
        if before is not None:
            self._close_unused(before)

    def _open(self, name: str, config: ModelConfig) -> Model:
        model = Model(name, config, self._threads)
        model.warm_up()
        return model

    async def unload(self, name: str) -> None:
        """Takes a model out of service; requests that hold it are answered. Nothing if it is not loaded."""
        self.slot(name)
        await self._unload(self._names[name])

    async def _unload(self, name: str) -> None:
        slot = self._slots.get(name)
        if slot is None:  # was removed meanwhile
            return
        async with slot.lock:
            loaded = slot.model is not None
            self._replace(slot, None)
            slot.state, slot.reason = "unavailable", UNLOADED
            if loaded:
                self._changed(name, None, UNLOADED)

    async def apply(self, config: Config) -> list[str]:
        """Makes the models those of a new configuration; gives what could not be loaded, with the reason.

        Models are opened again if their settings or their files have changed; one that was unloaded, only if its
        settings have. What is removed goes when all others are
        there; until then the names stay as they were.
        """
        async with self._applying:
            names, failed = _names(config), []
            for name in config.models:
                self._slots.setdefault(name, Slot(config.model(name)))
            self._names = {**names, **self._names}
            for name in config.models:
                slot, wanted = self._slots[name], config.model(name)
                if slot.model is None and slot.reason == UNLOADED and slot.config == wanted:
                    continue  # an operator wanted it so
                if slot.model is None or slot.config != wanted or slot.model.state != _files(wanted):
                    try:
                        await self._load(name, wanted)
                    except FastcpuError as error:
                        failed.append(f"{name}: {error}")
            self._names = {**self._names, **names}
            for name in [name for name in self._slots if name not in config.models]:
                await self._unload(name)
                del self._slots[name]
                self._names = {known: owner for known, owner in self._names.items() if owner != name}
            self._names = names
            return failed

    async def refresh(self, settled: bool = False) -> None:
        """Opens models again whose files have changed; one that cannot be opened is tried again when they change.

        Args:
            settled: leaves alone what has changed since the last call: somebody may be writing it.
        """
        for name, slot in list(self._slots.items()):
            if slot.lock.locked() or (slot.model is None and slot.reason == UNLOADED):
                continue
            files = _files(slot.config)
            before, slot.seen = slot.seen, files
            if files is None or files == slot.tried or (settled and files != before):
                continue
            try:
                await self._load(name, None)
            except (FastcpuError, Problem):
                continue  # `changed` was told

    async def close(self) -> None:
        """Unloads all models."""
        for name in self.names():
            await self._unload(name)


def _names(config: Config) -> dict[str, str]:
    """The models by name and alias."""
    return {known: name for name in config.models for known in (name, *config.model(name).aliases)}


def _files(config: ModelConfig) -> Files | None:
    """The state of the files of a model; None while they are no model, being replaced or removed."""
    try:
        return state_of(Path(config.path))
    except FastcpuError:
        return None


def settings(model: Model) -> dict[str, object]:
    """How a model is run, for people."""
    found: dict[str, object] = msgspec.to_builtins(model.config)
    return found
