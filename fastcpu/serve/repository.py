"""The models of a server: by name and version, loaded, replaced and unloaded while requests run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec

from fastcpu.errors import FastcpuError
from fastcpu.serve.config import Config, ModelConfig
from fastcpu.serve.executor import Executor
from fastcpu.serve.model import Model, modified
from fastcpu.serve.problems import Problem

State = Literal["loading", "ready", "unavailable"]
Change = Callable[[str, Model | None, str], None]
"""Is told the name of a model, what it is now, and why it could not be loaded ("" if it could)."""


@dataclass
class Slot:
    """The place of a model, whether it is loaded or not.

    Attributes:
        config: how it is run.
        model: what answers, None while there is none.
        state: of loading.
        reason: why the last loading failed, "" if it did not.
        lock: held while the model is loaded or unloaded.
    """

    config: ModelConfig
    model: Model | None
    state: State
    reason: str
    lock: asyncio.Lock


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
        self._names: dict[str, str] = {}
        for name in config.models:
            self._add(name, config.model(name))

    def _add(self, name: str, config: ModelConfig) -> None:
        self._slots[name] = Slot(config, None, "unavailable", "not loaded", asyncio.Lock())
        self._names.update(dict.fromkeys((name, *config.aliases), name))

    def names(self) -> list[str]:
        """Of all models, loaded or not."""
        return list(self._slots)

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
        """Whether every model answers."""
        return all(slot.model is not None for slot in self._slots.values())

    def find(self, name: str | None, version: str | None = None) -> Model:
        """The model of that name, or the only one there is. Problem if it does not answer."""
        if name is None:
            if len(self._slots) != 1:
                there = ", ".join(self._slots)
                raise Problem(400, "invalid_request", f"which model? There are {there}", param="model")
            name = next(iter(self._slots))
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
        """Keeps a model open for a request."""
        model.users += 1
        try:
            yield
        finally:
            model.users -= 1
            if not model.users and self._slots[model.name].model is not model:
                self._close(model)

    def _close(self, model: Model) -> None:
        """Forgets a model that was replaced and that nobody holds."""
        waiting = self._executor.locked(lambda scheduler: scheduler.remove(model.lane))
        self._executor.fail(
            waiting, Problem(503, "model_not_ready", f"model {model.name!r} was unloaded", retry_after=1.0)
        )

    async def load(self, name: str, config: ModelConfig | None = None) -> Model:
        """Opens a model, and lets it take the place of the one of that name, whose requests are answered by it still.

        Args:
            name: of a model of the configuration, or an alias.
            config: how it is run from now on; by default as until now.

        Raises:
            FastcpuError: it cannot be served; the one before goes on answering.
        """
        slot = self.slot(name)
        name = self._names[name]
        async with slot.lock:
            wanted = slot.config if config is None else config
            if slot.model is None:
                slot.state, slot.reason = "loading", "not loaded yet"
            try:
                model = await asyncio.get_running_loop().run_in_executor(None, self._open, name, wanted)
            except FastcpuError as error:
                slot.reason = str(error)
                if slot.model is None:
                    slot.state = "unavailable"
                self._changed(name, slot.model, slot.reason)
                raise
            self._executor.locked(lambda scheduler: scheduler.add(model.lane, wanted.policy()))
            slot.config = wanted
            before, slot.model = slot.model, model
            slot.state, slot.reason = "ready", ""
            if before is not None and not before.users:
                self._close(before)
            self._changed(name, model, "")
            return model

    def _open(self, name: str, config: ModelConfig) -> Model:
        model = Model(name, config, self._threads)
        model.warm_up()
        return model

    async def unload(self, name: str) -> None:
        """Takes a model out of service; requests that hold it are answered. Nothing if it is not loaded."""
        slot = self.slot(name)
        async with slot.lock:
            before, slot.model = slot.model, None
            slot.state, slot.reason = "unavailable", "unloaded"
            if before is not None:
                if not before.users:
                    self._close(before)
                self._changed(before.name, None, "unloaded")

    async def apply(self, config: Config) -> list[str]:
        """Makes the models those of a new configuration; gives what could not be loaded, with the reason.

        Models are opened again if their settings or their files have changed.
        """
        failed = []
        for name in [name for name in self._slots if name not in config.models]:
            await self.unload(name)
            del self._slots[name]
        self._names = {}
        for name in config.models:
            wanted = config.model(name)
            if name in self._slots:
                self._names.update(dict.fromkeys((name, *wanted.aliases), name))
            else:
                self._add(name, wanted)
            slot = self._slots[name]
            if slot.model is None or slot.config != wanted or self._is_stale(slot.model):
                try:
                    await self.load(name, wanted)
                except FastcpuError as error:
                    failed.append(f"{name}: {error}")
        return failed

    @staticmethod
    def _is_stale(model: Model) -> bool:
        try:
            return modified(model.directory) != model.modified
        except FastcpuError:
            return True

    async def refresh(self) -> None:
        """Opens models again whose files have changed; one that cannot be opened is tried again when they change."""
        for name, slot in list(self._slots.items()):
            if slot.model is None or slot.lock.locked():
                continue
            try:
                changed = modified(slot.model.directory)
            except FastcpuError:  # is being replaced, or was removed: what is open goes on
                continue
            if changed != slot.model.modified:
                slot.model.modified = changed
                try:
                    await self.load(name)
                except FastcpuError:
                    continue  # `changed` was told

    async def close(self) -> None:
        """Unloads all models."""
        for name in self.names():
            await self.unload(name)


def settings(model: Model) -> dict[str, object]:
    """How a model is run, for people."""
    found: dict[str, object] = msgspec.to_builtins(model.config)
    return found
