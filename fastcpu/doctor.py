"""Where the time of a model goes on this CPU, and what would make it faster.

`diagnose` runs random tokens through a profiled session and puts every op beside the peak that the same CPU reached in
the same minute, and beside the least time that `fastcpu.roofline` gives it. Times of ops are sums over threads; rates
(GOPS) are of all threads together.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core, roofline
from fastcpu.errors import InputError
from fastcpu.graph.limits import BLOCK_HEIGHT
from fastcpu.report.machine import cpu_name
from fastcpu.runtime import Session

DEFAULT_SEQUENCE = 128
MAX_TOKENS = 2**31 - 1
"""Of a batch, as docs/format.md says."""
_MIN_RUNS = 3
_CPU_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve")
_LAYER = re.compile(r"^(.*?\d+)(?:\.|$)")

Json = dict[str, Any]


def diagnose(
    path: str | os.PathLike[str],
    *,
    batch: int = 8,
    sequence: int | None = None,
    threads: int = 0,
    seconds: float = 0.5,
) -> Json:
    """Everything that `fastcpu doctor` prints, JSON-serializable.

    Args:
        path: model directory.
        batch: sequences per run.
        sequence: tokens per sequence; by default 128, or as many as the model has positions.
        threads: threads per run; 0 takes all available CPUs.
        seconds: time of the profiled runs.
    """
    model = _core.read_model(os.fspath(path))
    feeds = random_feeds(model, batch, sequence)
    session = Session(path, threads=threads, profile=True)
    wall, ops = _profile(session, feeds, seconds)
    peak = _core.measure_peak(session.threads)
    report = _report(Path(path))
    length = next(iter(feeds.values())).shape[1]
    described = _describe_ops(ops, model, peak, batch * length)
    result: Json = {
        "model": {"directory": os.fspath(path), "name": model["name"]},
        "batch": batch,
        "sequence": length,
        "machine": _machine(session),
        "peak": peak,
        "milliseconds": 1e3 * wall,
        "sequences_per_second": batch / wall,
        "thread_seconds": wall * session.threads,
        "busy_seconds": sum(op["seconds"] for op in described),
        "ops": described,
        "kinds": _grouped(described, lambda op: str(op["kind"]), peak),
        "layers": _grouped(described, _layer_of, peak),
        "linears": _linears(described, model, report),
        "not_fused": report.get("not_fused", []),
        "weight_bytes": model["weight_bytes"],
        "packed_bytes": sum(op["packed_bytes"] for op in described),
    }
    result["verdicts"] = verdicts(result)
    return result


# ---- measurement ----


def _table_rows(model: Json) -> dict[str, list[int]]:
    """The sizes of the tables that ids, positions and types index, without the position that is of padding alone."""
    unpad = next((node for node in model["nodes"] if node["op"] == "unpad"), None)
    counted = unpad is not None and "padding_id" in unpad["attrs"]
    roles = {} if unpad is None else dict(zip(unpad["outputs"], ("ids", "positions", "types"), strict=False))
    rows: dict[str, list[int]] = {}
    for node in model["nodes"]:
        if node["op"] == "embedding":
            for i, value in enumerate(node["inputs"]):
                table = model["tensors"][node["tensors"][f"table{i}"]]
                role = roles.get(value, value)
                rows.setdefault(role, []).append(table["shape"][0] - (counted and role == "positions"))
    return rows


def random_feeds(model: Json, batch: int, sequence: int | None = None) -> dict[str, NDArray[np.int64]]:
    """Random tokens without padding for what `_core.read_model` returned; `batch` and `sequence` as in `diagnose`.

    Raises:
        InputError: the model does not take so many tokens, or they do not fit into memory.
    """
    if batch < 1 or (sequence is not None and sequence < 1):
        raise InputError("batch and sequence must be at least 1")
    rows = _table_rows(model)
    positions = min(rows.get("positions", [MAX_TOKENS]))
    if sequence is None:
        sequence = min(DEFAULT_SEQUENCE, positions)
    if sequence > positions:
        raise InputError(f"a sequence of length {sequence} is too long: the model has {positions} positions")
    if batch * sequence > MAX_TOKENS:
        raise InputError(
            f"a batch of {batch} sequences of {sequence} tokens is too large: a run takes at most {MAX_TOKENS} tokens"
        )
    try:
        made = {
            "ids": np.random.default_rng(0).integers(0, min(rows.get("ids", [1])), (batch, sequence)),
            "mask": np.ones((batch, sequence), np.int64),
            "types": np.zeros((batch, sequence), np.int64),
        }
    except MemoryError as error:
        raise InputError(
            f"a batch of {batch} sequences of {sequence} tokens is too large: not enough memory"
        ) from error
    return {name: made[role] for name, role, _ in model["inputs"]}


def _profile(session: Session, feeds: Mapping[str, NDArray[np.int64]], seconds: float) -> tuple[float, list[Json]]:
    """Seconds of a run, and what `Session.ops` says of one: lower quartiles over many runs.

    So what other processes disturbed is left out, op by op.
    """
    for _ in range(2):
        session.run(feeds)
    end = time.perf_counter() + seconds
    walls: list[float] = []
    times: list[list[float]] = []
    while len(walls) < _MIN_RUNS or time.perf_counter() < end:
        session.reset_profile()
        begin = time.perf_counter()
        session.run(feeds)
        walls.append(time.perf_counter() - begin)
        ops = session.ops()
        times.append([op["seconds"] for op in ops])
    quartiles = np.percentile(np.array(times), 25, axis=0).tolist()
    return float(np.percentile(walls, 25)), [op | {"seconds": s} for op, s in zip(ops, quartiles, strict=True)]


def _machine(session: Session) -> Json:
    flags: list[str] = []
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
        flags = [flag for flag in _CPU_FLAGS if found is not None and flag in found[1].split()]
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "cpu": cpu_name(),
        "flags": flags,
        "isa": session.isa,
        "isa_title": _core.isa_title(session.isa),
        "best_isa": _core.supported_isas()[0],
        "tiers": _core.supported_isas(),
        "threads": session.threads,
        "cpus": os.cpu_count(),
        "cpus_in_affinity": affinity,
        "cpus_available": _core.available_cpus(),
    }


def _report(path: Path) -> Json:
    """report.json of the compilation, where there is one."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads((path / "report.json").read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("not_fused", []), list):
            return found
    return {}


