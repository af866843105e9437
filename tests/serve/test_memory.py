"""What a server must let go."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from fastcpu.serve.config import Config
from fastcpu.serve.protocols.signature import signature_of
from fastcpu.serve.serving import Serving
from tests.serve.conftest import TASKS
from tests.serve.live import model_directory


@pytest.mark.parametrize("task", TASKS)
def test_a_model_that_was_replaced_goes_without_garbage_collection(tiny_models: Path, task: str) -> None:
    """The server leaves what it made at its start out of that."""

    async def replace() -> list[object]:
        path = str(model_directory(tiny_models, task))
        serving = Serving(Config(models={"m": path}, access_log=False, threads=1))
        await serving.start()
        model = serving.repository.find("m")
        signature_of(model)
        held = [weakref.ref(model), weakref.ref(model.session), weakref.ref(model.tasks[model.main])]
        del model
        gc.disable()
        try:
            await serving.repository.load("m")
            for _ in range(1000):  # the thread that opened it may be about to let it go
                if all(reference() is None for reference in held):
                    break
                await asyncio.sleep(0.01)
            return [reference() for reference in held]
        finally:
            gc.enable()
            await serving.stop()

    assert asyncio.run(replace()) == [None, None, None]
