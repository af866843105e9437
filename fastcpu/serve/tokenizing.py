"""Where texts become tokens: short requests at once, long ones in a few threads that clients share fairly."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastcpu.serve.problems import Gone
from fastcpu.serve.request import TooLate

Result = TypeVar("Result")


class Tokenizing:
    """A few threads.

    Args:
        threads: how many.
    """

    INLINE_CHARACTERS = 8192
    """More text than this would keep the event loop from other requests for more than about a millisecond."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "fastcpu-tokenize")
        self._free = threads
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def run(
        self,
        characters: int,
        function: Callable[[], Result],
        *,
        client: str = "",
        deadline: float | None = None,
        left: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> Result:
        """What `function` gives, for a request with that much text.

        Args:
            characters: how much text it has.
            function: tokenizes it.
            client: clients take turns.
            deadline: on time.monotonic.
            left: returns when whoever asked has left.

        Raises:
            TooLate: the deadline passes.
            Gone: whoever asked has left.
        """
        if characters <= self.INLINE_CHARACTERS:
            return function()
        task = asyncio.ensure_future(self._threaded(function, client))
        watch = None if left is None else asyncio.ensure_future(left())
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            awaited = {task} if watch is None else {task, watch}
            await asyncio.wait(awaited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if watch is not None and watch.done():
                raise Gone
            raise TooLate("the deadline has passed", 0.0)
        finally:
            task.cancel()
            if watch is not None:
                watch.cancel()

    async def _threaded(self, function: Callable[[], Result], client: str) -> Result:
        await self._turn(client)
        try:
            running = self._pool.submit(function)
        except BaseException:
            self._release()
            raise
        loop = asyncio.get_running_loop()
        # The thread is free when it has ended, even if nobody waits for it any more.
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(running)

    async def _turn(self, client: str) -> None:
        """Returns when a thread is there for a client."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        """Gives a thread to the client whose turn it is."""
        while self._waiting:
            client, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[client] = turns  # behind all others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)
