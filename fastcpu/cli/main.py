"""Entry point of the `fastcpu` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

import fastcpu
from fastcpu.cli import COMMANDS, status

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


class Command(Protocol):
    """What a module of COMMANDS provides."""

    def add_parser(self, subparsers: Subparsers) -> object: ...

    def run(self, args: argparse.Namespace) -> int: ...


class CommandParser(argparse.ArgumentParser):
    """Of one command: what it does not know is an error beside its own usage, and not that of `fastcpu`."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def load_commands() -> dict[str, Command]:
    """The modules of COMMANDS by the name that is typed: `fill_mask` is the command `fill-mask`."""
    return {name.replace("_", "-"): cast(Command, import_module(f"fastcpu.cli.{name}")) for name in COMMANDS}


def build_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastcpu",
        description="Run pruned, int8-quantized Transformers fast on CPUs.",
        epilog="Exit status: " + "; ".join(f"{number}, {meaning}" for number, meaning in status.MEANINGS.items()) + ".",
    )
    parser.add_argument("--version", action="version", version=f"fastcpu {fastcpu.__version__}")
    kind: type[argparse.ArgumentParser] = CommandParser
    subparsers = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True, parser_class=kind
    )
    for command in commands.values():
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        try:
            return _run(argv)
        finally:
            print(end="", flush=True)  # here and not when Python exits: what argparse printed, too
    except BrokenPipeError:  # the reader went away (`fastcpu info OUT | head`)
        _discard_output()
        return status.BROKEN_PIPE
    except OSError as error:
        _discard_output()
        return _fail(f"{error.filename or 'standard output'}: {error.strerror or error}")


def _run(argv: Sequence[str] | None) -> int:
    commands = load_commands()
    args = build_parser(commands).parse_args(argv)
    try:
        return commands[args.command].run(args)
    except fastcpu.FastcpuError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "fastcpu"):
            raise
        return _fail(f"the package '{package}' is not installed (pip install fastcpu[compress])")
    except MemoryError as error:
        return _fail(f"not enough memory: {error}".removesuffix(": "))
    except KeyboardInterrupt:
        return status.INTERRUPTED


def _fail(message: str) -> int:
    with suppress(OSError):  # standard error may be as full as standard output
        print(f"fastcpu: error: {' '.join(message.split())}", file=sys.stderr)
    return status.ERROR


def _discard_output() -> None:
    """Lets what stdout still buffers go nowhere: Python would complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
