"""`fastcpu serve`: models behind HTTP."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcpu.cli import status
from fastcpu.cli.paths import path_argument

if TYPE_CHECKING:
    from fastcpu.cli.main import Subparsers
    from fastcpu.serve.config import Config

_DESCRIPTION = """
Serves models over HTTP until SIGTERM or Ctrl-C: the embeddings API of OpenAI, the routes of text-embeddings-inference,
reranking, the Open Inference Protocol v2, and routes for question answering, tagging and filling gaps. Texts of any
lengths run together without padding. / is a page for people, /openapi.json describes everything.
"""

_SETTINGS = {
    "host": (str, "H", "address to listen on (default: 127.0.0.1)"),
    "port": (int, "P", "port; 0 takes a free one (default: 8000)"),
    "threads": (int, "N", "threads per run (default: all available CPUs, divided among the instances)"),
    "instances": (int, "N", "batches that run at the same time (default: 1)"),
    "max_requests": (int, "N", "requests at the same time; more are refused (default: 1024)"),
    "cache_mb": (float, "MB", "answers that are kept (default: 0, none)"),
    "watch_seconds": (float, "S", "look for changed models this often (default: 0, never)"),
    "log": (str, "FORM", "form of the log: json or text (default: json)"),
}


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("serve", help="serve models over HTTP", description=_DESCRIPTION)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="[NAME=]OUT",
        help="model directories; without a name, that of the folder (./A=B is a folder)",
    )
    parser.add_argument("--config", type=path_argument, metavar="F", help="settings, YAML; what is typed comes first")
    for name, (kind, metavar, text) in _SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.add_argument("--no-access-log", action="store_true", help="no line for every request")


def run(args: argparse.Namespace) -> int:
    import signal

    from fastcpu.errors import MissingPackageError

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server can take it: there is nothing to read again yet
    try:
        from fastcpu.serve.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fastcpu"):
            raise
        raise MissingPackageError(f"serving needs the package '{error.name}' (pip install fastcpu[serve])") from error

    def config() -> Config:
        return _config(args)

    serve(config(), config)
    return status.OK


def _config(args: argparse.Namespace) -> Config:
    from fastcpu.serve.config import make_config, read_config

    settings: dict[str, Any] = {} if args.config is None else read_config(args.config)
    typed = {name: value for name in _SETTINGS if (value := getattr(args, name)) is not None}
    if args.no_access_log:
        typed["access_log"] = False
    models = _models(args.models)
    given = settings.get("models")
    if models:
        typed["models"] = {**(given if isinstance(given, dict) else {}), **models}
    settings = {"models": {}, **settings, **typed}
    return make_config(settings, "command line" if args.config is None else str(args.config))


def _models(given: Sequence[str]) -> dict[str, str]:
    """The paths of models by their names. InputError where two have the same, or a path is empty."""
    from fastcpu.errors import InputError

    found: dict[str, str] = {}
    for each in given:
        name, path = _named(each)
        if not path:
            raise InputError(f"command line: {each!r} has no path")
        if name in found:
            raise InputError(f"command line: two models are called {name!r}; NAME=OUT gives one another name")
        found[name] = path
    return found


def _named(given: str) -> tuple[str, str]:
    """The name and the path of NAME=OUT or OUT. What begins like a path or is one has no name."""
    name, sign, path = given.partition("=")
    if sign and not name.startswith(("/", "./", "../")) and not ("/" in name and Path(given).exists()):
        return name, path
    return Path(given).resolve().name if given else "", given
