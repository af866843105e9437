"""Scatter plots with intervals, bars, and curves, as inline SVG. Colours are the CSS variables of report/page.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 20, 52
_COLOURS = 6  # --c0 ... --c5


@dataclass(frozen=True)
class Point:
    """A mark at (x, y) with its intervals; a vertical line across the plot for what has no y.

    Attributes:
        x, y: (value, low, high).
    """

    label: str
    x: tuple[float, float, float]
    y: tuple[float, float, float] | None


@dataclass(frozen=True)
class Line:
    """A horizontal line across the plot, for what has no x."""

    label: str
    y: float


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to the value, with its interval.

    Attributes:
        value: (value, low, high).
    """

    label: str
    value: tuple[float, float, float]


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def scatter(title: str, x_label: str, y_label: str, points: Sequence[Point], lines: Sequence[Line] = ()) -> str:
    """An `<svg>` element, x from 0 and y over the range of the intervals, followed by its legend.

    At least one point or line must have a y.
    """
    y_values = [value for point in points for value in point.y or ()] + [line.y for line in lines]
    axes = _Axes(max(point.x[2] for point in points) * 1.08 or 1.0, *_range(y_values))
    parts = axes.frame(title, x_label, y_label)
    for line in lines:
        parts.append(_line("reference", _LEFT, axes.py(line.y), _WIDTH - _RIGHT, axes.py(line.y)))
        parts.append(_text("tick", _WIDTH - _RIGHT - 4, axes.py(line.y) - 5, line.label, "end"))
    for index, point in enumerate(points):
        x, x_from, x_to = map(axes.px, point.x)
        parts.append(f'<g class="c{index % _COLOURS}"><title>{escape(point.label)}</title>')
        if point.y is None:
            parts.append(_line("interval dashed", x, _TOP, x, _HEIGHT - _BOTTOM))
        else:
            y, y_from, y_to = map(axes.py, point.y)
            parts.append(_line("interval", x, y_from, x, y_to))
            parts.append(_line("interval", x_from, y, x_to, y))
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        parts.append("</g>")
    entries = [
        f'<li class="c{index % _COLOURS}"><span></span>{escape(point.label)}</li>' for index, point in enumerate(points)
    ]
    return "\n".join([*parts, "</svg>", '<ul class="legend">', *entries, "</ul>"])


def bars(title: str, x_label: str, entries: Sequence[Bar]) -> str:
    """An `<svg>` element with one horizontal bar below the other, x from 0; the first bar stands out."""
    left, row, thick = 190, 26, 16
    bottom = _TOP + row * len(entries)
    height, right = bottom + _BOTTOM, _WIDTH - 70  # room for the last number
    high = max(entry.value[2] for entry in entries) or 1.0
    scale = (right - left) / high
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        _text("axis", (left + right) / 2, height - 12, x_label, "middle"),
    ]
    for tick in ticks(0.0, high):
        x = left + tick * scale
        parts.append(_line("grid", x, _TOP, x, bottom))
        parts.append(_text("tick", x, bottom + 16, f"{tick:g}", "middle"))
    for index, entry in enumerate(entries):
        top = _TOP + row * index + (row - thick) / 2
        value, low, up = (left + number * scale for number in entry.value)
        parts.append(_text("axis", left - 8, top + thick - 4, entry.label, "end"))
        parts.append(f'<g class="c{0 if index == 0 else 5}">')
        parts.append(f'<rect x="{left}" y="{top:.1f}" width="{value - left:.1f}" height="{thick}"/>')
        parts.append(_line("error", low, top + thick / 2, up, top + thick / 2))
        parts.append("</g>")
        parts.append(_text("tick", max(value, up) + 6, top + thick - 4, f"{entry.value[0]:.3g}", "start"))
    return "\n".join([*parts, "</svg>"])


def curve(title: str, x_label: str, y_label: str, points: Sequence[tuple[float, float]]) -> str:
    """An `<svg>` element with the line through points (x, y) in the order of x, x from 0, y over their range."""
    axes = _Axes(max(x for x, _ in points) or 1.0, *_range([y for _, y in points]))
    line = " ".join(f"{axes.px(x):.1f},{axes.py(y):.1f}" for x, y in points)
    return "\n".join([*axes.frame(title, x_label, y_label), f'<polyline class="c0" points="{line}"/>', "</svg>"])


@dataclass(frozen=True)
class _Axes:
    """A plot from 0 to ``x_high`` and from ``y_low`` to ``y_high``."""

    x_high: float
    y_low: float
    y_high: float

    def px(self, x: float) -> float:
        return _LEFT + x / self.x_high * (_WIDTH - _LEFT - _RIGHT)

    def py(self, y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - self.y_low) / (self.y_high - self.y_low) * (_HEIGHT - _TOP - _BOTTOM)

    def frame(self, title: str, x_label: str, y_label: str) -> list[str]:
        """The beginning of the element: labels and grid."""
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        center, middle = (_LEFT + right) / 2, (_TOP + bottom) / 2
        parts = [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            _text("axis", center, _HEIGHT - 12, x_label, "middle"),
            _text("axis", 16, middle, y_label, "middle", f' transform="rotate(-90 16 {middle:.1f})"'),
        ]
        for tick in ticks(0.0, self.x_high):
            parts.append(_line("grid", self.px(tick), _TOP, self.px(tick), bottom))
            parts.append(_text("tick", self.px(tick), bottom + 16, f"{tick:g}", "middle"))
        for tick in ticks(self.y_low, self.y_high):
            parts.append(_line("grid", _LEFT, self.py(tick), right, self.py(tick)))
            parts.append(_text("tick", _LEFT - 6, self.py(tick) + 4, f"{tick:g}", "end"))
        return parts


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From a little below the lowest to a little above the highest."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.12 or abs(high) * 0.1 or 0.01
    return low - margin, high + margin


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(kind: str, x: float, y: float, text: str, anchor: str, attributes: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{escape(text)}</text>'
