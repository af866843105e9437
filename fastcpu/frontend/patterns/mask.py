"""Attention masks: what is added to scores must hide padding keys and nothing else.

The ragged runtime never sees padding, so a mask is dropped, which is right only if it says exactly that. It is
therefore evaluated for several attention masks (right and left padding, holes, none) and its values are checked,
however the exporter computes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.symbols import Array

if TYPE_CHECKING:
    from fastcpu.frontend.context import Import

HIDDEN = -9999.0
"""An addend up to this is exp() = 0 next to any score of a trained model; BERT's first exporters wrote -10000."""


def objection(ctx: Import, addends: tuple[Array, ...], heads: int) -> str | None:
    """Why ``addends`` (per probe, broadcast to [batch, heads, query, key]) is not a padding mask; None if it is."""
    for probe, addend in zip(ctx.probes, addends, strict=True):
        shape = (probe.batch, heads, probe.sequence, probe.sequence)
        try:
            full = np.broadcast_to(addend, shape)
        except ValueError:
            return f"its shape {addend.shape} does not broadcast to [batch, heads, query, key] = {shape}"
        key_is_real = np.broadcast_to(probe.mask[:, None, None, :] != 0, shape)
        query_is_real = np.broadcast_to(probe.mask[:, None, :, None] != 0, shape)
        seen, hidden = full[query_is_real & key_is_real], full[query_is_real & ~key_is_real]
        if (seen <= HIDDEN).any():
            return "it hides keys that attention_mask does not (a causal or local mask)"
        if (seen != 0).any():
            return "it adds something other than 0 to scores of real tokens (a position bias)"
        if not (hidden <= HIDDEN).all():
            return "it does not hide the keys that attention_mask hides"
    return None
