"""Importance of weights.

To add one: a file here with a ``SCORE``, and its line below.
"""

from __future__ import annotations

from fastcpu.prune.score import Score
from fastcpu.prune.scores import magnitude, snip_momentum, wanda

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        magnitude.SCORE,
        snip_momentum.SCORE,
        wanda.SCORE,
    )
}
