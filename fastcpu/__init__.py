"""fastcpu runs pruned, int8-quantized Transformers fast on CPUs.

Importing this package loads no other library; what is heavy is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastcpu.errors import (
    AccuracyError,
    FastcpuError,
    FileFormatError,
    GraphError,
    InputError,
    IsaError,
    MissingPackageError,
    OutputError,
    QuantizationError,
    ResourceError,
    TrainingError,
    UnsupportedOpError,
)

__version__ = "0.1.0"

# Public name -> the module that defines it, imported at first use.
_LAZY: dict[str, str] = {
    "Session": "fastcpu.runtime",
    "compile": "fastcpu.pipeline",
    "compress": "fastcpu.compression.run",
}

__all__ = [
    "AccuracyError",
    "FastcpuError",
    "FileFormatError",
    "GraphError",
    "InputError",
    "IsaError",
    "MissingPackageError",
    "OutputError",
    "QuantizationError",
    "ResourceError",
    "Session",
    "TrainingError",
    "UnsupportedOpError",
    "__version__",
    "compile",
    "compress",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'fastcpu' has no attribute {name!r}")
    try:
        value = getattr(import_module(module), name)
    except ImportError as error:
        if error.name != "fastcpu" or "_core" not in str(error):
            raise
        raise ImportError(
            f"{__path__[0]} has no runtime: it is a folder of sources. Build it (`make build`, or `pip install .` and "
            "another current folder)",
            name="fastcpu",
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
