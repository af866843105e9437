"""Engines of the end-to-end benchmark: one file each, and this list."""

from __future__ import annotations

import importlib

from bench.e2e.deepsparse import DeepSparse
from bench.e2e.fastcpu import FastCpu
from bench.e2e.neural_engine import NeuralEngine
from bench.e2e.onnxruntime_fp32 import OnnxRuntimeFp32
from bench.e2e.onnxruntime_int8 import OnnxRuntimeInt8
from bench.e2e.openvino_fp32 import OpenVinoFp32
from bench.e2e.openvino_int8 import OpenVinoInt8
from bench.e2e.protocol import Engine
from bench.e2e.torch_fp32 import TorchFp32

ENGINES: tuple[type[Engine], ...] = (
    FastCpu,
    OnnxRuntimeFp32,
    OnnxRuntimeInt8,
    OpenVinoFp32,
    OpenVinoInt8,
    TorchFp32,
    DeepSparse,
    NeuralEngine,
)

REFERENCE = OnnxRuntimeFp32
"""The engine whose answers the others are compared with."""


def find_engine(name: str) -> type[Engine]:
    """The engine called `name`, or the class that 'package.module:Class' names; ValueError if there is none."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        found = getattr(importlib.import_module(module), attribute, None)
        if not (isinstance(found, type) and issubclass(found, Engine)):
            raise ValueError(f"{name!r} is not an Engine class")
        return found
    for engine in ENGINES:
        if engine.name == name:
            return engine
    raise ValueError(f"no engine {name!r}; there are {', '.join(engine.name for engine in ENGINES)}")
