"""Files of Arrow and Parquet, as the package `datasets` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastcpu.data.rows import Row
from fastcpu.errors import InputError, MissingPackageError

_METADATA = b"huggingface"
_BATCH = 1024


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The schema of a file, and its record batches. Whatever pyarrow finds wrong is an InputError."""
    try:
        import pyarrow as pa
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise MissingPackageError(
            f"{path}: {path.suffix} files need the package 'pyarrow' (pip install pyarrow)"
        ) from error
    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                yield file.schema_arrow, file.iter_batches(_BATCH)
            return
        with pa.memory_map(str(path)) as source, ipc.open_stream(source) as stream:  # what save_to_disk writes
            yield stream.schema, iter(stream)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def read_arrow(path: Path) -> Iterator[Row]:
    """The rows of an .arrow (stream) or .parquet file, with Python values in their cells."""
    number = 0
    with _opened(path) as (_, batches):
        for batch in batches:
            for cells in batch.to_pylist():
                number += 1
                yield Row(f"{path}: row {number}", cells)


def class_names(path: Path) -> dict[str, tuple[str, ...]]:
    """What the numbers in the columns of a file stand for, where `datasets` has noted it (ClassLabel)."""
    with _opened(path) as (schema, _):
        metadata = schema.metadata or {}
    try:
        features = json.loads(metadata.get(_METADATA, b"{}")).get("info", {}).get("features", {})
        found = {column: _names(feature) for column, feature in features.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: its notes on the columns cannot be read: {error}") from error
    return {column: names for column, names in found.items() if names}


def _names(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel, or of a list of them."""
    while isinstance(feature, (dict, list)) and feature:
        if isinstance(feature, list):
            feature = feature[0]
        elif feature.get("_type") == "ClassLabel":
            return tuple(map(str, feature["names"]))
        else:
            feature = feature.get("feature")
    return ()
