"""Models that are loaded, replaced and unloaded while requests hold them."""

from __future__ import annotations

import asyncio
import gc
import shutil
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu.errors import FastcpuError, InputError
from fastcpu.serve import repository as module
from fastcpu.serve.config import Config, make_config
from fastcpu.serve.executor import Executor
from fastcpu.serve.model import Model
from fastcpu.serve.problems import Problem
from fastcpu.serve.repository import Repository
from fastcpu.serve.scheduler import Scheduler
from tests.serve.live import model_directory
from tests.tasks.models import compiled

Change = tuple[str, bool, str]


def config_of(**models: Any) -> Config:
    return make_config({"models": {name: str(given) for name, given in models.items()}}, "test")


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[Repository, Executor, list[Change]]]:
    """A repository with its models loaded, its executor, and what it told."""
    executor = Executor(Scheduler(time.monotonic), 1, lambda *_: None)
    told: list[Change] = []
    repository = Repository(
        config, executor, 1, lambda name, model, reason: told.append((name, model is not None, reason))
    )
    try:
        for name in repository.names():
            await repository.load(name)
        told.clear()
        yield repository, executor, told
    finally:
        await repository.close()
        executor.close()


async def stays() -> None:
    await asyncio.Event().wait()


async def embedded(repository: Repository, executor: Executor, model: Model, text: str = "a red house") -> Any:
    task: Any = model.tasks["embed"]
    with repository.held(model):
        work = task.prepare([text])
        options: Any = {"priority": 3, "deadline": None, "client": "", "left": stays}
        return (await executor.run(model.lane, model.engine, work, **options))[0][0]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """An embedding model with other weights than that of `tiny_models`."""
    return (
        model_directory(tmp_path / "other", "embed") if compiled("embed", tmp_path / "other" / "embed", 1) else Path()
    )


@pytest.fixture
def replaceable(tiny_models: Path, tmp_path: Path) -> Path:
    """A copy of the embedding model, to be changed."""
    return Path(shutil.copytree(model_directory(tiny_models, "embed"), tmp_path / "model"))


def replace(directory: Path, by: Path) -> None:
    """Puts another model in the place of a directory, as an operator would."""
    fresh = directory.with_name("fresh")
    shutil.copytree(by, fresh)
    directory.rename(directory.with_name(f"old-{time.monotonic_ns()}"))
    fresh.rename(directory)


def released(reference: Callable[[], object]) -> bool:
    for _ in range(500):
        gc.collect()
        if reference() is None:
            return True
        time.sleep(0.01)
    return False


def test_models_are_found_by_name_alias_and_version(tiny_models: Path) -> None:
    settings = {"path": str(model_directory(tiny_models, "embed")), "aliases": ["other-name"], "version": "7"}

    async def scenario() -> None:
        async with opened(make_config({"models": {"embed": settings}}, "test")) as (repository, _, _):
            model = repository.find("embed")
            assert model is repository.find("other-name")
            assert model is repository.find(None)
            assert model is repository.find("embed", "7")
            for name, version in (("nothing", None), ("embed", "1"), ("", None)):
                with pytest.raises(Problem) as caught:
                    repository.find(name, version)
                assert (caught.value.status, caught.value.code) == (404, "model_not_found")

    asyncio.run(scenario())


def test_of_several_models_one_must_be_named(tiny_models: Path) -> None:
    directory = model_directory(tiny_models, "embed")

    async def scenario() -> None:
        async with opened(config_of(a=directory, b=directory)) as (repository, _, _):
            with pytest.raises(Problem, match="which model") as caught:
                repository.find(None)
            assert caught.value.status == 400

    asyncio.run(scenario())


def test_a_request_that_holds_a_replaced_model_is_answered_by_it(replaceable: Path, other: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, executor, told):
            before = repository.find("m")
            expected = await embedded(repository, executor, before)
            with repository.held(before):
                replace(replaceable, other)
                await repository.load("m")
                after = repository.find("m")
                assert after is not before
                assert np.array_equal(await embedded(repository, executor, before), expected)
                assert not np.array_equal(await embedded(repository, executor, after), expected)
                assert before.queued
            assert not before.queued
            assert after.queued
            assert told == [("m", True, "")]

    asyncio.run(scenario())


def test_a_request_may_begin_to_hold_a_model_that_was_replaced_since_it_found_it(replaceable: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, executor, _):
            before = repository.find("m")
            await repository.load("m")
            assert not before.queued
            assert (await embedded(repository, executor, before)).shape == (before.tasks["embed"].channels,)  # type: ignore[attr-defined]
            assert not before.queued
            await repository.unload("m")
            assert (await embedded(repository, executor, before)) is not None

    asyncio.run(scenario())


