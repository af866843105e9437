"""`fastcpu recipes`: what `fastcpu compress --recipe` knows."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("recipes", help="list the recipes of compress", description=run.__doc__)
    parser.add_argument("name", nargs="?", metavar="R", help="print one recipe as the TOML file to start your own from")


def run(args: argparse.Namespace) -> int:
    """Lists the recipes that come with fastcpu, or prints one."""
    from fastcpu import recipe

    if args.name is not None:
        recipe.load(args.name)
        print(recipe.path_of(args.name).read_text(encoding="utf-8"), end="")
        return 0
    width = max(map(len, recipe.names()))
    for name in recipe.names():
        print(f"{name:{width}}  {recipe.load(name).description}")
    return 0
