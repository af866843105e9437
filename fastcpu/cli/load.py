"""`fastcpu load`: requests to a server, and how long it takes to answer them."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

from fastcpu.cli.paths import check_json, for_people, path_argument
from fastcpu.load.protocols import PROTOCOLS

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers

_DESCRIPTION = """
Sends requests to an HTTP server of a model and measures its answers. With --rate requests arrive at random, whatever
the server does (an open loop); with --concurrency each answer starts the next request (a closed loop). Times are in
seconds, or have a unit: 500ms, 30s, 2m. Only for servers that are yours.
"""
_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h|)")
_KEY_VARIABLE = "FASTCPU_API_KEY"
_PLOTS = (".svg", ".html")


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("load", help="measure a server under load", description=_DESCRIPTION)
    parser.add_argument("url", metavar="URL", help="of the server: http://127.0.0.1:8000")
    parser.add_argument(
        "--protocol", default="openai", choices=PROTOCOLS, help="how the server is asked (default: %(default)s)"
    )
    parser.add_argument("--model", metavar="NAME", help="name of the model in requests; openai, triton and v2 need it")
    parser.add_argument(
        "--encoding", metavar="E", help="openai: base64 (default) or float; triton: binary (default) or json"
    )
    parser.add_argument("--api-key", metavar="K", help=f"sent as a bearer token (default: ${_KEY_VARIABLE}, if set)")

    load = parser.add_argument_group("load, of which one of the first two is needed")
    load.add_argument("-r", "--rate", type=float, metavar="R", help="requests that arrive per second (open loop)")
    load.add_argument("-c", "--concurrency", type=int, metavar="C", help="requests under way (closed loop)")
    load.add_argument(
        "-d", "--duration", type=_time, default=10.0, metavar="T", help="measured time (default: %(default)g s)"
    )
    load.add_argument(
        "--warmup", type=_time, default=1.0, metavar="T", help="time before it, not measured (default: %(default)g s)"
    )
    load.add_argument("-n", "--requests", type=int, metavar="N", help="end after so many measured requests")
    load.add_argument(
        "--timeout", type=_time, default=10.0, metavar="T", help="when a request is given up (default: %(default)g s)"
    )
    load.add_argument(
        "--max-connections", type=int, metavar="N", help="most connections of an open loop (default: 512)"
    )
    load.add_argument("--seed", type=int, default=0, metavar="N", help="of arrivals and texts (default: %(default)s)")

    texts = parser.add_argument_group("texts")
    texts.add_argument(
        "--texts",
        type=path_argument,
        action="extend",
        nargs="+",
        default=[],
        metavar="F",
        help="files or folders of texts (default: made of common words)",
    )
    texts.add_argument("--columns", default="", metavar="A,B", help="of tables: the columns that hold texts")
    texts.add_argument("--batch", type=int, default=1, metavar="N", help="texts per request (default: %(default)s)")
    texts.add_argument("--tokens", type=int, metavar="N", help="make texts of exactly so many tokens")
    texts.add_argument("--tokenizer", type=path_argument, metavar="DIR", help="tokenizer.json, or a folder with it")
    texts.add_argument("--distinct", type=int, metavar="N", help="most different texts (default: 4096)")

    parser.add_argument("--json", type=path_argument, metavar="F", help="write the result to a file")
    parser.add_argument("--plot", type=path_argument, metavar="F", help="draw it: a file .svg or .html")


def run(args: argparse.Namespace) -> int:
    from fastcpu import InputError, OutputError
    from fastcpu.cli import status
    from fastcpu.files import write_json, write_text
    from fastcpu.load import Plan, make_corpus
    from fastcpu.load import run as run_plan
    from fastcpu.load.corpus import DISTINCT

    check_json(args.json)
    if args.plot is not None:
        if args.plot.suffix not in _PLOTS:
            raise InputError(f"--plot {args.plot}: plots are {' or '.join(_PLOTS)} files")
        if args.plot.is_dir() or not args.plot.parent.is_dir():
            raise OutputError(f"--plot {args.plot}: is a folder, or in none")
    if args.concurrency is not None and args.max_connections is not None:
        raise InputError("--max-connections is for --rate: a closed loop has --concurrency connections")
    corpus = make_corpus(
        args.texts,
        [column for column in args.columns.split(",") if column],
        tokens=args.tokens,
        tokenizer=args.tokenizer,
        distinct=DISTINCT if args.distinct is None else args.distinct,
        seed=args.seed,
    )
    args.api_key = args.api_key or os.environ.get(_KEY_VARIABLE)
    names = ("url", "protocol", "model", "batch", "rate", "concurrency", "duration", "warmup", "timeout", "requests")
    given = {name: getattr(args, name) for name in (*names, "encoding", "api_key", "seed")}
    if args.max_connections is not None:
        given["max_connections"] = args.max_connections
    result = run_plan(Plan(corpus=corpus, **given), keep_interrupted=True)
    print(result.text(), file=for_people(args.json))
    command = _command(args.api_key)
    if args.json is not None:
        write_json(args.json, {"command": command, **result.to_json()})
    if args.plot is not None:
        from fastcpu.load.plot import page, svg

        write_text(args.plot, svg(result) if args.plot.suffix == ".svg" else page(result, shlex.join(command)))
    return status.OK if result.interrupted is None else status.INTERRUPTED


def _command(api_key: str | None) -> list[str]:
    """What was typed, without the API key."""
    words = ["fastcpu", *sys.argv[1:]]
    return words if not api_key else [word.replace(api_key, "***") for word in words]


def _time(text: str) -> float:
    """Seconds; the `type` of an argument."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 10, 500ms, 30s, 2m and 1h are")
    value = float(match[1]) * _UNITS[match[2]]
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is too long a time")
    return value
