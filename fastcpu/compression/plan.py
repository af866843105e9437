"""What a compression will do, fixed before it begins: the same plan gives the same model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fastcpu.compression.examples import Form, excluded_files, table_form, training_files
from fastcpu.compression.gate import Gate
from fastcpu.compression.source import kind, longest_text
from fastcpu.compression.target import Target
from fastcpu.distill.losses import learns_labels
from fastcpu.errors import InputError
from fastcpu.files import check_regular, sha256
from fastcpu.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """Everything that the result depends on.

    Attributes:
        model, teacher: directories; the teacher is the model itself unless another one is given.
        assistants: more teachers, with whose logits those of the teacher are averaged.
        data: files and folders with training texts.
        columns: which columns of tables are texts, or ``role=column``.
        exclude: files with evaluation sentences, which are kept out of training and calibration.
        recipe: with all overrides in place.
        seed: of the order of the texts, and of the choice among them.
        threads: of training; the bits of its sums depend on them.
        device: of training, ``cpu`` or ``cuda``.
        gate: what is measured before the model is published, and how much may be lost.
        target: what layers and sparsity are searched for; None leaves both as the recipe has them.
        digests: SHA-256 of the files of ``model``, all teachers, ``data``, ``exclude`` and the gate's data, by path.
    """

    model: str
    teacher: str
    data: tuple[str, ...]
    columns: tuple[str, ...]
    exclude: tuple[str, ...]
    recipe: Recipe
    seed: int
    threads: int
    device: str = "cpu"
    assistants: tuple[str, ...] = ()
    gate: Gate | None = None
    target: Target | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def with_digests(self) -> Plan:
        """A copy that names the contents of all files."""
        paths = [self.model, self.teacher, *self.assistants]
        if self.gate is not None and self.gate.data is not None:
            paths.append(self.gate.data)
        files = {file for path in paths for file in _files(Path(path))}
        files |= {*self.training_files(), *excluded_files(self.exclude)}
        return replace(self, digests={str(file): _digest(file) for file in sorted(files)})

    @property
    def learns_labels(self) -> bool:
        """Whether the labels of the data are a target."""
        return self.recipe.distill is not None and learns_labels(self.recipe.distill.losses)

    @property
    def form(self) -> Form | None:
        """As which task the data are read; None where each cell is a text of its own."""
        if self.learns_labels:
            return "qa" if kind(Path(self.model)) == "qa" else "classify"
        return table_form(self.data, self.columns, None if self.gate is None else self.gate.task)

    @property
    def max_length(self) -> int:
        """How many tokens of a text are trained and calibrated with."""
        distill = self.recipe.distill
        return (0 if distill is None else distill.max_length) or longest_text(Path(self.model))

    def training_files(self) -> list[Path]:
        """The files of ``data`` that are trained and calibrated with."""
        return training_files(self.data, self.form is not None)

    def to_json(self) -> dict[str, Any]:
        """As it is stored, and compared with the plan of an earlier start."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @property
    def decides_at_the_end(self) -> tuple[str, ...]:
        """The dotted keys of `differences` that no search reads, and that change nothing before the export."""
        return () if self.target is not None else ("gate.max_drop", "gate.fallback", "gate.metric")

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """The dotted keys in which a stored plan differs from this one."""
        return _differences("", self.to_json(), stored)


def _files(path: Path) -> Sequence[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    check_regular(path)
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _differences(prefix: str, mine: Any, stored: Any) -> list[str]:
    if isinstance(mine, dict) and isinstance(stored, dict):
        keys = sorted(set(mine) | set(stored))
        return [each for key in keys for each in _differences(f"{prefix}{key}.", mine.get(key), stored.get(key))]
    return [] if mine == stored else [prefix.rstrip(".")]
