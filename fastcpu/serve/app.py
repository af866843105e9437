"""The ASGI application: which operation answers which path."""

from __future__ import annotations

import re
import time
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import compile_path

from fastcpu.serve.operation import Call, Endpoint, Protocol, Receive, Scope, Send, answer, refusal
from fastcpu.serve.problems import Problem
from fastcpu.serve.protocols import PROTOCOLS, operations
from fastcpu.serve.serving import Serving

_MOST_PATH = 2048


class App:
    """Routes requests of a server to their operations."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self._exact: dict[str, dict[str, Endpoint]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Endpoint]]] = []
        by_path: dict[str, dict[str, Endpoint]] = {}
        for operation in operations():
            endpoint = Endpoint(serving, operation)
            by_path.setdefault(operation.path, {})[operation.method] = endpoint
        for path, methods in by_path.items():
            if "GET" in methods:
                methods["HEAD"] = methods["GET"]
            if "{" in path:
                self._patterns.append((compile_path(path)[0], methods))
            else:
                self._exact[path] = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        methods = self._exact.get(path)
        if methods is None and len(path) <= _MOST_PATH:
            for pattern, found in self._patterns:
                match = pattern.match(path)
                if match is not None:
                    scope["path_params"] = match.groupdict()
                    methods = found
                    break
        if methods is None:
            await self._refuse(Problem(404, "not_found", f"there is nothing at {path!r:.200}"), scope, receive, send)
            return
        endpoint = methods.get(scope["method"])
        if endpoint is None:
            allowed = ", ".join(sorted(methods))
            problem = Problem(405, "method_not_allowed", f"{path!r:.200} takes {allowed}", allow=allowed)
            await self._refuse(problem, scope, receive, send)
            return
        await endpoint(scope, receive, send)

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        serving = self.serving
        call = Call(scope, receive, serving.identify(scope), serving.bodies)
        reply = refusal(problem, _protocol_of(scope["path"]))
        await answer(reply, call, serving.draining, send)
        serving.metrics.elsewhere(reply.status)
        serving.log.access(None, call, reply, time.monotonic() - call.began)


def _protocol_of(path: str) -> Protocol:
    """In whose form a path without an operation is reported."""
    return next((protocol for prefix, protocol in PROTOCOLS.items() if path.startswith(prefix)), PROTOCOLS["/"])


def application(serving: Serving) -> Any:
    """The application, with CORS where the configuration has origins."""
    app: Any = App(serving)
    if serving.config.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=serving.config.cors_origins,
            allow_methods=("GET", "POST", "OPTIONS"),
            allow_headers=("*",),
            expose_headers=("x-request-id", "retry-after", "retry-after-ms", "inference-header-content-length"),
        )
    return app
