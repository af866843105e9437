"""What the server can be asked: operations, calls of them, and replies. Protocols are lists of operations."""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from fastcpu.serve.problems import Gone, Problem, invalid, stopping
from fastcpu.serve.request import PRIORITIES

if TYPE_CHECKING:
    from fastcpu.serve.model import Model
    from fastcpu.serve.serving import Serving

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = dict[str, Any]

JSON = b"application/json"
_FIELD = re.compile(r"(?:required|unknown) field `([^`]+)`")
_SENT_AT_ONCE = 1 << 18  # bytes of an answer that are left to the connection
_URGENCY = 3  # RFC 9218: the default
_URGENCIES = frozenset(b"%d" % value for value in range(PRIORITIES))
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {}


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        body: its bytes.
        status: HTTP status.
        media: content type.
        headers: further ones, names in lower case.
    """

    body: bytes
    status: int = 200
    media: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()


def json_reply(content: Any, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Reply:
    """A reply in JSON. NumPy arrays are lists, and float32 is written with as many digits as it has."""
    return Reply(orjson.dumps(content, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY), status, JSON, headers)


def _plain(value: Any) -> Any:
    """What orjson does not know: structs of msgspec."""
    return msgspec.to_builtins(value)


@dataclass(frozen=True)
class Protocol:
    """A family of operations that report errors alike.

    Attributes:
        name: heading in the OpenAPI document.
        error: the body of an error.
        error_type: its type, for the document.
        invalid_status: of a request that is malformed or has wrong values.
    """

    name: str
    error: Callable[[Problem], Any]
    error_type: type
    invalid_status: int = 400


@dataclass(frozen=True)
class Operation:
    """Something that clients can ask for.

    Attributes:
        method, path: of HTTP; ``{name}`` in a path is a parameter, ``{name:path}`` one that may have slashes.
        handler: answers a call; raises Problem or FastcpuError.
        protocol: how errors are reported.
        summary: a line for the document.
        request: the type of the body, None where there is none.
        response: the type of the answer's body, for the document; None for one that is empty, `bytes` for one that is
            not JSON.
        media: content type of such an answer.
        raw: whether the handler reads the body by itself (binary forms); the document still shows `request`.
        public: whether it needs no API key.
        statuses: of errors that it may answer with, beside those that every operation has.
        light: whether it is answered even if as many requests run as the server takes.
        fits: whether it can use a model; the document names those.
        queued: whether it waits in the queue of a model, as urgently as its head says.
        parameters: for the document, as it has them, beside those of the path and those of many operations.
        binary: whether request and answer may be bytes as well.
        bodiless: whether the body may be absent.
        shown: whether it is in the document.
    """

    method: str
    path: str
    handler: Callable[[Serving, Call], Awaitable[Reply]]
    protocol: Protocol
    summary: str
    request: Any = None
    response: Any = None
    media: str = "application/json"
    raw: bool = False
    public: bool = False
    statuses: tuple[int, ...] = ()
    light: bool = False
    fits: Callable[[Model], bool] = lambda _: True
    queued: bool = False
    parameters: Sequence[Mapping[str, Any]] = ()
    binary: bool = False
    bodiless: bool = False
    shown: bool = True


def has_task(*names: str) -> Callable[[Model], bool]:
    """Whether a model has one of these tasks; for `Operation.fits`."""
    return lambda model: model.task(*names) is not None


class Bodies:
    """How much the bodies of all requests and answers may take together.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0

    def take(self, size: int) -> None:
        """Counts bytes. Problem if there is no room for them."""
        if self.size + size > self.limit:
            raise Problem(429, "overloaded", "the requests that are being answered fill the memory", retry_after=0.5)
        self.size += size


