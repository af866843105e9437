"""Labels as a data set writes them, and as a model counts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastcpu.errors import InputError
from fastcpu.eval.data import shown


class LabelMap:
    """Finds the number that a model has for a label of a data set.

    A name is looked for as it is, then without regard to case. A number that stands for a name in the data set is that
    name; if the model has none of these names (LABEL_0), or the data set has none, the number counts the model's labels
    from 0. Where labels of the model are numbers themselves (1 to 5 stars), a number is always the label of that name,
    and never counts. Text and number, "1" and 1, are the same.

    Args:
        labels: of the model, by number.
        classes: what the numbers of the data set stand for, empty where it does not say.
    """

    def __init__(self, labels: Sequence[str], classes: Sequence[str] = ()) -> None:
        self._labels = list(labels)
        self._classes = list(classes)
        self._numbers = {label.casefold(): number for number, label in enumerate(labels)}
        self._numbers |= {label: number for number, label in enumerate(labels)}
        self._numeric = any(label.strip().isdecimal() for label in labels)
        self._named = any(self._number_of(name) is not None for name in classes)

    def number(self, value: Any, where: str) -> int:
        """The number of a label; InputError, which begins with `where`, if the model has none for it."""
        found = self._find(value)
        if found is None:
            known = ", ".join(self._labels[:8]) + (", ..." if len(self._labels) > 8 else "")
            raise InputError(f"{where} is {shown(value)}, no label of the model ({known})")
        return found

    def _find(self, value: Any) -> int | None:
        if isinstance(value, str):
            found = self._number_of(value)
            if found is not None or not value.strip().isdecimal():
                return found
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or value < 0:
            return None
        if self._named:
            return self._number_of(self._classes[value]) if value < len(self._classes) else None
        if self._numeric:
            return self._number_of(str(int(value)))
        return int(value) if value < len(self._labels) else None

    def _number_of(self, name: str) -> int | None:
        name = name.strip()
        return self._numbers.get(name, self._numbers.get(name.casefold()))
