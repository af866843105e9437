#!/usr/bin/env python3
"""Fail if a kernel's manifest and its files disagree.

The compiler cannot see that: a row and the variant that it names meet in the linker, which knows no types and does not
miss a variant that no row names.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TIER = re.compile(r"^FASTCPU_ISA\((\w+),", re.MULTILINE)
ROW = re.compile(r"FASTCPU_KERNEL\((\w+), (\w+)\)")
VARIANT = re.compile(r"^extern const (\w+) (\w+)\b", re.MULTILINE)
TYPE = re.compile(r"^  using Kernel = (\w+);$", re.MULTILINE)


def check_folder(folder: Path, tiers: list[str]) -> list[str]:
    """What is wrong with one kernel folder; tiers are worst first."""
    problems = []
    rows: dict[str, str] = {}  # variant -> tier
    previous = ("", 0)  # kernel and rank of the row before
    for line in (folder / "kernels.inc").read_text(encoding="utf-8").splitlines():
        match = ROW.fullmatch(line)
        name, isa = match.groups() if match else ("", "")
        kernel = name.removesuffix(f"_{isa}")
        if isa not in tiers or kernel == name or not f"{kernel}_".startswith(f"{folder.name}_"):
            problems.append(f"kernels.inc: not FASTCPU_KERNEL({folder.name}..._<isa>, <isa>): {line}")
            continue
        if kernel == previous[0] and tiers.index(isa) >= previous[1]:
            problems.append(f"kernels.inc: {name} does not stand best first")
        rows[name] = isa
        previous = (kernel, tiers.index(isa))
    kernels = {name.removesuffix(f"_{isa}") for name, isa in rows.items()}
    problems += [f"kernels.inc: {kernel} has no scalar variant" for kernel in kernels if f"{kernel}_scalar" not in rows]

    types = set()
    for isa in tiers:
        source = folder / f"{isa}.cc"
        variants = VARIANT.findall(source.read_text(encoding="utf-8")) if source.is_file() else []
        types |= {kernel_type for kernel_type, _ in variants}
        named = {name for name, tier in rows.items() if tier == isa}
        defined = {name for _, name in variants}
        problems += [f"{isa}.cc: does not define {name}, which kernels.inc names" for name in sorted(named - defined)]
        problems += [f"{isa}.cc: defines {name}, which kernels.inc does not name" for name in sorted(defined - named)]
    list_source = (folder / f"{folder.name}.cc").read_text(encoding="utf-8")
    if f'#include "{folder.name}/kernels.inc"' not in list_source:
        problems.append(f"{folder.name}.cc: does not include {folder.name}/kernels.inc")
    if set(TYPE.findall(list_source)) != types:
        problems.append(f"{folder.name}.cc: its Kernel is not the type of the variants, {', '.join(sorted(types))}")
    return [f"{folder.name}/{problem}" for problem in problems]


def main() -> int:
    kernels = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "kernels"
    tiers = TIER.findall((kernels / "isa.def").read_text(encoding="utf-8"))
    problems = []
    for folder in sorted(path for path in kernels.iterdir() if path.is_dir()):
        if (folder / "kernels.inc").is_file():
            problems += check_folder(folder, tiers)
        elif any((folder / f"{isa}.cc").is_file() for isa in tiers):
            problems.append(f"{folder.name}: has variants but no kernels.inc")
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
