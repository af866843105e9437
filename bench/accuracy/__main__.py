"""Trains all-MiniLM-L6-v2 by recipes and evaluates the exported models through the runtime.

    python -m bench.accuracy [--parts stsb,sst2] [--recipes NAME,...] [--seeds 0,1,2] [--steps N]

stsb distills on unlabelled sentences and is evaluated on STS-B; sst2 fine-tunes a classifier on SST-2, compresses it
and is evaluated on GLUE dev. Models and unfinished work lie in $FASTCPU_ACCURACY, by default ~/.cache/fastcpu/accuracy,
and are taken up again; results, one JSON per model, in bench/results/accuracy. A model that is there is not trained
again, but always evaluated again, in a process where importing torch is an error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.accuracy import runs, sst2, stsb

PARTS = ("stsb", "sst2")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, evaluate everything, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="(default: %(default)s)")
    parser.add_argument("--recipes", help="names or .toml files (default: those of each part)")
    parser.add_argument("--seeds", default="0,1,2", help="of stsb (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="instead of the recorded numbers")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    folder = os.environ.get("FASTCPU_DATA")
    if not folder:
        sys.exit("set FASTCPU_DATA")
    parts = args.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {min(unknown)!r}; there are {', '.join(PARTS)}")
    runs.MODELS.mkdir(parents=True, exist_ok=True)
    given = args.recipes.split(",") if args.recipes else None
    if "stsb" in parts:
        seeds = list(map(int, args.seeds.split(",")))
        stsb.run(Path(folder), given or stsb.RECIPES, seeds, args.steps, args.threads, args.device)
    if "sst2" in parts:
        sst2.run(Path(folder), given or sst2.RECIPES, args.steps, args.threads, args.device)


if __name__ == "__main__":
    main()
