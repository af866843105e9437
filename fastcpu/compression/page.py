"""report.html: the report of a compression as a page that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastcpu.compression import describe
from fastcpu.compression.describe import MODEL, TEACHER, Json, number
from fastcpu.report import page, svg


def html(report: Json) -> str:
    """The page for the contents of a report.json."""
    compression = report["compression"]
    accuracy = describe.quality(report)
    parts = [
        page.notes(describe.limits(report)),
        page.heading("In short"),
        page.table(*describe.summary(report)),
        *_plot(compression),
        *([] if accuracy is None else [page.heading("Quality (95 % intervals)"), page.table(*accuracy)]),
        *_engines(report),
        *_search(report),
        *_curves(compression["log"]),
        page.heading("Command"),
        page.command(compression["command"] or "Python API"),
        page.heading("How it was made"),
        page.facts(describe.steps(report)),
        page.heading("Data"),
        page.facts(describe.data(report)),
        *_layers(report),
        *_ranges(report["ranges"]),
        *_times(compression["times"]),
        *_remarks(report),
        page.heading("Machine"),
        page.facts(compression["machine"]),
        page.heading("Versions"),
        page.facts(report["versions"]),
    ]
    plan = compression["plan"]
    lead = f"Recipe {plan['recipe']['name']}, seed {plan['seed']}, {compression['created']}."
    return page.page(describe.title(report), lead, parts)


# ---- plots ----


def _plot(compression: Json) -> list[str]:
    """Quality against latency at the greatest length, or size against latency where quality was not measured."""
    if not compression["latency"]:
        return []
    row, accuracy = compression["latency"][-1], compression.get("accuracy")
    metric = None if accuracy is None else describe.headline(accuracy)
    found = [
        (label, row[name], compression["bytes"][name], (accuracy or {}).get(name))
        for name, label in (("teacher", TEACHER), ("model", MODEL))
        if name in row
    ]
    found += [
        (entry["engine"], entry, entry["bytes"], entry.get("accuracy"))
        for entry in compression["engines"][1:]
        if "problem" not in entry
    ]
    points = []
    for name, times, size, metrics in found:
        label, height = f"{name}, {size / 1e6:.1f} MB", (size / 1e6,) * 3
        if metric is not None:
            value = (metrics or {}).get(metric, {})
            height = tuple(value.get(bound) for bound in ("value", "low", "high"))
        known = _finite(*height)
        label += "" if known else " (dotted: its quality is not known)"
        points.append(svg.Point(label, (times["median"], times["low"], times["high"]), height if known else None))
    if all(point.y is None for point in points):
        return []
    title = f"{'Size' if metric is None else 'Quality'} against latency"
    y_label = "MB" if metric is None else f"{metric} (95 % interval)"
    x_label = f"ms per sequence of {row['sequence']} tokens, alone (median and quartiles)"
    return [page.heading(title), svg.scatter(title, x_label, y_label, points)]


def _engines(report: Json) -> list[str]:
    table = describe.engines(report)
    if table is None:
        return []
    explained = "This model in each engine, on the files that `fastcpu export` writes of it; nothing is tuned for any."
    return [page.heading("Beside other engines"), page.paragraph(explained), page.table(*table)]


def _search(report: Json) -> list[str]:
    table = describe.search(report)
    if table is None:
        return []
    found = report["compression"]["search"]
    shape = found["measured_on"]
    length = (
        "128 tokens (or as many as the model takes)" if shape["sequence"] is None else f"{shape['sequence']} tokens"
    )
    left = len(found["candidates"]) - len(table[1])
    explained = (
        f"Looked for: {found['target']}. Times are of {shape['batch']} sequences of {length} on "
        f"{shape['threads']} threads, before training; scores ({found['score']}) are of short trainings, each with the "
        f"share of the steps in brackets. Candidates that these rule out, and so not measured: {left}."
    )
    return [page.heading("Search"), page.paragraph(explained), page.table(*table)]


def _curves(log: Sequence[Mapping[str, Any]]) -> list[str]:
    """A plot per loss, of the learning rate and of the sparsity; those without two finite points are left out."""
    series: dict[str, list[tuple[float, float]]] = {}
    for entry in log:
        values = {f"loss: {name}": value for name, value in entry["losses"].items()}
        values |= {name.replace("_", " "): entry.get(name) for name in ("learning_rate", "sparsity")}
        for name, value in values.items():
            if _finite(value):
                series.setdefault(name, []).append((entry["step"], value))
    drawings = [svg.curve(name, "step", name, points) for name, points in series.items() if len(points) > 1]
    return [page.heading("Training"), page.plots(drawings)] if drawings else []


def _finite(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


# ---- tables ----


def _layers(report: Json) -> list[str]:
    header = ("linear", "shape", "stored as", "density", "zero 4x1 blocks", "weight error", "SNR", "KB")
    rows = []
    for layer in report["layers"]:
        zeros = layer["zero_blocks"]
        density = 1 - zeros if layer["encoding"] == "block" and zeros is not None else 1.0
        rows.append(
            [
                layer["name"],
                "x".join(map(str, layer["shape"])),
                f"{layer['storage']} {layer['encoding']}",
                f"{density:.3f}",
                number(zeros, ".1%"),
                *_error_cells(layer["weight_error"]),
                f"{layer['bytes'] / 1e3:.1f}",
            ]
        )
    explained = (
        "Density is the share of the weights that are stored and computed with. The weight error is the squared error "
        "of the int8 weights against those of the f32 model that was exported, relative to the squares of these."
    )
    table = page.paragraph(explained) + "\n" + page.table(header, rows)
    return [page.heading("Layers"), page.details(f"{len(rows)} linears", table)]


def _ranges(ranges: Mapping[str, Json]) -> list[str]:
    """Scales of static quantization, and their errors."""
    if not ranges:
        return []
    header = ("u8 value", "scale", "zero point", "low", "high", "lowest seen", "highest seen", "error", "SNR")
    rows = [
        [
            name,
            f"{found['scale']:.6g}",
            str(found["zero_point"]),
            *(number(found[key], ".4g") for key in ("low", "high", "seen_low", "seen_high")),
            *_error_cells(found["error"]),
        ]
        for name, found in ranges.items()
    ]
    explained = (
        "What calibration has seen outside of low and high is clamped. The error is the squared error of rounding and "
        "clamping on what was seen, relative to its squares; that of an activation table is of what comes out."
    )
    table = page.paragraph(explained) + "\n" + page.table(header, rows)
    return [page.heading("Activation ranges"), page.details(f"{len(rows)} values", table)]


def _error_cells(error: float | None) -> list[str]:
    """A relative squared error, and as a signal-to-noise ratio."""
    return [number(error, ".2e"), f"{-10 * math.log10(error):.1f} dB" if error else ""]


def _times(times: Json | None) -> list[str]:
    if times is None:
        return []

    def cells(row: Json) -> list[str]:
        return [
            number(row["milliseconds"], ".4f"),
            number(row["share"], ".1%"),
            number(row["gops"], ".0f"),
            number(row["peak_share"], ".0%"),
        ]

    numbers = ("ms", "share", "GOPS", "of peak")
    rows = [[kind["name"], str(kind["ops"]), *cells(kind)] for kind in times["kinds"]]
    kinds = page.table(("kind", "ops", *numbers), rows)
    rows = [[op["name"], op["kernel"], number(op["density"], ".2f"), *cells(op)] for op in times["ops"]]
    ops = page.table(("op", "kernel", "density", *numbers), rows)
    explained = (
        f"A sequence of {times['sequence']} tokens alone, as `fastcpu doctor` measures it: sums over threads, divided "
        "by their number; the peak is that of this CPU in the same minute."
    )
    return [
        page.heading("Where the time goes"),
        page.paragraph(explained),
        kinds,
        page.details(f"{len(rows)} ops", ops),
        page.notes(times["verdicts"]),
    ]


def _remarks(report: Json) -> list[str]:
    """What stayed f32, and what the importer did not recognize."""
    parts = []
    if report["kept_f32"]:
        parts += [page.heading("Linears that stay f32"), page.facts(report["kept_f32"])]
    if report["not_fused"]:
        parts += [page.heading("Not fused"), page.notes(report["not_fused"])]
    return parts
