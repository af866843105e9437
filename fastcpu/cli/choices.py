"""Choices of options that come from the registries of the library."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module


class Choices:
    """The names in a registry, as argparse takes them.

    The registry is imported when a name is looked up or all are listed, so that a command starts without NumPy. An
    option with such choices needs a metavar: argparse would list them right away to make one.
    """

    def __init__(self, module: str, registry: str) -> None:
        self._module = module
        self._registry = registry

    def _names(self) -> tuple[str, ...]:
        return tuple(getattr(import_module(self._module), self._registry))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()