@pytest.mark.parametrize("way", ["load", "unload", "apply"])
def test_the_session_of_a_model_that_nobody_holds_is_freed(replaceable: Path, way: str) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable, n=replaceable)) as (repository, executor, _):
            model = repository.find("m")
            await embedded(repository, executor, model)
            gone = weakref.ref(model.session)
            del model
            if way == "apply":
                await repository.apply(config_of(n=replaceable))
            else:
                await getattr(repository, way)("m")
            assert await asyncio.to_thread(released, gone)

    asyncio.run(scenario())


def test_a_model_that_cannot_be_opened_leaves_the_old_one_and_says_why(replaceable: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, executor, told):
            before = repository.find("m")
            (replaceable / "graph.json").write_text("{")
            with pytest.raises(FastcpuError):
                await repository.load("m")
            assert repository.find("m") is before
            slot = repository.slot("m")
            assert slot.state == "ready"
            assert "graph.json" in slot.reason
            assert told == [("m", True, slot.reason)]
            assert await embedded(repository, executor, before) is not None

    asyncio.run(scenario())


def test_a_failure_that_nobody_foresaw_is_told_too(replaceable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("of course")

    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, _, told):
            await repository.unload("m")
            monkeypatch.setattr(module, "Model", fail)
            with pytest.raises(FastcpuError, match="ZeroDivisionError: of course"):
                await repository.load("m")
            assert told[-1] == ("m", False, "of course")
            assert repository.slot("m").state == "unavailable"
            with pytest.raises(Problem, match="of course") as caught:
                repository.find("m")
            assert caught.value.status == 503

    asyncio.run(scenario())


def test_what_computes_nonsense_is_not_served(replaceable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, _, _):
            run = type(repository.find("m").engine).run
            monkeypatch.setattr(
                type(repository.find("m").engine),
                "run",
                lambda *given: {name: values * np.nan for name, values in run(*given).items()},
            )
            with pytest.raises(InputError, match="not finite"):
                await repository.load("m")

    asyncio.run(scenario())


def test_unloaded_models_can_be_loaded_again(replaceable: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, executor, told):
            await repository.unload("m")
            await repository.unload("m")
            assert told == [("m", False, "unloaded")]
            assert not repository.ready
            assert repository.models() == []
            with pytest.raises(Problem, match="unloaded") as caught:
                repository.find("m")
            assert caught.value.status == 503
            await repository.refresh()
            assert repository.models() == []
            await repository.load("m")
            assert repository.ready
            assert await embedded(repository, executor, repository.find("m")) is not None

    asyncio.run(scenario())


def test_a_configuration_is_applied(tiny_models: Path, replaceable: Path, tmp_path: Path) -> None:
    embed, classify = (model_directory(tiny_models, task) for task in ("embed", "classify"))

    async def scenario() -> None:
        async with opened(config_of(a=embed, b=embed, c=replaceable, d=embed)) as (repository, _, told):
            before = {name: repository.find(name) for name in "abcd"}
            (replaceable / "graph.json").touch()
            wanted: dict[str, Any] = {
                "a": str(embed),
                "b": {"path": str(embed), "batch_tokens": 5, "aliases": ["also-b"]},
                "c": str(replaceable),
                "e": str(classify),
                "f": str(tmp_path / "nothing"),
            }
            failed = await repository.apply(make_config({"models": wanted}, "test"))
            assert repository.names() == ["a", "b", "c", "e", "f"]
            assert repository.find("a") is before["a"]
            assert repository.find("b") is repository.find("also-b")
            assert repository.find("b").config.batch_tokens == 5
            assert repository.find("c") is not before["c"]
            assert repository.find("e").main == "classify"
            assert len(failed) == 1
            assert failed[0].startswith("f: ")
            assert repository.slot("f").state == "unavailable"
            assert repository.ready
            assert [(name, there) for name, there, _ in told] == [
                ("b", True), ("c", True), ("e", True), ("f", False), ("d", False)
            ]  # fmt: skip
            with pytest.raises(Problem, match="no model 'd'"):
                repository.find("d")

    asyncio.run(scenario())


def test_a_changed_setting_that_fails_keeps_the_old_model_and_is_tried_again(replaceable: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, _, _):
            before = repository.find("m")
            elsewhere = config_of(m=tmp_path / "elsewhere")
            assert len(await repository.apply(elsewhere)) == 1
            assert repository.find("m") is before
            shutil.copytree(replaceable, tmp_path / "elsewhere")
            assert await repository.apply(elsewhere) == []
            assert repository.find("m").directory == tmp_path / "elsewhere"

    asyncio.run(scenario())


