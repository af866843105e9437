"""The protocols of the server: each a module with its operations.

To add one: a file here with PROTOCOL and OPERATIONS, and its line below.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastcpu.serve.operation import Operation, Protocol
from fastcpu.serve.protocols import cohere, huggingface, inference, management, openai, page, tasks, tei

_MODULES = (openai, cohere, tei, tasks, huggingface, inference, management, page)

PROTOCOLS: dict[str, Protocol] = {
    "/v1/": openai.PROTOCOL,
    "/v2": inference.PROTOCOL,
    "/": tei.PROTOCOL,
}
"""In whose form errors of paths without an operation are reported, by their beginning; the first that fits."""


def operations() -> Iterator[Operation]:
    """What a server can be asked."""
    for module in _MODULES:
        yield from module.OPERATIONS
