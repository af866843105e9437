"""The exit statuses of the `fastcpu` command; docs/command-line.md explains them."""

from __future__ import annotations

OK = 0
ERROR = 2  # what argparse uses too
ACCURACY = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE

MEANINGS = {
    OK: "success",
    ERROR: "an error, which one line on standard error explains",
    ACCURACY: "a model has lost more accuracy than is allowed",
    INTERRUPTED: "interrupted (Ctrl-C)",
    BROKEN_PIPE: "whoever read the output went away",
}
