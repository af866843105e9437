"""Which files of a data set are which part of it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from fastcpu.data.rows import SUFFIXES
from fastcpu.errors import InputError

_SPLITS = {"train": ("train", "training"), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
"""Names of the same part of a data set, as folders and files have them."""
_STATE = "state.json"
_DICT = "dataset_dict.json"
_NOTES = (_DICT, "dataset_info.json", "dataset_infos.json", _STATE)
_SHARD = re.compile(r"(^|[-_.])\d+(-of-\d+)?$")


def is_saved(path: Path) -> bool:
    """Whether a folder is what `datasets` saved to disk, one part or several."""
    return any((path / name).is_file() for name in (_STATE, _DICT))


def all_files(path: Path, suffixes: Sequence[str] = SUFFIXES) -> tuple[Path, ...]:
    """All files of a data set, of every part, by name: a file, or those of a folder and of the folders in it."""
    if not path.is_dir():
        return (path,)
    return tuple(
        file
        for pattern in ("*", "*/*")
        for file in sorted(path.glob(pattern))
        if file.is_file() and file.suffix in suffixes and file.name not in _NOTES
    )


def data_files(path: Path, split: str, suffixes: Sequence[str] = SUFFIXES) -> tuple[Path, ...]:
    """The files of a part of a data set.

    Args:
        path: a file, which is taken whatever the split; a folder that `datasets` saved to disk; or a folder, or one
            with folders in it, where the names of files or of their folders say which part they are.
        split: what to look for. ``dev``, ``validation``, ``valid`` and ``val`` are the same where only one is there.
        suffixes: of the files to look for.

    Raises:
        InputError: no file is of this part, or several are that are not pieces of one.
    """
    if not path.is_dir():
        return (path,)
    if (path / _STATE).is_file():
        return _saved(path)
    candidates = all_files(path, suffixes)
    for names in ((split,), _synonyms(split)):
        found = [file for file in candidates if names_of(file, path) & set(names)]
        if found:
            break
    else:
        listed = ", ".join(str(file.relative_to(path)) for file in candidates[:8]) or f"no {', '.join(suffixes)} file"
        raise InputError(f"{path}: no file of the split {split!r}; there are {listed}")
    pieces = {(file.parent, file.suffix, _SHARD.sub("", file.stem)) for file in found}
    if len(pieces) > 1:
        listed = ", ".join(str(file.relative_to(path)) for file in found[:8])
        raise InputError(f"{path}: the split {split!r} may be any of {listed}: name the file")
    if (found[0].parent / _STATE).is_file():
        return _saved(found[0].parent)
    return tuple(found)


def _saved(path: Path) -> tuple[Path, ...]:
    """The files of a `datasets.Dataset` that was saved to disk."""
    state = path / _STATE
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
        files = tuple(path / entry["filename"] for entry in content["_data_files"])
        indices = content.get("_indices_data_files")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{state}: does not list the files of a data set") from error
    if indices:
        raise InputError(f"{state}: rows in another order than that of the files are not supported: save the set again")
    if not files:
        raise InputError(f"{state}: the data set has no files")
    return files


def names_of(file: Path, root: Path | None = None) -> set[str]:
    """The words that may say which part of a data set a file is.

    Those of its name; or else its folder's whole name, below `root` where that is given, and the part of which
    `datasets` took the rows that it saved there.
    """
    known = {name for names in _SPLITS.values() for name in names}
    own = set(re.findall(r"[a-z]+", file.stem.lower()))
    if own & known or file.parent == root:
        return own
    state = file.parent / _STATE
    saved = (
        re.search(r'"_split": "(\w+)"', state.read_text(encoding="utf-8", errors="replace"))
        if state.is_file()
        else None
    )
    return own | {file.parent.name.lower()} | ({saved[1].lower()} if saved else set())


def _synonyms(split: str) -> tuple[str, ...]:
    return next((names for names in _SPLITS.values() if split in names), (split,))
