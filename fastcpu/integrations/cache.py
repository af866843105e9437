"""Compiled models, kept: the first opening of a model compiles it, later ones find what was compiled."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import fastcpu
from fastcpu import _core
from fastcpu.data import read_texts, sample
from fastcpu.errors import FastcpuError, InputError, OutputError
from fastcpu.export.reader import GRAPH_FILE
from fastcpu.files import sha256
from fastcpu.integrations.source import locate
from fastcpu.recipe import Recipe, compile_options, load
from fastcpu.tasks.tokenizer import Text, checked_texts

_READ = (".json", ".txt", ".model", ".safetensors", ".bin")
"""Endings of what decides on a compiled model: configuration, tokenizer and weights."""
_KEY_DIGITS = 16

Prepare = Callable[[Path], AbstractContextManager[Path]]
"""Makes a directory that ``fastcpu.compile`` takes of a model's directory, for as long as it is needed."""
Calibration = Sequence[Text] | str | os.PathLike[str]


def cache_folder() -> Path:
    """Where compiled models are kept: ``$XDG_CACHE_HOME/fastcpu/compiled``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastcpu" / "compiled"


def compiled(
    model: str | os.PathLike[str],
    prepare: Prepare,
    purpose: str,
    *,
    recipe: str | os.PathLike[str] | Recipe,
    calibration: Calibration | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Path:
    """The directory of a compiled model: ``model`` itself, or what the recipe makes of it, from the cache.

    Args:
        model: a compiled directory, a directory of transformers or sentence-transformers, or a hub id.
        prepare: makes the source for ``fastcpu.compile``.
        purpose: names what ``prepare`` does.
        recipe: a post-training recipe.
        calibration: texts or pairs of texts, or a text file, for a recipe that needs some.
        revision: of a hub id.
        cache_dir: instead of `cache_folder`.
        threads: for calibration.

    Raises:
        InputError: no such model, a recipe that trains, calibration that is missing or not needed, or a package that
            compiling needs is not installed.
        FastcpuError: as ``fastcpu.compile`` raises it.
    """
    source = locate(model, revision)
    if (source / GRAPH_FILE).is_file():
        return source
    options = _options(_post_training(recipe, source), calibration, source)
    folder = cache_folder() if cache_dir is None else Path(cache_dir).expanduser()
    entry = folder / f"{Path(model).resolve().name}-{_key(source, purpose, options)}"
    with _locked(entry):
        if entry.exists() and not _is_whole(entry):
            shutil.rmtree(entry)
        if not entry.exists():
            _compile(source, prepare, entry, threads or 0, options)
    return entry


def _compile(source: Path, prepare: Prepare, entry: Path, threads: int, options: Mapping[str, Any]) -> None:
    from fastcpu.pipeline import compile  # noqa: A004  (the public name)

    try:
        with prepare(source) as prepared:
            compile(prepared, entry, threads=threads, **options)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{source}: compiling it needs the package {error.name!r} (pip install fastcpu[compress])"
        ) from error


def _post_training(recipe: str | os.PathLike[str] | Recipe, source: Path) -> Recipe:
    chosen = recipe if isinstance(recipe, Recipe) else load(Path(recipe))
    if chosen.distill is not None or chosen.reconstructs:
        named = chosen.name if isinstance(recipe, Recipe) else os.fspath(recipe)
        does = "trains" if chosen.distill is not None else "prunes with texts"
        raise InputError(
            f"recipe {named} {does}: run `fastcpu compress {source} -o OUT --recipe {named} --data TEXTS` and open OUT"
        )
    return chosen


def _texts(calibration: Calibration) -> Iterable[Text]:
    """The texts of a file, or those that are given, two in a list as a pair; InputError for what is neither."""
    if isinstance(calibration, (str, os.PathLike)):
        return read_texts([Path(calibration)])
    given: Any = calibration
    if not isinstance(given, Iterable):
        raise InputError(f"calibration={given!r:.60}: texts, pairs of texts or a text file are needed")
    return checked_texts([tuple(each) if isinstance(each, list) else each for each in given])


def _options(recipe: Recipe, calibration: Calibration | None, source: Path) -> dict[str, Any]:
    """What `fastcpu.compile` is told; InputError if calibration texts are missing or have no use."""
    from fastcpu.compression.source import longest_text

    used = False

    def texts(count: int) -> list[Text]:
        nonlocal used
        used = True
        if calibration is None:
            raise InputError(f"recipe {recipe.name} needs texts to calibrate with (calibration=)")
        return sample(_texts(calibration), count, 0)

    options = compile_options(recipe, texts, longest_text(source))
    if calibration is not None and not used:
        raise InputError(f"recipe {recipe.name} has no use for calibration texts")
    return options


def _key(source: Path, purpose: str, options: Mapping[str, Any]) -> str:
    """Changes with every byte that decides on the compiled model."""
    files = {}
    for path in sorted(source.rglob("*")):
        if path.name.endswith(_READ) and path.is_file():
            try:
                files[str(path.relative_to(source))] = sha256(path)
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}") from error
    content = json.dumps([fastcpu.__version__, purpose, options, files], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:_KEY_DIGITS]


def _is_whole(entry: Path) -> bool:
    try:
        _core.read_model(entry)  # compares every checksum
    except FastcpuError:
        return False
    return True


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Other processes that want the same entry wait, and find it."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        file = entry.with_name(f".{entry.name}.lock").open("w")
    except OSError as error:
        raise _unusable(entry.parent, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise _unusable(entry.parent, error) from error
        yield


def _unusable(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"{folder}: cannot keep compiled models here (cache_dir=): {error.strerror}")
