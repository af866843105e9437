"""Event loops, and runs against scripted servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastcpu.load import Corpus, Plan, Result, drive
from tests.load.scripted import Script, Server

TEXTS = Corpus(("one", "two words", "three more words"))
Attempt = Callable[..., tuple[Result, Server]]


@pytest.fixture(params=["asyncio", "uvloop"])
def attempt(request: pytest.FixtureRequest) -> Attempt:
    """Runs a plan against a server that runs in the same event loop, of each kind."""
    loops = asyncio if request.param == "asyncio" else pytest.importorskip("uvloop")

    def run(script: Script, reads: bool = True, **options: Any) -> tuple[Result, Server]:
        server = Server(script, reads)

        async def both() -> Result:
            async with server.running():
                given = {"protocol": "tei", "corpus": TEXTS, "warmup": 0.0, "duration": 0.3, **options}
                (result,) = await drive([Plan(server.url, **given)])
            return result

        loop = loops.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(both(), 60)), server
        finally:
            loop.close()

    return run
