"""`fastcpu doctor`: where the time goes on this CPU, and why."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastcpu.cli.paths import check_outside, for_people, path_argument

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers

_DESCRIPTION = """
Runs random tokens through a model and shows what each op costs, beside the peak that this CPU reaches in the same run;
which linears run sparse and which do not, and why; and what did not fuse.
"""


_COLUMNS = ("ms", "share", "GOPS", "of peak", "least ms", "set by")


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("doctor", help="explain the speed of a model on this CPU", description=_DESCRIPTION)
    parser.add_argument("model", type=path_argument, metavar="OUT", help="model directory")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="sequences per run (default: %(default)s)")
    parser.add_argument(
        "--seq", type=int, metavar="N", help="tokens per sequence (default: 128, or as many as the model takes)"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: all available CPUs)")
    parser.add_argument("--json", type=path_argument, metavar="F", help="write it to a file")


def run(args: argparse.Namespace) -> int:
    from fastcpu.doctor import diagnose
    from fastcpu.files import write_json

    check_outside("--json", args.json, [args.model])
    found = diagnose(args.model, batch=args.batch, sequence=args.seq, threads=args.threads)
    print(_text(found), file=for_people(args.json))
    if args.json is not None:
        write_json(args.json, found)
    return 0


def _text(found: dict[str, Any]) -> str:
    peak = found["peak"]
    parts = [
        *_head(found["machine"], peak),
        "",
        f"{found['model']['directory']}: batch {found['batch']}, {found['sequence']} tokens",
        f"  {found['milliseconds']:.2f} ms per run, {found['sequences_per_second']:.0f} sequences/s",
        f"  weights: {found['weight_bytes'] / 1e6:.1f} MB on disk, {found['packed_bytes'] / 1e6:.1f} MB packed",
        "",
        _table("kind", sorted(found["kinds"], key=lambda row: -row["seconds"]), peak),
        "",
        _table("layer", found["layers"], peak),
        "",
        _ops_table(found["ops"], peak),
        "",
        *_sparsity(found["linears"]),
        *[f"not fused: {miss}" for miss in found["not_fused"]],
        "",
        *[f"* {verdict}" for verdict in found["verdicts"]],
    ]
    return "\n".join(parts)


def _head(machine: dict[str, Any], peak: dict[str, Any]) -> list[str]:
    """The CPU, what of it is used, and its peak."""
    int8 = f"int8 {peak['int8_gops']:.0f} GOPS ({peak['int8_instruction']})"
    f32 = f"f32 {peak['f32_gflops']:.0f} GFLOPS ({peak['f32_instruction']})"
    cpus = f"{machine['cpus_available']} CPUs available, {machine['cpus_in_affinity']} in the affinity mask"
    return [
        machine["cpu"],
        f"  kernels use {machine['isa_title']}; tiers of this CPU: {', '.join(machine['tiers'])}",
        f"  the CPU has {', '.join(machine['flags']) or 'unknown extensions'}",
        f"  {machine['threads']} threads; {cpus}, {machine['cpus']} in the machine",
        f"  measured peak of {peak['threads']} threads: {int8}, {f32},",
        f"  reads from L2 {peak['l2_gbps']:.0f} GB/s, from memory {peak['memory_gbps']:.0f} GB/s",
    ]


def _cells(row: dict[str, Any], peak: dict[str, Any]) -> list[str]:
    """Milliseconds on the clock if threads shared the work evenly, share, rate, share of the peak, least time."""
    cells = [f"{1e3 * row['seconds'] / peak['threads']:.3f}", f"{100 * row['share']:.1f} %"]
    rates = ["", ""] if row["gops"] is None else [f"{row['gops']:.0f}", f"{100 * row['peak_share']:.0f} %"]
    least = 1e3 * row["bound_seconds"] / peak["threads"]
    return [*cells, *rates, *([f"{least:.3f}", row["bound_by"]] if least > 0 else ["", ""])]


def _table(what: str, rows: Sequence[dict[str, Any]], peak: dict[str, Any]) -> str:
    from fastcpu.report.table import text_table

    lines = [[row["name"], str(row["ops"]), *_cells(row, peak)] for row in rows]
    return text_table((what, "ops", *_COLUMNS), lines)


def _ops_table(ops: Sequence[dict[str, Any]], peak: dict[str, Any]) -> str:
    from fastcpu.report.table import text_table

    rows = [
        [op["name"], op["kernel"], f"{op['density']:.2f}" if op["density"] < 1 else "", *_cells(op, peak)] for op in ops
    ]
    return text_table(("op", "kernel", "density", *_COLUMNS), rows)


def _sparsity(linears: Sequence[dict[str, Any]]) -> list[str]:
    """One line for the sparse linears, and one per reason for the others."""
    lines = []
    sparse = [row for row in linears if row["sparse"]]
    if sparse:
        densities = sorted(row["density"] for row in sparse)
        lines.append(f"sparse: {len(sparse)} linears, density {densities[0]:.2f} to {densities[-1]:.2f}")
    reasons: dict[str, list[str]] = {}
    for row in linears:
        if not row["sparse"]:
            reasons.setdefault(row["reason"], []).append(row["name"])
    for reason, names in reasons.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(f"dense: {shown}: {reason}")
    return lines