# ---- ops ----


def _kind(node: Json, model: Json) -> tuple[str, str | None]:
    """What an op is called in a sum over kinds, and the peak that it is held against."""
    if node["op"] not in ("linear", "attention"):
        return node["op"], None
    dtype = model["values"][node["inputs"][0]]["dtype"]
    precision = "int8" if dtype == "u8" else "f32"
    return f"{node['op']} {precision}", precision


def _rates(seconds: float, macs: float, precision: str | None, peak: Json) -> Json:
    if precision is None or seconds <= 0 or macs <= 0:
        return {"gops": None, "peak_share": None}
    gops = 2 * macs * peak["threads"] / seconds / 1e9
    limit = peak["int8_gops"] if precision == "int8" else peak["f32_gflops"]
    return {"gops": gops, "peak_share": gops / limit}


def _describe_ops(ops: Sequence[Json], model: Json, peak: Json, tokens: int) -> list[Json]:
    total = sum(op["seconds"] for op in ops) or 1.0
    weight_rate = roofline.weight_rate(sum(op["read_bytes"] for op in ops), peak)
    described = []
    for op, node in zip(ops, model["nodes"], strict=True):
        kind, precision = _kind(node, model)
        rates = _rates(op["seconds"], op["macs"], precision, peak)
        keys = ("name", "op", "kernel", "density", "seconds", "macs", "packed_bytes", "read_bytes")
        share = op["seconds"] / total
        row = {key: op[key] for key in keys} | {"kind": kind, "precision": precision, "share": share} | rates
        described.append(row | roofline.bound(row, node, model, peak, tokens=tokens, weight_rate=weight_rate))
    return described


def _layer_of(op: Json) -> str:
    """The name up to its first number: `bert.encoder.layer.3`."""
    found = _LAYER.match(op["name"])
    return found[1] if found else "outside the layers"


def _grouped(ops: Sequence[Json], key: Callable[[Json], str], peak: Json) -> list[Json]:
    groups: dict[str, list[Json]] = {}
    for op in ops:
        groups.setdefault(key(op), []).append(op)
    rows = []
    for name, members in groups.items():
        row: Json = {"name": name, "ops": len(members)}
        row |= {total: sum(op[total] for op in members) for total in ("seconds", "share", "macs", "bound_seconds")}
        bounds = {op["bound_by"] for op in members}
        row["bound_by"] = bounds.pop() if len(bounds) == 1 else "several"
        kinds = {op["precision"] for op in members}
        rows.append(row | _rates(row["seconds"], row["macs"], kinds.pop() if len(kinds) == 1 else None, peak))
    return rows


