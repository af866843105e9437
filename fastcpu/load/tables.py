"""The result of a run as text."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastcpu.load.histogram import Histogram
from fastcpu.report.table import text_table

if TYPE_CHECKING:
    from fastcpu.load.result import Result

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_ERRORS = {
    "refused": "connection refused",
    "reset": "connection reset",
    "closed": "connection closed before the end of the answer",
    "timeout": "given up after the timeout",
    "malformed": "the answer was no HTTP",
    "unreachable": "no connection",
    "local": "no port, file descriptor or memory left here",
}


def duration(seconds: float | None) -> str:
    """A time with three digits and its unit; empty for None."""
    if seconds is None:
        return ""
    factor, unit = next((each for each in _UNITS if seconds >= each[0] * 0.9995), _UNITS[-1])
    value = seconds / factor
    return f"{value:.{max(0, 2 - (value >= 9.995) - (value >= 99.95))}f} {unit}"


def text(result: Result) -> str:
    """Everything that people need, most important first."""
    plan = result.plan
    load = f"{plan.rate:g} requests/s, open loop" if plan.rate is not None else f"{plan.concurrency} under way"
    per_request = "1 text each" if plan.batch == 1 else f"{plan.batch} texts each"
    where = f"http://{plan.target.authority}{plan.path} ({plan.protocol})"
    lines = [
        f"{plan.label}: {where}" if plan.label else where,
        f"{load}, {per_request}, for {result.seconds:.4g} s after {plan.warmup:g} s of warm-up",
        _texts(result),
    ]
    problems = result.problems
    if problems:
        lines += [
            "",
            "NOT VALID: these numbers do not tell what the server can do.",
            *(f"  * {one}" for one in problems),
        ]
    if result.notes:
        lines += ["", *(f"Note: {one}." for one in result.notes)]
    return "\n".join([*lines, "", _latencies(result), "", _rates(result), "", *_outcomes(result), _generator(result)])


def _texts(result: Result) -> str:
    found = result.plan.corpus.describe()
    kind = "characters" if found["tokens"] is None else "tokens"
    spread = found[kind]
    lengths = f"{spread['min']} to {spread['max']} {kind}, mean {spread['mean']:g}, median {spread['p50']}"
    return f"{found['distinct']} different texts ({found['source']}): {lengths}"


def _latencies(result: Result) -> str:
    recorder = result.recorder
    histograms = {"latency": recorder.latency, "of refusals": recorder.refusal_latency}
    rows = [_row(name, found) for name, found in histograms.items() if found.count or name == "latency"]
    return text_table(("", "answers", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"), rows)


def _row(name: str, histogram: Histogram) -> list[str]:
    times = {key: value for key, value in histogram.summary().items() if key not in ("count", "min")}
    return [name, str(histogram.count), *map(duration, times.values())]


def _rates(result: Result) -> str:
    recorder = result.recorder
    rows = [
        ["arrived", f"{recorder.sent / result.seconds if result.seconds else 0:.1f}", ""],
        ["answered", f"{result.requests_per_second:.1f}", ""],
        ["answered with 2xx", f"{result.good_per_second:.1f}", f"{result.texts_per_second:.1f}"],
    ]
    return text_table(("", "requests/s", "texts/s"), rows)


def _outcomes(result: Result) -> list[str]:
    """One line per status and per kind of error, of the requests that arrived within the measured time."""
    recorder = result.recorder
    lines = [
        f"{count} answers {status_text(status, recorder.excerpts.get(status, ''))}"
        for status, count in sorted(recorder.statuses.items())
    ]
    lines += [f"{count} errors: {error_text(kind)}" for kind, count in sorted(recorder.errors.items()) if count]
    if recorder.unfinished:
        lines.append(f"{recorder.unfinished} requests without an answer when the run was interrupted")
    return lines


def status_text(status: int, body: str) -> str:
    """A status with its name and the beginning of a body, in one line."""
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    excerpt = " ".join("".join(each if each.isprintable() else " " for each in body).split())
    return f"{status}{phrase}{f': {excerpt}' if excerpt else ''}"


def error_text(kind: str) -> str:
    """What a kind of error is, for people."""
    return _ERRORS[kind]


def _generator(result: Result) -> str:
    late = result.recorder.lateness.quantile(0.99)
    lateness = f"late by at most {duration(late)} for 99 %, " if result.plan.rate is not None and late else ""
    connections = f"connections: {result.client.opened}, requests under way: at most {result.client.peak}"
    busy = f"busy {100 * result.usage.busy:.0f} % of the time, without a CPU {100 * result.usage.starved:.0f} %"
    return f"generator: {lateness}{busy}; {connections}"
