"""Result files and tables of the end-to-end benchmark, and the figures that peers are known to reach."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.machine import cpu_key

SCHEMA = 1
RESULTS = Path(__file__).resolve().parent / "results"
PEER_SLACK = 0.9
"""A peer slower than this share of its known figure voids a comparison: it was not at its best."""


def case_key(result: Mapping[str, Any]) -> tuple[str, float, str]:
    """(model, sparsity, shape) of one case."""
    return result["model"], result["sparsity"], result["shape"]


def format_json(value: Any, indent: str = "") -> str:
    """JSON with six significant digits; what contains no other container is on one line."""
    children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if not any(isinstance(child, (dict, list)) and child for child in children):
        return json.dumps(_rounded(value))
    inner = indent + " "
    texts = [format_json(child, inner) for child in children]
    if isinstance(value, dict):
        texts = [f"{json.dumps(key)}: {text}" for key, text in zip(value, texts, strict=True)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(texts) + f"\n{indent}{closing}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(child) for key, child in value.items()}
    return [_rounded(child) for child in value] if isinstance(value, list) else value


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes `document` so that `path` is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(format_json(document) + "\n")
    partial.replace(path)


def merge_results(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """`document` with the cases of `path` that it has not measured; ValueError unless both are of one machine."""
    if not path.exists():
        return document
    old = json.loads(path.read_text())
    for key in ("schema", "threads", "quick", "versions"):
        if old[key] != document[key]:
            raise ValueError(f"{path}: {key} is {old[key]}, not {document[key]}: write to another file")
    if cpu_key(old["machine"]) != cpu_key(document["machine"]):
        raise ValueError(f"{path} is of another CPU")
    measured = {case_key(result) for result in document["results"]}
    kept = [result for result in old["results"] if case_key(result) not in measured]
    return document | {"results": kept + document["results"]}


def known_peers(machine: dict[str, Any], threads: int, files: Iterable[Path]) -> dict[tuple[Any, ...], float]:
    """{(engine, model, sparsity, shape): best median sequences/s} of this CPU model and thread count in `files`."""
    known: dict[tuple[Any, ...], float] = {}
    for path in files:
        document = json.loads(path.read_text())
        if document["quick"] or document["threads"] != threads or cpu_key(document["machine"]) != cpu_key(machine):
            continue
        for result in document["results"]:
            for engine, entry in result["engines"].items():
                if "sequences_per_second" in entry:
                    key = (engine, *case_key(result))
                    known[key] = max(known.get(key, 0.0), entry["sequences_per_second"]["median"])
    return known


def peers_below(result: Mapping[str, Any], known: Mapping[tuple[Any, ...], float], subject: str) -> list[str]:
    """Sentences on the peers (engines but `subject`) that are below `PEER_SLACK` of their known figure."""
    found = []
    for engine, entry in result["engines"].items():
        best = known.get((engine, *case_key(result)))
        if engine == subject or "sequences_per_second" not in entry or best is None:
            continue
        median = entry["sequences_per_second"]["median"]
        if median < PEER_SLACK * best:
            found.append(f"{engine} reached {median:.1f} sequences/s, but {best:.1f} is known for this CPU")
    return found


def _ratio(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.2f} [{spread['q1']:.2f}-{spread['q3']:.2f}]"


def format_case(result: Mapping[str, Any], threads: int, subject: str, *, quick: bool) -> str:
    """A table of one case: sequences/s, ms per batch, agreement, and the ratio of `subject` to each engine.

    Where `subject` was not timed, the first engine that was takes its place. "others" is the median share of the CPUs
    that other processes took during an engine's rounds. The figures of void engines, if any, are in parentheses.
    """
    timed = [name for name, entry in result["engines"].items() if "sequences_per_second" in entry]
    subject = subject if subject in timed or not timed else timed[0]
    density = "dense" if result["sparsity"] == 0 else f"{result['sparsity']:.0%} of 4x1 blocks zero"
    title = f"{result['model']} ({density}), batch {result['batch']}, sequence {result['sequence']}, {threads} threads"
    if quick:
        title += "   QUICK: NOT CONTRACT-CONFORM"
    heads = ["engine", "variant", "seq/s", "IQR", "ms/batch", "cosine", "argmax", "max diff", "others"]
    rows = [[*heads, f"{subject} / engine"]]
    for name in timed:
        entry = result["engines"][name]
        foreign = [slot["foreign_share"] for slot in entry["rounds"] if slot["kept"]]
        rate, answers = entry["sequences_per_second"], entry["answers"]
        ratio = result["ratios"].get(subject, {}).get(name)
        rows.append(
            [
                f"({name})" if entry["void"] else name,
                entry["variant"],
                f"{rate['median']:.1f}",
                f"{rate['q1']:.1f}-{rate['q3']:.1f}",
                f"{entry['milliseconds']['median']:.2f}",
                f"{answers['cosine']:.4f}",
                f"{answers['argmax_share']:.1%}",
                f"{answers['max_abs_difference']:.1e}",
                "?" if None in foreign else f"{statistics.median(foreign):.0%}",
                (f"({_ratio(ratio)})" if entry["void"] else _ratio(ratio)) if ratio else "",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [title]
    for row in rows:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    lines += [f"  VOID {name}: {entry['void']}" for name, entry in result["engines"].items() if entry["void"]]
    if not quick:
        lines += [f"  not contract-conform: {reason}" for reason in result["departures"]]
    return "\n".join(lines)
