"""What a search chooses among: numbers of layers, each with several sparsities, all in int8."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastcpu.recipe import Recipe, Student

SPARSITIES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Kernels gain nothing worth having below one half."""
_DEPTHS = (6, 5, 4, 3, 2)
"""Sixths of the model's layers."""


@dataclass(frozen=True, order=True)
class Candidate:
    """A student of some layers, of whose blocks a share is zero."""

    layers: int
    sparsity: float

    @property
    def key(self) -> str:
        """Part of file names."""
        return f"{self.layers}-{self.sparsity:g}"

    def __str__(self) -> str:
        layers = f"{self.layers} layer{'' if self.layers == 1 else 's'}"
        return f"{layers}, dense" if self.sparsity == 0 else f"{layers}, {100 * self.sparsity:g} % zero"


def candidates(depth: int, cut: bool, pruned: bool) -> list[list[Candidate]]:
    """By number of layers, the deepest first; within it dense first, then by rising sparsity.

    Args:
        depth: layers of the model.
        cut: whether a student can have fewer of them.
        pruned: whether the recipe prunes; there is no sparsity otherwise.
    """
    depths = sorted({max(1, round(depth * sixths / 6)) for sixths in _DEPTHS}, reverse=True) if cut else [depth]
    return [[Candidate(layers, sparsity) for sparsity in (SPARSITIES if pruned else (0.0,))] for layers in depths]


def recipe_for(recipe: Recipe, candidate: Candidate, depth: int) -> Recipe:
    """The recipe that makes a candidate from a model of `depth` layers; all but layers and sparsity stays as it is."""
    student = None
    if candidate.layers < depth:
        student = replace(recipe.student or Student(candidate.layers), layers=candidate.layers)
    prune = None
    if recipe.prune is not None and candidate.sparsity > 0:
        prune = replace(recipe.prune, sparsity=candidate.sparsity)
    return replace(recipe, student=student, prune=prune)
