"""The configuration of a server: serve.yaml, or what the command line says."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fastcpu.errors import FileFormatError, InputError, MissingPackageError
from fastcpu.serve.request import Policy
from fastcpu.tasks import TASKS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127})?")
"""Of a model: as on the hub, with at most one slash."""
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[!-~]{8,}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+|null|\*")
"""As browsers write it, or all."""
_MERGE = "tag:yaml.org,2002:merge"
KEYS_VARIABLE = "FASTCPU_API_KEYS"

Positive = Annotated[int, Meta(ge=1)]
Threads = Annotated[int, Meta(ge=1, le=1024)]
ThreadsOrAll = Annotated[int, Meta(ge=0, le=1024)]
Span = Annotated[float, Meta(ge=0)]


class ModelConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One model.

    Attributes:
        path: a directory that `fastcpu compile` or `compress` wrote.
        version: what clients may ask for beside the name.
        task: of `fastcpu.tasks`; by default what the outputs of the model tell.
        aliases: further names.
        max_length: longest sequence in tokens, at most what the model was made for, which is the default.
        batch_tokens, batch_rows, max_queue_tokens, weight: as in `Policy`.
        max_delay_ms, max_wait_ms: as in `Policy`, in milliseconds; a `max_wait_ms` of 0 is no limit.
    """

    path: str
    version: str = "1"
    task: str | None = None
    aliases: tuple[str, ...] = ()
    max_length: Positive | None = None
    batch_tokens: Positive = 1024
    batch_rows: Positive | None = None
    max_delay_ms: Span = 0.0
    max_queue_tokens: Positive = 65536
    max_wait_ms: Span = 1000.0
    weight: Annotated[float, Meta(gt=0)] = 1.0

    def policy(self) -> Policy:
        """For the scheduler."""
        return Policy(
            batch_tokens=self.batch_tokens,
            batch_rows=self.batch_rows,
            max_delay=self.max_delay_ms / 1e3,
            max_queue_tokens=self.max_queue_tokens,
            max_wait=self.max_wait_ms / 1e3 or None,
            weight=self.weight,
        )


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A server.

    Attributes:
        models: by name; a path alone, or a `ModelConfig`.
        host, port: where to listen; port 0 takes a free one.
        threads: threads per run; 0 takes all CPUs available to this process, divided among the instances.
        instances: how many batches run at the same time.
        tokenizer_threads: threads that tokenize long requests, beside the event loop, which tokenizes short ones.
        api_keys: name of a client to its key; without any, no key is needed. FASTCPU_API_KEYS adds more: ``name=key``,
            separated by commas. No name and no key may be there twice.
        cors_origins: origins whose pages may call the server; ``*`` for all.
        max_body_bytes: of a request, before and after it is unpacked.
        max_buffer_mb: MB of the bodies of all requests that are being answered, and of answers that are not read
            yet; more are refused.
        max_inputs: texts of a request.
        max_requests: requests at the same time; more are refused.
        client_share: the part of a model's queue that one client may fill.
        cache_mb: answers that are kept, in MB; 0 keeps none.
        watch_seconds: how often to look for models that have changed on disk; 0 never does.
        read_seconds: how long a client may take to send the head of a request, to send its body, or to read a part of
            its answer.
        drain_seconds: how long to go on answering after SIGTERM.
        log: what is written to standard error, and how.
        access_log: whether each request is a line of the log.
        page: whether / is a page for people.
    """

    models: dict[str, ModelConfig | str]
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    threads: ThreadsOrAll = 0
    instances: Threads = 1
    tokenizer_threads: Threads = 1
    api_keys: dict[str, str] = {}
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: Positive = 4_000_000
    max_buffer_mb: Annotated[float, Meta(gt=0)] = 512.0
    max_inputs: Positive = 2048
    max_requests: Positive = 1024
    client_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    cache_mb: Span = 0.0
    watch_seconds: Span = 0.0
    read_seconds: Annotated[float, Meta(gt=0)] = 60.0
    drain_seconds: Span = 30.0
    log: Literal["json", "text"] = "json"
    access_log: bool = True
    page: bool = True

    @property
    def most_buffered(self) -> int:
        """`max_buffer_mb` in bytes, but enough for one request."""
        return max(int(self.max_buffer_mb * 1e6), 2 * self.max_body_bytes)

    def model(self, name: str) -> ModelConfig:
        """The configuration of a model; KeyError if there is none of that name."""
        given = self.models[name]
        return ModelConfig(path=given) if isinstance(given, str) else given

    def keys(self) -> dict[str, str]:
        """Clients and their keys, those of the environment included.

        InputError names one that is no pair, and clients that have the name or the key of another.
        """
        found = dict(self.api_keys)
        for number, pair in enumerate(filter(None, os.environ.get(KEYS_VARIABLE, "").split(",")), 1):
            name, sign, key = pair.partition("=")
            if not sign or not name or not _KEY.fullmatch(key):
                raise InputError(
                    f"{KEYS_VARIABLE}: entry {number} is not name=key, the key of 8 printable characters or more"
                )
            if name in found:
                raise InputError(f"{KEYS_VARIABLE}: client {name!r} has a key already, here or in api_keys")
            found[name] = key
        owners: dict[str, str] = {}
        for name, key in found.items():
            if owners.setdefault(key, name) != name:
                raise InputError(f"api_keys and {KEYS_VARIABLE}: {owners[key]!r} and {name!r} have the same key")
        return found

    @property
    def is_open(self) -> bool:
        """Whether other machines may reach the server, and it asks nobody for a key."""
        return not _is_loopback(self.host) and not self.keys()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_config(path: Path) -> dict[str, Any]:
    """The content of a YAML file. Paths of models in it are relative to its folder.

    Raises:
        InputError: there is no such file.
        FileFormatError: it is no YAML mapping, or has a key twice.
        MissingPackageError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingPackageError("--config needs the package 'pyyaml' (pip install fastcpu[serve])") from error
    try:
        content = _loaded(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path}: not a mapping of settings")
    models = content.get("models")
    if isinstance(models, dict):
        content["models"] = {name: _located(given, path.parent) for name, given in models.items()}
    return content


