"""The report of a compression: report.json, and a page and a model card made of it, beside the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcpu.compression import card, page
from fastcpu.compression.source import describe_source
from fastcpu.export.writer import CARD_FILE, PAGE_FILE, REPORT_FILE, WEIGHTS_FILE
from fastcpu.files import write_json
from fastcpu.report.machine import machine

if TYPE_CHECKING:
    from fastcpu.compression.plan import Plan
    from fastcpu.eval.log import EvaluationLog

LOG_LINES = 100
"""So many lines of the training log are kept; more would not show in a plot."""


@dataclass(frozen=True)
class Circumstances:
    """What a report says beside the plan.

    Attributes:
        command: as it was typed; None for a call from Python.
        timing: whether to measure latency and the times of ops.
        teacher: the compiled teacher in f32, if there is one.
        problem: why there is none; empty if nobody asked.
        peers: other engines to measure beside the model, names of `fastcpu.peers.PEERS`.
        log: where evaluations on test data are noted, if the gate's data is.
    """

    command: str | None
    timing: bool
    teacher: Path | None
    problem: str = ""
    peers: tuple[str, ...] = ()
    log: EvaluationLog | None = None


def write_report(directory: Path, plan: Plan, circumstances: Circumstances) -> None:
    """Completes report.json of a model that is not published yet, and writes report.html and README.md."""
    from fastcpu.compression.gate import gate_length
    from fastcpu.compression.measure import beside_engines, latencies, op_times

    teacher, peers = circumstances.teacher, circumstances.peers
    models = {"model": directory} if teacher is None else {"teacher": teacher, "model": directory}
    sizes = {name: (path / WEIGHTS_FILE).stat().st_size for name, path in models.items()}
    timing, length = circumstances.timing, gate_length(plan.recipe)
    report = add_to_report(
        directory,
        {
            "command": circumstances.command,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(),
            "source": describe_source(Path(plan.model)),
            "bytes": {"teacher": None} | sizes,
            "latency": latencies(models, plan.threads) if timing else [],
            "engines": beside_engines(directory, peers, plan.threads, plan.gate, length, circumstances.log)
            if peers
            else [],
            "times": op_times(directory, plan.threads) if timing else None,
            "problem": circumstances.problem,
        },
    )
    (directory / PAGE_FILE).write_text(page.html(report), encoding="utf-8")
    (directory / CARD_FILE).write_text(card.markdown(report), encoding="utf-8")


def add_to_report(directory: Path, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to what report.json says of the compression; returns all of report.json."""
    path = directory / REPORT_FILE
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    report["compression"] |= entries
    report = plain(report)
    write_json(path, report)
    return report


def plain(value: Any) -> Any:
    """As JSON and UTF-8 can hold it: None for numbers that are not finite, escapes for bytes that are no text."""
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def thinned(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `LOG_LINES` lines of a training log, evenly chosen, the first and the last among them."""
    if len(log) <= LOG_LINES:
        return log
    return [log[round(index)] for index in np.linspace(0, len(log) - 1, LOG_LINES)]