class Call:
    """A request on its way through the server.

    Attributes:
        parameters: of the path.
        request: the decoded body, for operations that have one.
        client: who calls: the name of an API key, or the address.
        admitted: the lane that has been seen to have room for it.
        counted: whether it is one of the requests in flight.
        model: the model that was used, for log and metrics.
        tokens: how many were computed.
        timings: seconds of its stages, by name.
        stages: the same with begin and end on time.monotonic, None unless the request is traced.
    """

    __slots__ = (
        "_bodies",
        "_headers",
        "_held",
        "_receive",
        "admitted",
        "began",
        "client",
        "counted",
        "id",
        "model",
        "parameters",
        "request",
        "scope",
        "stages",
        "timings",
        "tokens",
    )

    def __init__(self, scope: Scope, receive: Receive, identifier: str, bodies: Bodies) -> None:
        self.scope = scope
        self._receive = receive
        self._bodies = bodies
        self._held = 0
        self._headers: dict[bytes, bytes] | None = None
        self.began = time.monotonic()
        self.id = identifier
        self.parameters: Mapping[str, str] = scope.get("path_params") or {}
        self.request: Any = None
        address = scope.get("client")
        self.admitted = ""
        self.counted = False
        self.client: str = address[0] if address else ""
        self.model = ""
        self.tokens = 0
        self.timings: dict[str, float] = {}
        self.stages: list[tuple[str, float, float]] | None = None

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """By name in lower case; the last of several."""
        if self._headers is None:
            self._headers = dict(self.scope["headers"])
        return self._headers

    def priority(self) -> int:
        """Urgency of the header Priority (RFC 9218): 0, most urgent, to 7; what cannot be read counts as absent."""
        given = self.headers.get(b"priority")
        if given is None:
            return _URGENCY
        found = _URGENCY
        for part in given.split(b","):
            key, _, value = part.partition(b";")[0].strip().partition(b"=")
            if key == b"u":  # the last one counts, as in every structured field
                found = int(value) if value in _URGENCIES else _URGENCY
        return found

    def deadline(self) -> float | None:
        """When the answer is of no use any more, on time.monotonic: X-Request-Timeout-Ms from the head of the request.

        Problem if that is no number.
        """
        given = self.headers.get(b"x-request-timeout-ms")
        if given is None:
            return None
        if not given.isdigit() or len(given) > 9 or int(given) == 0:
            raise invalid("X-Request-Timeout-Ms must be a whole number of milliseconds above 0", "X-Request-Timeout-Ms")
        return self.began + int(given) / 1e3

    async def body(self, limit: int) -> bytes:
        """The whole body, unpacked if it has a content encoding.

        Raises:
            Problem: it is larger than `limit`, before or after unpacking, or damaged; nothing beyond the limit is kept.
            Gone: the client left before it was complete.
        """
        length = self.headers.get(b"content-length", b"0")
        if len(length) > 18 or (length.isdigit() and int(length) > limit):
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            self.hold(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                break
        content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        encoding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding != b"identity":
            content = _unpacked(content, encoding.removeprefix(b"x-"), limit)
            self.hold(len(content))
        return content

    def hold(self, size: int) -> None:
        """Counts bytes that the request takes in memory until it is answered. Problem if there is no room for them."""
        self._bodies.take(size)
        self._held += size

    def release(self) -> None:
        """The bodies are not needed any more."""
        self._bodies.size -= self._held
        self._held = 0

    def check_media(self) -> None:
        """Problem unless the body is JSON, as far as the headers tell; browsers must name its type."""
        given = self.headers.get(b"content-type")
        if given is None and b"origin" not in self.headers:
            return
        media = (given or b"").partition(b";")[0].strip().lower()
        if media != b"application/json" and not (media.startswith(b"application/") and media.endswith(b"+json")):
            raise Problem(415, "unsupported_media_type", f"content type {_text(media)!r} is not application/json")

    async def left(self) -> None:
        """Returns when the client has left; only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _text(header: bytes) -> str:
    """A header for a message, cut."""
    return header[:40].decode("latin-1")


def _too_large(limit: int) -> Problem:
    return Problem(413, "too_large", f"the body is larger than {limit} bytes")


def _unpacked(content: bytes, encoding: bytes, limit: int) -> bytes:
    """`content` without its gzip or deflate encoding; Problem if it is damaged, or larger than `limit`."""
    if encoding not in (b"gzip", b"deflate"):
        raise Problem(
            415, "unsupported_encoding", f"content encoding {_text(encoding)!r} is none of gzip, deflate, identity"
        )
    unpacker = zlib.decompressobj(wbits=31 if encoding == b"gzip" else 15)
    try:
        result = unpacker.decompress(content, limit + 1)
    except zlib.error as error:
        raise invalid(f"the body is not {encoding.decode()}: {error}") from error
    if len(result) > limit:
        raise _too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise invalid(f"the body is not one whole {encoding.decode()} stream")
    return result


def decode(content: bytes, kind: Any) -> Any:
    """JSON as a value of type `kind`; Problem says what is wrong and where."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        message = str(error)
        where = message.rpartition(" - at `$.")[2].rstrip("`") if " - at `$." in message else None
        field = _FIELD.search(message)
        if field is not None:
            where = field[1] if where is None else f"{where}.{field[1]}"
        raise invalid(message, where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}") from error


class Endpoint:
    """Answers HTTP requests for one operation: key, limits, body, handler, errors, log. An ASGI application."""

    def __init__(self, serving: Serving, operation: Operation) -> None:
        self._serving = serving
        self._operation = operation
        self._observed = serving.metrics.operation(operation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serving, operation = self._serving, self._operation
        call = Call(scope, receive, serving.identify(scope), serving.bodies)
        tracing = serving.tracing
        if tracing is not None:
            call.stages = []
        try:
            try:
                reply = await self._reply(call)
            except Gone:
                reply = Reply(b"", 499)  # nobody reads it; the log has it
            if reply.status != 499:
                # Who waits for 100 (Continue) and is refused instead may go on with the body or with another request.
                last = serving.draining or (reply.status >= 400 and b"expect" in call.headers)
                await answer(reply, call, last, send)
        finally:
            call.release()
            if call.counted:
                serving.leave()
        seconds = time.monotonic() - call.began
        self._observed(reply.status, seconds)
        serving.log.access(operation, call, reply, seconds)
        if tracing is not None:
            tracing.record(operation, call, reply, seconds)

    async def _reply(self, call: Call) -> Reply:
        serving, operation = self._serving, self._operation
        try:
            serving.authenticate(call, operation)
            if not operation.light:
                serving.enter()
                call.counted = True
            if operation.queued:
                serving.admit(call, operation)
            if operation.request is not None and not operation.raw:
                call.check_media()
                call.request = decode(await call.body(serving.config.max_body_bytes), operation.request)
            reply = await operation.handler(serving, call)
            call.release()
            call.hold(len(reply.body))  # until the client has read it, but for what the system keeps
            return reply
        except Gone:
            raise
        except asyncio.CancelledError:
            if not serving.draining:
                raise
            return serving.refuse(stopping(), operation.protocol, call)
        except Exception as error:  # noqa: BLE001  (a request must not take the server with it)
            return serving.refuse(error, operation.protocol, call)


async def answer(reply: Reply, call: Call, last: bool, send: Send) -> None:
    """Sends a reply; the `last` one of its connection says so."""
    headers = [
        (b"content-type", reply.media),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", call.id.encode()),
        *reply.headers,
    ]
    if last:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": len(reply.body) > _SENT_AT_ONCE})
    if len(reply.body) > _SENT_AT_ONCE:
        await send({"type": "http.response.body", "body": b""})  # waits until the client has read most of it


def refusal(problem: Problem, protocol: Protocol) -> Reply:
    """The answer for a problem, in the form of the protocol."""
    status = protocol.invalid_status if problem.status == 400 else problem.status
    content = protocol.error(problem)
    try:
        body = msgspec.json.encode(content)
    except UnicodeEncodeError:  # half a surrogate pair, quoted from the request
        body = json.dumps(content).encode()
    return Reply(body, status, JSON, problem.headers())