def _loaded(text: str, path: Path) -> Any:
    """The content of YAML. FileFormatError for a key that is twice in a mapping, of which the first would be lost."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self._checked: set[int] = set()

        def flatten_mapping(self, node: Any) -> None:
            # It adds merged pairs to the node, and may see it again then; what was written is what counts.
            if id(node) not in self._checked:
                self._checked.add(id(node))
                self._check(node)
            super().flatten_mapping(node)

        def _check(self, node: Any) -> None:
            lines: dict[Any, int] = {}
            for each, _ in node.value:
                if isinstance(each, yaml.ScalarNode) and each.tag != _MERGE:
                    key, line = self.construct_object(each), each.start_mark.line + 1
                    if key in lines:
                        raise FileFormatError(f"{path}: line {line}: {key!r} is there already, in line {lines[key]}")
                    lines[key] = line

    return yaml.load(text, Loader)


def _located(given: Any, folder: Path) -> Any:
    if isinstance(given, str):
        return str(folder / given)
    if isinstance(given, dict) and isinstance(given.get("path"), str):
        return given | {"path": str(folder / given["path"])}
    return given


def make_config(settings: Mapping[str, Any], source: str) -> Config:
    """Checks `settings`; InputError says which is wrong, and that `source` has it."""
    settings = dict(settings)
    if settings.get("cors_origins") == "*":
        settings["cors_origins"] = ["*"]
    _check_keys(settings.get("api_keys"), source)
    models = settings.get("models")
    if isinstance(models, dict):
        settings["models"] = {name: _model(name, given, source) for name, given in models.items()}
    try:
        config = msgspec.convert(settings, Config)
    except msgspec.ValidationError as error:
        raise InputError(f"{source}: {error}") from error
    _check_finite(config, source)
    if not config.host:
        raise InputError(f"{source}: host is empty; 0.0.0.0 is all of IPv4")
    for origin in config.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            raise InputError(
                f"{source}: cors_origins: {origin!r} is no origin: 'https://example.org' is one, in lower case and "
                "without a path, and '*' is all"
            )
    owners: dict[str, str] = {}
    for name in config.models:
        model = config.model(name)
        _check_finite(model, f"{source}: model {name!r}")
        if model.task is not None and model.task not in TASKS:
            raise InputError(f"{source}: model {name!r}: no task {model.task!r}; there are {', '.join(TASKS)}")
        if not VERSION.fullmatch(model.version):
            raise InputError(
                f"{source}: model {name!r}: {model.version!r} cannot be a version: letters, digits, '.', '_' and '-'"
            )
        for known in (name, *model.aliases):
            if not NAME.fullmatch(known):
                raise InputError(
                    f"{source}: {known!r} cannot be the name of a model: letters, digits, '.', '_' and '-', and at "
                    "most one '/'"
                )
            if known in owners:
                raise InputError(f"{source}: two models are called {known!r}")
            owners[known] = name
    if not config.models:
        raise InputError(f"{source}: no model to serve")
    return config


def _model(name: Any, given: Any, source: str) -> ModelConfig | str:
    """The settings of one model; InputError has its name."""
    if not isinstance(name, str):
        raise InputError(f"{source}: the name of a model is text, which {name!r} is not: put it in quotes")
    if isinstance(given, str | ModelConfig):
        return given
    if not isinstance(given, dict):
        raise InputError(f"{source}: model {name!r}: neither a path nor a mapping of settings")
    try:
        return msgspec.convert(given, ModelConfig)
    except msgspec.ValidationError as error:
        raise InputError(f"{source}: model {name!r}: {error}") from error


def _check_keys(given: Any, source: str) -> None:
    """InputError for an API key that is none, without showing it."""
    for name, key in given.items() if isinstance(given, dict) else ():
        if not isinstance(name, str) or not name:
            raise InputError(f"{source}: api_keys: the name of a client is text, which {name!r} is not")
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise InputError(
                f"{source}: api_keys: the key of {name!r} must be 8 or more printable ASCII characters without blanks, "
                "in quotes if they are all digits"
            )


def _check_finite(settings: msgspec.Struct, where: str) -> None:
    """InputError for a number that is infinite or none, as YAML can write it."""
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}: {name} is {value}, not a number")
