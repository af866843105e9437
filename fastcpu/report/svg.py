"""Scatter plots with intervals as inline SVG. Colours are the CSS variables of report/page.py."""

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
    """A mark at (x, y) with its intervals.

    Attributes:
        x, y: (value, low, high).
    """

    label: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]


@dataclass(frozen=True)
class Line:
    """A horizontal line across the plot, for what has no x."""

    label: str
    y: float


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def scatter(title: str, x_label: str, y_label: str, points: Sequence[Point], lines: Sequence[Line] = ()) -> str:
    """An `<svg>` element, x from 0 and y over the range of the intervals, followed by its legend."""
    x_high = max(point.x[2] for point in points) * 1.08 or 1.0
    y_values = [value for point in points for value in point.y] + [line.y for line in lines]
    margin = (max(y_values) - min(y_values)) * 0.12 or 0.01
    y_low, y_high = min(y_values) - margin, max(y_values) + margin

    def px(x: float) -> float:
        return _LEFT + x / x_high * (_WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    center, middle = (_LEFT + right) / 2, (_TOP + bottom) / 2
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        _text("axis", center, _HEIGHT - 12, x_label, "middle"),
        _text("axis", 16, middle, y_label, "middle", f' transform="rotate(-90 16 {middle:.1f})"'),
    ]
    for tick in ticks(0.0, x_high):
        parts.append(_line("grid", px(tick), _TOP, px(tick), bottom))
        parts.append(_text("tick", px(tick), bottom + 16, f"{tick:.4g}", "middle"))
    for tick in ticks(y_low, y_high):
        parts.append(_line("grid", _LEFT, py(tick), right, py(tick)))
        parts.append(_text("tick", _LEFT - 6, py(tick) + 4, f"{tick:.4g}", "end"))
    for line in lines:
        parts.append(_line("reference", _LEFT, py(line.y), right, py(line.y)))
        parts.append(_text("tick", right - 4, py(line.y) - 5, line.label, "end"))
    for index, point in enumerate(points):
        (x, x_from, x_to), (y, y_from, y_to) = ([px(each) for each in point.x], [py(each) for each in point.y])
        parts.append(f'<g class="c{index % _COLOURS}">')
        parts.append(_line("interval", x, y_from, x, y_to))
        parts.append(_line("interval", x_from, y, x_to, y))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(point.label)}</title></circle></g>')
    entries = [
        f'<li class="c{index % _COLOURS}"><span></span>{escape(point.label)}</li>' for index, point in enumerate(points)
    ]
    return "\n".join([*parts, "</svg>", '<ul class="legend">', *entries, "</ul>"])


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(kind: str, x: float, y: float, text: str, anchor: str, attributes: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{escape(text)}</text>'