def _linears(ops: Sequence[Json], model: Json, report: Json) -> list[Json]:
    """Which linears run sparse, and why the others do not."""
    zero_blocks = {row.get("name"): row.get("zero_blocks") for row in report.get("layers", [])}
    rows = []
    for op, node in zip(ops, model["nodes"], strict=True):
        if node["op"] != "linear":
            continue
        tensor = model["tensors"][node["tensors"]["weight"]]
        sparse = op["kernel"].startswith("spmm")
        reason = "" if sparse else _why_dense(node["name"], tensor, zero_blocks.get(node["name"]), report)
        keys = ("name", "kernel", "density", "share", "gops", "peak_share")
        rows.append({key: op[key] for key in keys} | {"shape": tensor["shape"], "sparse": sparse, "reason": reason})
    return rows


def _why_dense(name: str, tensor: Json, zero_blocks: float | None, report: Json) -> str:
    if tensor["storage"] == "f32":
        reason = report.get("kept_f32", {}).get(name)
        return "f32 weights; only int8 weights run sparse" + (f" (stays f32: {reason})" if reason else "")
    if tensor["encoding"] == "block":
        return "stored as blocks, but the dense kernel was asked for"
    if tensor["shape"][0] % BLOCK_HEIGHT:
        return f"{tensor['shape'][0]} output channels are not a multiple of {BLOCK_HEIGHT}"
    if zero_blocks is None:
        return "stored dense"
    return f"{100 * zero_blocks:.0f} % of its 4x1 blocks are zero: too few"


# ---- conclusions ----


def verdicts(result: Json) -> list[str]:
    """What to know, in plain words, most important first."""
    return [*_about_machine(result["machine"]), *_about_time(result), *_about_sparsity(result), *_about_fusion(result)]


def _about_machine(machine: Json) -> list[str]:
    found = []
    best = _core.isa_title(machine["best_isa"])
    if machine["isa"] != machine["best_isa"]:
        found.append(f"FASTCPU_ISA holds the kernels to {machine['isa_title']}; this CPU can run {best}.")
    elif machine["isa"] == "scalar":
        found.append("This CPU has none of the instruction sets that fastcpu is fast on.")
    else:
        found.append(f"The kernels use {machine['isa_title']}, the best tier for this CPU.")
    threads, available = machine["threads"], machine["cpus_available"]
    if threads > available:
        found.append(f"{threads} threads share {available} CPUs: expect them to wait for each other.")
    elif threads < available:
        found.append(f"{threads} of {available} available CPUs are used.")
    if available < machine["cpus_in_affinity"]:
        found.append(f"A cgroup quota limits the process to {available} of {machine['cpus_in_affinity']} CPUs.")
    return found


def _about_time(result: Json) -> list[str]:
    found = []
    tier = result["machine"]["isa_title"]
    kinds = sorted(result["kinds"], key=lambda kind: -kind["share"])
    for kind in kinds[:2]:
        text = f"{kind['name']} takes {100 * kind['share']:.0f} % of the time"
        if kind["peak_share"] is not None:
            text += f" and runs at {100 * kind['peak_share']:.0f} % of the {tier} peak measured on this CPU"
        found.append(f"{text}.")
    idle = 1 - result["busy_seconds"] / result["thread_seconds"]
    if idle > 0.1:
        found.append(
            f"Threads spend {100 * idle:.0f} % of the time outside of ops: waiting, waking, copying in and out."
        )
    if not any(op["precision"] == "int8" for op in result["ops"]):
        found.append("Nothing runs in int8: compile with --quantize static or dynamic.")
    return found


def _about_sparsity(result: Json) -> list[str]:
    linears = result["linears"]
    sparse = [row for row in linears if row["sparse"]]
    found = []
    if sparse:
        density = 100 * float(np.mean([row["density"] for row in sparse]))
        found.append(
            f"{len(sparse)} of {len(linears)} linears run sparse, with {density:.0f} % of their blocks on average."
        )
    elif linears:
        found.append("No linear runs sparse: the weights hold too few zero 4x1 blocks, or are f32.")
    return found


def _about_fusion(result: Json) -> list[str]:
    count = len(result["not_fused"])
    return [f"{count} place{'s' if count > 1 else ''} of the source graph could not be fused."] if count else []
