"""A micro-batcher for asyncio servers: texts of several requests are encoded together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Encode = Callable[[list[str]], Sequence[Any]]
"""Gives a row for each text."""


@dataclass
class _Waiting:
    texts: list[str]
    arrival: float
    answer: asyncio.Future[Sequence[Any]]


class MicroBatcher:
    """Calls `encode` in one thread, with whole requests in the order of their arrival.

    A batch goes when `max_texts` texts wait or the oldest request has waited for `max_wait` seconds, and not before the
    batch ahead of it is done. A request with more texts than that is a batch of its own.
    """

    def __init__(self, encode: Encode, max_texts: int = 32, max_wait: float = 0.010) -> None:
        self._encode = encode
        self._max_texts = max_texts
        self._max_wait = max_wait
        self._waiting: deque[_Waiting] = deque()
        self._texts = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "encode")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> MicroBatcher:  # noqa: PYI034  (typing.Self is newer than Python 3.10)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Requests that still wait are cancelled."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for request in self._waiting:
            request.answer.cancel()
        self._thread.shutdown()

    async def submit(self, texts: list[str]) -> Sequence[Any]:
        """The rows of `texts`; raises what `encode` raised for their batch."""
        if not texts:
            return []
        loop = asyncio.get_running_loop()
        request = _Waiting(texts, loop.time(), loop.create_future())
        self._waiting.append(request)
        self._texts += len(texts)
        self._arrived.set()
        return await request.answer

    async def _full_or_late(self) -> None:
        """Returns when a batch must go."""
        loop = asyncio.get_running_loop()
        while self._texts < self._max_texts:
            self._arrived.clear()
            left = self._waiting[0].arrival + self._max_wait - loop.time() if self._waiting else None
            if left is not None and left <= 0:
                return
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except asyncio.TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        texts = 0
        while self._waiting and (not batch or texts + len(self._waiting[0].texts) <= self._max_texts):
            request = self._waiting.popleft()
            self._texts -= len(request.texts)
            if not request.answer.done():  # its client may have gone
                batch.append(request)
                texts += len(request.texts)
        return batch

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._full_or_late()
            batch = self._take()
            if not batch:
                continue
            texts = [text for request in batch for text in request.texts]
            try:
                rows = await loop.run_in_executor(self._thread, self._encode, texts)
            except Exception as error:  # noqa: BLE001  (each request gets it)
                for request in batch:
                    if not request.answer.done():
                        request.answer.set_exception(error)
                continue
            first = 0
            for request in batch:
                end = first + len(request.texts)
                if not request.answer.done():
                    request.answer.set_result(rows[first:end])
                first = end
