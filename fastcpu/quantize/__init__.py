"""Post-training int8 quantization of graphs of runtime ops."""

from __future__ import annotations

from fastcpu.quantize.calibrate import observe
from fastcpu.quantize.executor import Executor, Feeds, RuntimeExecutor
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.layers import Record, Selection
from fastcpu.quantize.observers import OBSERVERS, Observer, make_observer
from fastcpu.quantize.scheme import Scheme, Wanted
from fastcpu.quantize.schemes import SCHEMES
from fastcpu.quantize.schemes.dynamic import Dynamic, quantize_dynamic
from fastcpu.quantize.schemes.static import Static, quantize_static
from fastcpu.quantize.smoothing import quantize_smoothed
from fastcpu.quantize.weights import relative_error, stored_bytes

__all__ = [
    "OBSERVERS",
    "SCHEMES",
    "Dynamic",
    "Executor",
    "Feeds",
    "Histogram",
    "Observer",
    "Record",
    "RuntimeExecutor",
    "Scheme",
    "Selection",
    "Static",
    "Wanted",
    "make_observer",
    "observe",
    "quantize_dynamic",
    "quantize_smoothed",
    "quantize_static",
    "relative_error",
    "stored_bytes",
]
