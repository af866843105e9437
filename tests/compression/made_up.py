"""A search among few candidates whose latencies follow from their weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcpu.compression import candidate, trials
from fastcpu.compression.latency import Latency
from tests.compression.start import shorten


def encoder_layers(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What a report says of the encoder's linears."""
    return [row for row in report["layers"] if row["name"].startswith("encoder.layer")]


def by_weights(dense: Path, model: Path, feeds: Any, threads: int) -> Latency:
    """A made-up latency: the weights of the encoder that are not zero."""
    del feeds, threads
    weights = [
        sum(row["shape"][0] * row["shape"][1] * (1 - row["zero_blocks"]) for row in encoder_layers(json.loads(text)))
        for text in ((each / "report.json").read_text() for each in (dense, model))
    ]
    return Latency(weights[1], weights[0], weights[0] / weights[1])


def make_up(set_: Callable[[Any, str, Any], None] = setattr) -> None:
    """Few candidates, whose latencies are made up."""
    shorten(set_)
    set_(trials, "measure_beside", by_weights)
    set_(candidate, "SPARSITIES", (0.0, 0.5, 0.8))
    set_(candidate, "_DEPTHS", (6, 3, 2))
