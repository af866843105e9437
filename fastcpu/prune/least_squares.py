"""Pruning with repair: which blocks of a linear to keep, and the weights that then come nearest to its dense outputs.

The optimal brain surgeon (Hassibi and Stork, 1992) for linears (Optimal Brain Compression, Frantar and Alistarh, 2022):
without block k, the least squared error of the outputs rises by sum_r w_rk^2 / (C^-1)_kk, where C is the Gram matrix of
the inputs that are left. Blocks leave in rounds of the lowest rise, and weights are solved for anew after each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.errors import InputError
from fastcpu.prune.pattern import Pattern

if TYPE_CHECKING:
    import torch

_FIRST_SHARE, _SHARE = 0.6, 0.35
"""Of the blocks that are left, how many leave in the first round, which has one inverse for all rows, and in others."""
_FIRST_PART = 0.75
"""Of all that leave, how many do so in the first round at most: the others are chosen when weights are solved for."""
_SMALL = 64
_BYTES = 1 << 28
"""Of the matrices that are inverted at once."""


class Normal:
    """The normal equations of one linear, y = W x + b, summed over tokens in float64.

    Args:
        inputs, outputs: K and N.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        import torch

        self._xx = torch.zeros(inputs, inputs, dtype=torch.float64)
        self._xy = torch.zeros(inputs, outputs, dtype=torch.float64)
        self._x = torch.zeros(inputs, dtype=torch.float64)
        self._y = torch.zeros(outputs, dtype=torch.float64)
        self._count = 0

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Takes inputs f32 [T, K] and the outputs f32 [T, N] that are wanted for them."""
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._x += x.sum(dim=0, dtype=self._x.dtype)
        self._y += y.sum(dim=0, dtype=self._y.dtype)
        self._count += len(x)

    def products(self, bias: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums f32 [K, K] of x x^T and [K, N] of x y^T; with a bias, which takes up the means, of what is left of x."""
        if not bias:
            return self._xx.float(), self._xy.float()
        mean = self._x / self._count
        return (self._xx - mean.outer(self._x)).float(), (self._xy - mean.outer(self._y)).float()

    def bias(self, weight: torch.Tensor) -> torch.Tensor:
        """The best b [N] for weights [N, K]: the mean of what they leave."""
        return ((self._y - weight.double() @ self._x) / self._count).float()


def prune_and_solve(
    xx: torch.Tensor, xy: torch.Tensor, weight: torch.Tensor, sparsity: float, pattern: Pattern, ridge: float = 0.01
) -> torch.Tensor:
    """Weights f32 [N, K] with exactly ``round(sparsity * blocks)`` zero blocks that minimize the squared error.

    Every row of blocks keeps as many, or one less.

    Args:
        xx, xy: as `Normal.products` gives them.
        weight: what the ridge pulls to, [N, K].
        pattern: of blocks that are one input channel wide.
        ridge: weight of the squared distance to ``weight``, times the mean diagonal of ``xx``.
    """
    import torch

    rows, inputs = pattern.block_shape(tuple(weight.shape))
    if pattern.columns != 1:
        raise InputError(f"least squares prune blocks of one input channel; {pattern.name} has {pattern.columns}")
    strength = ridge * float(xx.diagonal().mean()) or 1.0  # of inputs that are all zero
    gram = xx + strength * torch.eye(inputs)
    # [block rows, K, rows of a block]
    wanted = (xy + strength * weight.T).reshape(inputs, rows, pattern.rows).transpose(0, 1).contiguous()
    dropped = round(sparsity * rows * inputs)
    least, more = divmod(dropped, rows)
    kept = torch.arange(inputs).expand(rows, inputs)
    while kept.shape[1] > inputs - least:
        left = kept.shape[1]
        share = min(_FIRST_SHARE, _FIRST_PART * least / inputs) if left == inputs else _SHARE
        count = max(inputs - least, int(left * (1 - share)))
        kept = _without(kept, _rises(gram, wanted, kept), count)
    result = torch.zeros(rows, inputs, pattern.rows)
    shorter = torch.zeros(rows, dtype=torch.bool)
    if more:
        rises = _rises(gram, wanted, kept)
        shorter[rises.amin(dim=1).argsort(stable=True)[:more]] = True
        _solve(gram, wanted[shorter], _without(kept[shorter], rises[shorter], kept.shape[1] - 1), result, shorter)
    _solve(gram, wanted[~shorter], kept[~shorter], result, ~shorter)
    return result.transpose(0, 1).reshape(inputs, -1).T.contiguous()


def _without(kept: torch.Tensor, rises: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` columns of each row whose loss would cost most, in ascending order."""
    return kept.gather(1, rises.topk(count, dim=1).indices.sort(dim=1).values)


def _chunks(kept: torch.Tensor) -> list[slice]:
    size = max(1, _BYTES // max(1, 4 * kept.shape[1] ** 2))
    return [slice(start, start + size) for start in range(0, len(kept), size)]


def _rises(gram: torch.Tensor, wanted: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """What leaving out each of the columns kept [rows, n] costs: [rows, n]."""
    import torch

    if kept.shape[1] == len(gram):
        root = _inverse_root(gram.unsqueeze(0))
        return (root.mT @ (root @ wanted)).square().sum(dim=2) / root.square().sum(dim=1)
    parts = []
    for chunk in _chunks(kept):
        columns = kept[chunk]
        root = _inverse_root(gram[columns.unsqueeze(2), columns.unsqueeze(1)])
        weights = root.mT @ (root @ _of(wanted[chunk], columns))
        parts.append(weights.square().sum(dim=2) / root.square().sum(dim=1))
    return torch.cat(parts)


def _inverse_root(matrices: torch.Tensor) -> torch.Tensor:
    """L^-1 of the Cholesky factor L of each matrix [batch, n, n]: the inverse is L^-T L^-1.

    By halves, so that nearly all of it is products of matrices, which run many times as fast as factorizations.
    """
    import torch

    size = matrices.shape[-1]
    if size <= _SMALL:
        factor = torch.linalg.cholesky(matrices)
        small: torch.Tensor = torch.linalg.solve_triangular(factor, torch.eye(size).expand_as(factor), upper=False)
        return small
    half = size // 2
    first = _inverse_root(matrices[:, :half, :half])
    below = matrices[:, half:, :half] @ first.mT
    second = _inverse_root(matrices[:, half:, half:] - below @ below.mT)
    root = torch.zeros_like(matrices)
    root[:, :half, :half] = first
    root[:, half:, half:] = second
    root[:, half:, :half] = -(second @ below) @ first
    return root


def _solve(
    gram: torch.Tensor, wanted: torch.Tensor, kept: torch.Tensor, result: torch.Tensor, rows: torch.Tensor
) -> None:
    """Writes the weights of some rows of ``result`` [block rows, K, rows of a block]."""
    import torch

    if not len(kept) or not kept.shape[1]:
        return
    solutions = torch.zeros_like(wanted)
    for chunk in _chunks(kept):
        columns = kept[chunk]
        root = _inverse_root(gram[columns.unsqueeze(2), columns.unsqueeze(1)])
        weights = root.mT @ (root @ _of(wanted[chunk], columns))
        solutions[chunk] = torch.zeros_like(wanted[chunk]).scatter(1, _index(weights, columns), weights)
    result[rows] = solutions


def _of(wanted: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return wanted.gather(1, columns.unsqueeze(2).expand(-1, -1, wanted.shape[2]))


def _index(weights: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return columns.unsqueeze(2).expand_as(weights)
