"""The command line: one module per command, which parses, calls the library and prints."""

from __future__ import annotations

# The commands in the order of `fastcpu --help`. Each is a module fastcpu/cli/<command>.py with
#   add_parser(subparsers) -> None   adds the parser of that name, and
#   run(args) -> int                 does the work and returns the exit status.
# All of them are imported on every start: import what is heavy inside run().
COMMANDS: tuple[str, ...] = (
    "compress",
    "recipes",
    "compile",
    "info",
    "doctor",
    "bench",
    "export",
    "eval",
    "load",
    "serve",
    "demo",
)
