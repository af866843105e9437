"""The result of a run as a drawing: latency by percentile, and what happened in each second."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING

from fastcpu.report import page as html
from fastcpu.report.svg import curve

if TYPE_CHECKING:
    from fastcpu.load.recorder import Second
    from fastcpu.load.result import Result

_WIDTH, _HEIGHT = 720, 400  # of a curve
_COLUMNS = 2
_STYLE = """
svg { background: #fff; } text { fill: #5b6675; font: 12px system-ui, sans-serif; }
text.axis { fill: #1d2430; font-size: 13px; } text.head { fill: #1d2430; font-size: 18px; }
.grid { stroke: #dfe3e8; } polyline { fill: none; stroke: #1f4e9c; stroke-width: 2; }
"""


def _drawings(result: Result) -> list[str]:
    """`<svg>` elements; those in which there is nothing but zeros are left out."""
    recorder = result.recorder
    seconds = recorder.seconds
    drawings = []
    if recorder.latency.count:
        drawings.append(curve(*_LATENCY, _percentiles(result)))
    for title, label, value in _SERIES:
        points = _steps(seconds, value)
        if any(y for _, y in points):
            drawings.append(curve(title, "second", label, points))
    return drawings


_LATENCY = ("latency by percentile", "1: p90, 2: p99, 3: p99.9 ...; 0.3: the median", "latency of 2xx in ms")


def _percentiles(result: Result) -> list[tuple[float, float]]:
    """(-log10 of the share that takes longer, milliseconds), up to the last request."""
    histogram = result.recorder.latency
    most = math.log10(histogram.count) if histogram.count > 1 else 1.0
    steps = 200
    points = []
    for step in range(steps + 1):
        nines = most * step / steps
        points.append((nines, 1e3 * (histogram.quantile(1 - 10**-nines) or 0.0)))
    return points


def _milliseconds(share: float) -> Callable[[Second], float | None]:
    def value(second: Second) -> float | None:
        found = second.latency.quantile(share)
        return None if found is None else 1e3 * found

    return value


_SERIES: tuple[tuple[str, str, Callable[[Second], float | None]], ...] = (
    ("requests that arrived, by second", "requests that arrived", lambda second: second.sent),
    ("answers with 2xx, by second", "answers with 2xx", lambda second: second.good),
    ("median latency, by second", "p50 of 2xx in ms", _milliseconds(0.5)),
    ("99th percentile of latency, by second", "p99 of 2xx in ms", _milliseconds(0.99)),
    ("refusals and errors, by second", "429, 503 and errors", lambda second: second.refused + second.errors),
)


def _steps(seconds: Sequence[Second], value: Callable[[Second], float | None]) -> list[tuple[float, float]]:
    """A level line across each second that has a value."""
    points = []
    for number, second in enumerate(seconds):
        level = value(second)
        if level is not None:
            points += [(float(number), level), (float(number + 1), level)]
    return points


def svg(result: Result) -> str:
    """One picture, which needs nothing else."""
    drawings = _drawings(result)
    rows = math.ceil(len(drawings) / _COLUMNS)
    lines = [*(f"NOT VALID: {problem}" for problem in result.problems), *(f"Note: {note}" for note in result.notes)]
    head = 34 + 22 * len(lines)
    width, height = _COLUMNS * _WIDTH, head + rows * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{_STYLE}</style>",
        f'<text class="head" x="20" y="24">{escape(_title(result))}</text>',
    ]
    for number, line in enumerate(lines):
        parts.append(f'<text class="axis" x="20" y="{46 + 22 * number}">{escape(line)}</text>')
    for number, drawing in enumerate(drawings):
        x, y = number % _COLUMNS * _WIDTH, head + number // _COLUMNS * _HEIGHT
        parts.append(drawing.replace("<svg ", f'<svg x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" ', 1))
    return "\n".join([*parts, "</svg>", ""])


def page(result: Result, command: str) -> str:
    """An HTML page with the picture, the tables and the command."""
    notes = [*(f"Not valid: {problem}" for problem in result.problems), *(f"Note: {note}" for note in result.notes)]
    parts = [html.notes(notes)] if notes else []
    parts += [html.plots(_drawings(result)), html.heading("Numbers"), html.command(result.text())]
    parts += [html.heading("Command"), html.command(command)]
    return html.page(_title(result), f"Started {result.started}.", parts)


def _title(result: Result) -> str:
    plan = result.plan
    load = f"{plan.rate:g} requests/s" if plan.rate is not None else f"{plan.concurrency} requests under way"
    return f"{plan.label or plan.target.authority}: {load}"
