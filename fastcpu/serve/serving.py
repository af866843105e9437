"""A server without its sockets: models, queue, limits, keys, measurements; what operations are answered with."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from fastcpu import _core
from fastcpu.errors import InputError
from fastcpu.serve.cache import Cache
from fastcpu.serve.config import Config
from fastcpu.serve.executor import Executor
from fastcpu.serve.logs import Log
from fastcpu.serve.metrics import Metrics
from fastcpu.serve.model import Model
from fastcpu.serve.operation import Bodies, Call, Operation, Protocol, Reply, Scope, refusal
from fastcpu.serve.problems import Problem, as_problem, invalid
from fastcpu.serve.repository import UNLOADED, Repository
from fastcpu.serve.request import Batch, QueueFull, Rejected
from fastcpu.serve.scheduler import Scheduler
from fastcpu.serve.tokenizing import Tokenizing
from fastcpu.serve.tracing import from_environment
from fastcpu.tasks.task import Work
from fastcpu.tasks.tokenizer import characters as count_characters

_CHANGEABLE = {"models", "api_keys", "max_body_bytes", "max_buffer_mb", "max_inputs", "max_requests", "drain_seconds"}
"""Settings that `Serving.reconfigure` takes over."""
_FRESH = 0.005
"""Seconds from the head of a request for which a lane is taken to have room still; bodies may come later."""
_IDENTIFIER = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class Serving:
    """What answers operations.

    Args:
        config: of the server.

    Attributes:
        bodies: of requests that are being answered.
        running: whether all models were loaded.
        draining: whether the server is about to stop.
        in_flight: requests that are being answered.
        tracing: what makes spans of requests, None where nobody asked for them.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.tracing = from_environment()
        self.log = Log(config.log, config.access_log)
        self.metrics = Metrics()
        self.cache = Cache(int(config.cache_mb * 1e6))
        self.bodies = Bodies(config.most_buffered)
        self.running = self.draining = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.started = time.time()
        self._keys = _encoded(config)
        self.tokenizing = Tokenizing(config.tokenizer_threads)
        scheduler = Scheduler(time.monotonic, client_share=config.client_share)
        self.executor = Executor(scheduler, config.instances, self._observe)
        cpus = _core.available_cpus()
        self.threads = config.threads or max(1, cpus // config.instances)
        self.repository = Repository(config, self.executor, self.threads, self._changed)
        self._numbers = itertools.count()
        self._prefix = os.urandom(6).hex()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads all models, as long as nobody wants the server to stop. FastcpuError if one cannot be served."""
        for name in self.repository.names():
            if self.draining:
                return
            await self.repository.load(name)
        self.running = True
        if self.config.watch_seconds:
            self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Ends what `start` began; requests must have been answered."""
        if self._watching is not None:
            self._watching.cancel()
        await self.repository.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.executor.close)
        await loop.run_in_executor(None, self.tokenizing.close)
        if self.tracing is not None:
            await loop.run_in_executor(None, self.tracing.close)

    def reconfigure(self, config: Config) -> list[str]:
        """Takes over what can change while requests run; gives the names of settings that wait for another start.

        Models are not among them: `Repository.apply` has these. InputError if the keys of the environment are wrong.
        """
        keys = _encoded(config)
        changed = [name for name in Config.__struct_fields__ if getattr(config, name) != getattr(self.config, name)]
        self.config = msgspec.structs.replace(
            self.config, **{name: getattr(config, name) for name in changed if name in _CHANGEABLE}
        )
        self._keys = keys
        self.bodies.limit = self.config.most_buffered
        return [name for name in changed if name not in _CHANGEABLE]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.config.watch_seconds)
            try:
                await self.repository.refresh(settled=True)
            except Exception as error:  # noqa: BLE001  (it goes on watching)
                self.log.failure("watch", error)

    def _changed(self, name: str, model: Model | None, reason: str) -> None:
        if reason == UNLOADED:
            self.log.event("info", "model", model=name, state=UNLOADED)
        elif reason and self.running:  # at the start it ends the server, which says why
            answers = None if model is None else model.version
            self.log.event("error", "model", model=name, state="failed", reason=reason, answers=answers)
        elif model is not None:
            self.log.event(
                "info",
                "model",
                model=name,
                state="ready",
                version=model.version,
                tasks=list(model.tasks),
                path=str(model.directory),
                isa=model.session.isa,
                threads=model.session.threads,
            )
        self.metrics.model(name, None if model is None else model.version)
        if not reason or model is None:
            self.cache.forget(name)

    def _observe(self, batch: Batch, seconds: float, busy: float) -> None:
        self.metrics.batch(batch.model.partition("#")[0].rpartition("/")[0], batch, seconds, busy)

    # ---- what every request goes through ----

    def identify(self, scope: Scope) -> str:
        """The id of a request: its header X-Request-Id, if that is a plain word, or a new one."""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _IDENTIFIER.fullmatch(value):
                return str(value.decode())
        return f"{self._prefix}-{next(self._numbers):x}"

    @property
    def keyed(self) -> bool:
        """Whether clients need a key."""
        return bool(self._keys)

    def authenticate(self, call: Call, operation: Operation) -> None:
        """Sets the client of a call.

        Problem without a valid key, if keys are needed, and for what a page of another origin lets a browser send.
        """
        changes = operation.method != "GET" or not operation.light
        site = call.headers.get(b"sec-fetch-site", b"none") if changes else b"none"
        if site not in (b"same-origin", b"none") and not self._is_allowed(call.headers.get(b"origin", b"")):
            raise Problem(
                403, "cross_origin", "pages of other origins may not call the server, unless cors_origins has them"
            )
        if not self._keys or operation.public:
            return
        scheme, _, given = call.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            given = call.headers.get(b"x-api-key", b"")
        found = ""
        for name, key in self._keys.items():  # all of them: how long it takes tells nothing
            if hmac.compare_digest(key, given.strip()):
                found = name
        if not found:
            raise Problem(401, "invalid_api_key", "no API key, or none that is valid: Authorization: Bearer KEY")
        call.client = found

    def _is_allowed(self, origin: bytes) -> bool:
        allowed = self.config.cors_origins
        return "*" in allowed or origin.decode("latin-1") in allowed

    def enter(self) -> None:
        """Counts a request. Problem if there are as many as the server takes."""
        if self.in_flight >= self.config.max_requests:
            self.metrics.rejected("", "requests")
            raise Problem(429, "overloaded", f"{self.in_flight} requests are being answered", retry_after=0.5)
        self.in_flight += 1
        self._idle.clear()

    def admit(self, call: Call, operation: Operation) -> None:
        """QueueFull if no model that the operation could use has room for the caller: before the body is read.

        Nothing if the cache may have the answer. Problem if the path names a model that does not answer.
        """
        if self.cache:
            return
        named = call.parameters.get("model")
        models = [self.repository.find(named)] if named else self.repository.models()
        fitting = (model for model in models if operation.fits(model))
        urgency = call.priority()

        def look(scheduler: Scheduler) -> tuple[str, float | None]:
            """The lane that has room; where there is none, the name of the only model, and when the first has."""
            name, least = "", None
            for model in fitting:
                wait = _wait(scheduler, model.lane, call.client, urgency)
                if wait is None:
                    return model.lane, None
                name, least = ("", min(least, wait)) if least is not None else (model.name, wait)
            return name, least

        found, wait = self.executor.locked(look)
        if wait is None:
            call.admitted = found
        else:
            call.model = found
            raise QueueFull("no model has room", wait)

    def leave(self) -> None:
        """A request that was counted is answered."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def idle(self, seconds: float) -> None:
        """Returns when no request is being answered, or after that many seconds."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    def refuse(self, error: Exception, protocol: Protocol, call: Call) -> Reply:
        """The answer to a request that failed."""
        problem = as_problem(error)
        if isinstance(error, Rejected):
            self.metrics.rejected(call.model, "queue" if isinstance(error, QueueFull) else "deadline")
        if problem is None:
            problem = Problem(500, "internal_error", f"the server failed; its log says how, under {call.id}")
        if problem.status == 500:
            self.log.failure(call.id, error)
        return refusal(problem, protocol)

    # ---- what operations do ----

    def check_inputs(self, inputs: Sequence[Any], param: str) -> None:
        """Problem if there are none, or more than a request may have."""
        if not inputs:
            raise invalid(f"{param} is empty", param)
        if len(inputs) > self.config.max_inputs:
            raise Problem(
                413,
                "too_many_inputs",
                f"{param} has {len(inputs)} inputs; at most {self.config.max_inputs}",
                param=param,
            )

    async def infer(
        self,
        call: Call,
        model: Model,
        characters: int,
        prepare: Callable[[], Work[Any]],
        *,
        priority: int | None = None,
        deadline: float | None = None,
    ) -> list[Any]:
        """Tokenizes and runs a request, in batches with others.

        Args:
            call: the request; its tokens and timings are noted.
            model: what runs it.
            characters: how much text it has.
            prepare: tokenizes it.
            priority: takes the place of the call's.
            deadline: on time.monotonic, beside the call's.

        Raises:
            Rejected, FastcpuError: it cannot be answered.
            Gone: the client left before it was.
        """
        call.model = model.name
        deadline = min(filter(None, (deadline, call.deadline())), default=None)
        with self.repository.held(model):
            urgency = call.priority() if priority is None else priority
            began = time.monotonic()
            if call.admitted != model.lane or began - call.began > _FRESH:
                self.executor.locked(lambda scheduler: scheduler.room(model.lane, call.client, urgency))
            work = await self.tokenizing.run(characters, prepare, client=call.client, deadline=deadline, left=call.left)
            call.tokens += sum(len(sequence.ids) for sequence in work.sequences)
            tokenized = time.monotonic()
            call.timings["tokenize"] = call.timings.get("tokenize", 0.0) + tokenized - began
            if call.stages is not None:
                call.stages.append(("tokenize", began, tokenized))
            results, job = await self.executor.run(
                model.lane,
                model.engine,
                work,
                priority=urgency,
                deadline=deadline,
                client=call.client,
                left=call.left,
            )
            ended = time.monotonic()
            call.timings["queue"] = job.began - job.queued if job.began else 0.0
            call.timings["infer"] = ended - job.began if job.began else 0.0
            if call.stages is not None and job.began:
                call.stages += (("queue", job.queued, job.began), ("infer", job.began, ended))
            self.metrics.request(model.name, call.timings["tokenize"], call.timings["queue"])
            return results

    async def infer_texts(
        self,
        call: Call,
        model: Model,
        form: str,
        inputs: Sequence[Any],
        prepare: Callable[[list[Any]], Work[Any]],
        *,
        priority: int | None = None,
        deadline: float | None = None,
    ) -> list[Any]:
        """As `infer`, for inputs whose results do not depend on each other: those in the cache are not computed.

        Args:
            form: what is computed of them, with its options; part of the key.
            inputs: texts, or tuples of texts.
            prepare: tokenizes some of them.
            priority, deadline: as for `infer`.
        """

        async def compute(some: list[Any]) -> list[Any]:
            characters = count_characters(some)
            return await self.infer(
                call, model, characters, lambda: prepare(some), priority=priority, deadline=deadline
            )

        if not self.cache:
            return await compute(list(inputs))
        call.deadline()  # is checked even if nothing is computed
        call.model = model.name
        known = {each: self.cache.get((model.name, model.lane, form, each)) for each in inputs}
        missing = [each for each, result in known.items() if result is None]
        self.metrics.cached(model.name, len(inputs) - len(missing))
        if missing:
            try:
                found = await compute(missing)
            except InputError:
                await compute(list(inputs))  # counts the inputs as the client does
                raise
            for each, result in zip(missing, found, strict=True):
                known[each] = result
                self.cache.put((model.name, model.lane, form, each), result)
        return [known[each] for each in inputs]


def _wait(scheduler: Scheduler, lane: str, client: str, priority: int) -> float | None:
    """Seconds until a lane has room for anything of a client; None if it has."""
    try:
        scheduler.room(lane, client, priority)
    except QueueFull as full:
        return full.retry_after
    return None


def _encoded(config: Config) -> dict[str, bytes]:
    """The API keys of clients, as they come in headers."""
    return {name: key.encode() for name, key in config.keys().items()}


def task_of(model: Model, *names: str) -> Any:
    """The first of the named tasks that a model has; Problem if it has none of them."""
    found = model.task(*names)
    if found is None:
        raise Problem(
            400,
            "wrong_task",
            f"model {model.name!r} does not {' or '.join(names)}; it can {', '.join(model.tasks)}",
            param="model",
        )
    return found
