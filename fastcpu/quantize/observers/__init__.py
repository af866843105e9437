"""Observers: which range of a value deserves the 256 levels.

To add one: a file here with a frozen dataclass that has ``limits``, its fields being the options, and its line below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

from fastcpu.errors import QuantizationError
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.observers.minmax import MinMax
from fastcpu.quantize.observers.mse import Mse
from fastcpu.quantize.observers.percentile import Percentile


class Observer(Protocol):
    """Maps statistics to a range."""

    def limits(self, histogram: Histogram, is_symmetric: bool, /) -> tuple[float, float]:
        """The lowest and highest value to represent; what lies outside is clamped."""
        ...


OBSERVERS: dict[str, type[Observer]] = {
    "minmax": MinMax,
    "mse": Mse,
    "percentile": Percentile,
}


def make_observer(name: str, options: Mapping[str, Any] | None = None) -> Observer:
    """An observer by name; QuantizationError for an unknown name, option or value."""
    if name not in OBSERVERS:
        raise QuantizationError(f"no observer {name!r}; there are {', '.join(OBSERVERS)}")
    known = {field.name for field in fields(OBSERVERS[name])}  # type: ignore[arg-type]
    unknown = set(options or ()) - known
    if unknown:
        raise QuantizationError(f"observer {name} has no option {', '.join(sorted(unknown))}; it has {sorted(known)}")
    return OBSERVERS[name](**(options or {}))
