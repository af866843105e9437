"""What is added to scores, read off its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu.frontend.builder import Builder
from fastcpu.frontend.context import Import
from fastcpu.frontend.patterns import mask
from fastcpu.frontend.symbols import Probe, probed
from fastcpu.graph.trace import Trace


def _context(longest: int | None = None) -> Import:
    ctx = Import(Builder("mask"), 17, Trace())
    ctx.builder.longest = longest
    return ctx


def _distance(probe: Probe, reach: int) -> NDArray[Any]:
    steps = np.arange(probe.sequence)
    return (steps[None, :] - steps[:, None]).clip(-reach, reach).astype(np.float32)


def _hide(probe: Probe) -> NDArray[Any]:
    return ((1 - probe.mask) * -1e4)[:, None, None, :].astype(np.float32)


@pytest.mark.parametrize("longest", [None, 2000, 100, 12, 4])
def test_a_bias_is_as_long_as_it_changes(longest: int | None) -> None:
    ctx = _context(longest)
    found = mask.read(ctx, probed(lambda probe: _distance(probe, 9) + _hide(probe)), 3, "bias")
    if longest == 4:  # sequences of the probes are longer than any of the model
        assert found == "it adds something to scores of real tokens that depends on more than their distance"
        return
    assert isinstance(found, mask.Addend)
    assert found.bias is not None
    assert found.hides_padding
    np.testing.assert_array_equal(found.bias.table, np.tile(np.arange(-9, 10, dtype=np.float32), (3, 1)))


def test_a_bias_that_goes_on_changing() -> None:
    bias = probed(lambda probe: _distance(probe, 5000))
    assert mask.read(_context(), bias, 2, "bias") == "its position bias still changes at a distance of 1023 tokens"
    found = mask.read(_context(50), bias, 2, "bias")
    assert isinstance(found, mask.Addend)
    assert found.bias is not None
    assert not found.hides_padding
    assert found.bias.table.shape == (2, 99)


def test_the_same_addend_is_read_once() -> None:
    ctx = _context(30)
    bias = probed(lambda probe: _distance(probe, 3))
    first, second = (mask.read(ctx, bias, 2, "bias") for _ in range(2))
    assert isinstance(first, mask.Addend)
    assert isinstance(second, mask.Addend)
    assert first.bias is second.bias


def test_a_shape_that_does_not_fit() -> None:
    reason = mask.read(_context(), probed(lambda probe: np.zeros((5, probe.sequence, 1, 1, 1))), 2, "bias")
    assert isinstance(reason, str)
    assert "does not broadcast to [batch, heads, query, key] = (2, 2, 5, 5)" in reason
