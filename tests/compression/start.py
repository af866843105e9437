"""The command line in a process that a test has forked."""

from __future__ import annotations

import os
from collections.abc import Sequence


def start(arguments: Sequence[str], log: str) -> None:
    """Runs a command and ends the process with its status; what it prints goes to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from fastcpu.cli.main import main

    os._exit(main(arguments))
