"""Quantization schemes: which values of a graph become u8, and when their scales are known.

To add one: a file here with a frozen dataclass that is a `Scheme`, its fields being the options, and its line below.
"""

from __future__ import annotations

from fastcpu.quantize.scheme import Scheme
from fastcpu.quantize.schemes.dynamic import Dynamic
from fastcpu.quantize.schemes.static import Static

SCHEMES: dict[str, type[Scheme]] = {
    "dynamic": Dynamic,
    "static": Static,
}
