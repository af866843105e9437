"""Threads that tokenize long requests, shared by clients."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from fastcpu.serve.problems import Gone
from fastcpu.serve.request import TooLate
from fastcpu.serve.tokenizing import Tokenizing

LONG = Tokenizing.INLINE_CHARACTERS + 1


def test_short_texts_are_done_at_once_in_the_event_loop() -> None:
    async def scenario() -> int:
        return await Tokenizing(1).run(Tokenizing.INLINE_CHARACTERS, threading.get_ident)

    assert asyncio.run(scenario()) == threading.get_ident()


def test_clients_take_turns() -> None:
    order: list[str] = []
    gate = threading.Event()

    async def scenario() -> None:
        tokenizing = Tokenizing(1)
        first = asyncio.create_task(tokenizing.run(LONG, lambda: gate.wait(60), client="a"))
        await asyncio.sleep(0)
        rest = [
            asyncio.create_task(tokenizing.run(LONG, lambda name=name: order.append(name), client=name[0]))
            for name in ("a1", "a2", "a3", "b1", "b2", "c1")
        ]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(first, *rest)
        tokenizing.close()

    asyncio.run(scenario())
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_deadline_ends_the_wait_for_a_thread() -> None:
    gate = threading.Event()
    ran: list[int] = []

    async def scenario() -> None:
        tokenizing = Tokenizing(1)
        first = asyncio.create_task(tokenizing.run(LONG, lambda: gate.wait(60)))
        await asyncio.sleep(0)
        with pytest.raises(TooLate):
            await tokenizing.run(LONG, lambda: ran.append(1), deadline=time.monotonic() + 0.05)
        gate.set()
        await first
        await tokenizing.run(LONG, lambda: ran.append(2))
        tokenizing.close()

    asyncio.run(scenario())
    assert ran == [2]


def test_whoever_leaves_frees_the_place() -> None:
    gate = threading.Event()
    ran: list[int] = []

    async def scenario() -> None:
        tokenizing = Tokenizing(1)
        leaving = asyncio.Event()

        async def left() -> None:
            await leaving.wait()

        first = asyncio.create_task(tokenizing.run(LONG, lambda: gate.wait(60)))
        await asyncio.sleep(0)
        second = asyncio.create_task(tokenizing.run(LONG, lambda: ran.append(1), left=left))
        await asyncio.sleep(0.02)
        leaving.set()
        with pytest.raises(Gone):
            await second
        gate.set()
        await first
        await tokenizing.run(LONG, lambda: ran.append(2))
        tokenizing.close()

    asyncio.run(scenario())
    assert ran == [2]


def test_a_thread_is_taken_until_it_has_ended_even_if_nobody_waits() -> None:
    gates = [threading.Event(), threading.Event()]
    started: list[int] = []

    def work(number: int) -> None:
        started.append(number)
        assert gates[number].wait(60)

    async def scenario() -> None:
        tokenizing = Tokenizing(1)
        with pytest.raises(TooLate):
            await tokenizing.run(LONG, lambda: work(0), deadline=time.monotonic() + 0.05)
        second = asyncio.create_task(tokenizing.run(LONG, lambda: work(1)))
        await asyncio.sleep(0.05)
        assert started == [0]
        gates[0].set()
        gates[1].set()
        await second
        tokenizing.close()

    asyncio.run(scenario())
    assert started == [0, 1]


def test_errors_come_through_and_free_the_thread() -> None:
    def fail() -> None:
        raise ValueError("no text")

    async def scenario() -> int:
        tokenizing = Tokenizing(1)
        with pytest.raises(ValueError, match="no text"):
            await tokenizing.run(LONG, fail)
        try:
            return await tokenizing.run(LONG, lambda: 5)
        finally:
            tokenizing.close()

    assert asyncio.run(scenario()) == 5
