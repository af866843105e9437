"""What a quantization scheme is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.ir import Graph
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.layers import Record


@dataclass(frozen=True)
class Wanted:
    """What calibration has to see.

    ``values`` are names of values. ``linears`` are names of linears whose value *before* the activation is wanted; its
    statistics go under the name of the linear's output. ``divisors`` [channels] of some of the values: what they are
    divided by first.
    """

    values: list[str] = field(default_factory=list)
    linears: list[str] = field(default_factory=list)
    divisors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class Scheme(Protocol):
    """Decides which values of an f32 graph become u8, and rewrites the graph."""

    requires_calibration: ClassVar[bool]

    def wanted(self, graph: Graph) -> Wanted:
        """What `apply` needs statistics of; nothing for a scheme without calibration."""
        ...

    def apply(self, graph: Graph, observed: Mapping[str, Histogram], /) -> tuple[Graph, Record]:
        """The int8 form of an f32 graph, which is left as it is, and a record of what was chosen."""
        ...