def test_names_stay_while_a_configuration_is_applied(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = str(model_directory(tiny_models, "embed"))
    looks = 0

    async def scenario() -> None:
        nonlocal looks
        first = make_config({"models": {"a": {"path": embed, "aliases": ["x"]}}}, "test")
        second = make_config({"models": {"b": {"path": embed, "aliases": ["x"]}}}, "test")
        async with opened(first) as (repository, _, _):
            applying = asyncio.create_task(repository.apply(second))
            while not applying.done():
                looks += 1
                assert repository.find("x") is not None
                assert repository.find(None) is not None
                await asyncio.sleep(0)
            assert await applying == []
            assert repository.find("x").name == "b"

    asyncio.run(scenario())
    assert looks > 1


def test_configurations_that_come_together_are_applied_one_after_the_other(tiny_models: Path) -> None:
    embed = model_directory(tiny_models, "embed")

    async def scenario() -> None:
        async with opened(config_of(a=embed)) as (repository, _, _):
            await asyncio.gather(
                repository.apply(config_of(b=embed)), repository.apply(config_of(c=embed)), repository.refresh()
            )
            assert repository.names() == ["c"]
            assert repository.find("c").queued

    asyncio.run(scenario())


def test_a_held_model_that_was_removed_ends_in_order(tiny_models: Path) -> None:
    embed = model_directory(tiny_models, "embed")

    async def scenario() -> None:
        async with opened(config_of(a=embed)) as (repository, executor, _):
            model = repository.find("a")
            with repository.held(model):
                await repository.apply(config_of(b=embed))
                assert await embedded(repository, executor, model) is not None
            assert not model.queued

    asyncio.run(scenario())


def test_refresh_opens_what_has_changed(replaceable: Path, other: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, _, told):
            await repository.refresh()
            assert told == []
            replace(replaceable, other)
            await repository.refresh()
            await repository.refresh()
            assert told == [("m", True, "")]

    asyncio.run(scenario())


def test_refresh_waits_until_nobody_writes(replaceable: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, _, told):
            await repository.refresh(settled=True)
            for _ in range(3):
                (replaceable / "graph.json").touch()
                await repository.refresh(settled=True)
            assert told == []
            await repository.refresh(settled=True)
            assert told == [("m", True, "")]

    asyncio.run(scenario())


def test_refresh_tries_what_failed_again_when_it_changes(replaceable: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, _, told):
            before = repository.find("m")
            whole = (replaceable / "graph.json").read_bytes()
            (replaceable / "graph.json").write_bytes(whole[:100])
            await repository.refresh()
            await repository.refresh()
            assert len(told) == 1
            assert told[0][:2] == ("m", True)
            assert repository.find("m") is before
            (replaceable / "graph.json").write_bytes(whole)
            await repository.refresh()
            assert told[1:] == [("m", True, "")]
            assert repository.slot("m").reason == ""

    asyncio.run(scenario())


def test_a_removed_directory_keeps_what_is_open(replaceable: Path) -> None:
    async def scenario() -> None:
        async with opened(config_of(m=replaceable)) as (repository, executor, told):
            shutil.rmtree(replaceable)
            await repository.refresh()
            assert told == []
            assert await embedded(repository, executor, repository.find("m")) is not None

    asyncio.run(scenario())


def test_a_model_that_is_being_removed_is_known_until_it_is_gone(tiny_models: Path) -> None:
    path = model_directory(tiny_models, "embed")

    async def scenario() -> None:
        async with opened(config_of(a=path, b=path)) as (repository, _, _):
            async with repository.slot("b").lock:  # somebody is opening it
                applying = asyncio.create_task(repository.apply(config_of(a=path)))
                await asyncio.sleep(0.01)
                assert [repository.slot(name).config.path for name in repository.names()] == [str(path)] * 2
            assert await applying == []
            assert repository.names() == ["a"]
            with pytest.raises(Problem, match="no model 'b'"):
                repository.slot("b")

    asyncio.run(scenario())


def test_reading_the_settings_again_brings_back_nothing_that_was_unloaded(tiny_models: Path) -> None:
    path = model_directory(tiny_models, "embed")

    async def scenario() -> None:
        config = config_of(a=path, b=path)
        async with opened(config) as (repository, _, _):
            await repository.unload("b")
            assert await repository.apply(config) == []
            assert repository.slot("b").model is None
            changed = make_config({"models": {"a": str(path), "b": {"path": str(path), "batch_tokens": 64}}}, "test")
            await repository.apply(changed)
            assert repository.slot("b").model is not None

    asyncio.run(scenario())
