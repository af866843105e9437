"""How servers are asked: one module per protocol."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from fastcpu.errors import InputError

# The protocols of `fastcpu load`. Each is a module fastcpu/load/protocols/<protocol>.py with what `Adapter` describes.
PROTOCOLS: tuple[str, ...] = (
    "openai",
    "predict",
    "root",
    "tei",
    "triton",
    "v2",
)


@dataclass(frozen=True)
class Question:
    """What one request asks for.

    Attributes:
        texts: one or more.
        model: name of the model, None without one.
        encoding: one of the `ENCODINGS` of the protocol; empty where it has none.
    """

    texts: tuple[str, ...]
    model: str | None = None
    encoding: str = ""


class Adapter(Protocol):
    """What a module of PROTOCOLS provides.

    Attributes:
        PATH: of the POST request; `{model}` stands for the name of the model.
        NEEDS_MODEL: whether a request must name a model.
        ENCODINGS: what the answer may be encoded in, the default first; empty where that cannot be chosen.
    """

    PATH: str
    NEEDS_MODEL: bool
    ENCODINGS: tuple[str, ...]

    def body(self, question: Question) -> dict[str, Any]:
        """The JSON object to send."""
        ...


def find_protocol(name: str) -> Adapter:
    """The module of a protocol; InputError for one that is not in PROTOCOLS."""
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return cast(Adapter, import_module(f"fastcpu.load.protocols.{name}"))
