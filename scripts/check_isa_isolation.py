#!/usr/bin/env python3
"""Fail if the object file of an ISA-specific source defines code that the rest of the program could end up calling.

Inline and templated functions are weak symbols: where several object files define one, the linker keeps any of them. If
<isa>.cc instantiates such a function with AVX flags, code meant for every CPU may get that copy and crash where AVX is
missing. A weak symbol is safe only if its name is specific to the tier, so each must lie in a namespace named after it.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r'^FASTCPU_ISA\((\w+),.*"([^"]*)"\)$', re.MULTILINE)
WEAK_TYPES = {"W", "V", "u"}  # defined weak code, defined weak object, unique global (see nm(1))
# A pointer to the exception handling routine: data, and the same in every object file.
ALLOWED = {"DW.ref.__gxx_personality_v0"}


def tiers_with_flags() -> set[str]:
    """The tiers of isa.def that are compiled with flags of their own."""
    return {name for name, flags in ROW.findall((ROOT / "kernels" / "isa.def").read_text()) if flags}


def isa_objects(build_dir: Path) -> list[tuple[str, str, Path]]:
    """(tier, source, object file) of each ISA-specific source, from the build's compile_commands.json."""
    tiers = tiers_with_flags()
    found = []
    for entry in json.loads((build_dir / "compile_commands.json").read_text()):
        words = entry.get("arguments") or shlex.split(entry["command"])
        names = [word.split("=", 1)[1] for word in words if word.startswith("-DFASTCPU_ISA_NAME=")]
        if names and names[0] in tiers:
            object_file = Path(entry["directory"]) / words[words.index("-o") + 1]
            found.append((names[0], entry["file"], object_file))
    return found


def leaks(tier: str, object_file: Path) -> list[str]:
    """The weak symbols that the object file defines outside the namespaces of its tier (mangled names hold these)."""
    listing = subprocess.run(
        ["nm", "--defined-only", "--format=posix", str(object_file)], check=True, capture_output=True, text=True
    ).stdout
    symbols = (line.split()[:2] for line in listing.splitlines())
    return [name for name, kind in symbols if kind in WEAK_TYPES and tier not in name and name not in ALLOWED]


def demangle(names: list[str]) -> list[str]:
    return subprocess.run(["c++filt", *names], check=True, capture_output=True, text=True).stdout.splitlines()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build_dir", type=Path, help="a finished build, e.g. build/dev")
    build_dir = parser.parse_args().build_dir
    if not (build_dir / "compile_commands.json").is_file():
        print(f"check_isa_isolation: {build_dir} holds no build (compile_commands.json is missing)", file=sys.stderr)
        return 2
    objects = isa_objects(build_dir)
    failed = False
    for tier, source, object_file in objects:
        names = leaks(tier, object_file)
        failed = failed or bool(names)
        for name in demangle(names) if names else []:
            print(f"{source}: defines '{name}' outside a namespace named {tier}")
    print(f"check_isa_isolation: {len(objects)} ISA-specific object files, {'leaks found' if failed else 'no leaks'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
