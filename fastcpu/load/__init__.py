"""A load generator for HTTP servers of models: `fastcpu load`, and the same from Python.

from fastcpu.load import Plan, run
print(run(Plan("http://127.0.0.1:8000", protocol="tei", rate=200, duration=10)).text())
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name -> the module that defines it, imported at first use: each start of the command line imports this package.
_LAZY: dict[str, str] = {
    "Corpus": "fastcpu.load.corpus",
    "Histogram": "fastcpu.load.histogram",
    "Plan": "fastcpu.load.plan",
    "Result": "fastcpu.load.result",
    "drive": "fastcpu.load.runner",
    "make_corpus": "fastcpu.load.corpus",
    "run": "fastcpu.load.runner",
    "run_many": "fastcpu.load.runner",
}

__all__ = ["Corpus", "Histogram", "Plan", "Result", "drive", "make_corpus", "run", "run_many"]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'fastcpu.load' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
