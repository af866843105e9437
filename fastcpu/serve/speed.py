"""How long batches of a model take."""

from __future__ import annotations

from math import inf


class Speed:
    """Seconds of a batch, learned as ``fixed + per_token * tokens``.

    Least squares over the batches, of which an old one counts less (by 0.95 per batch) and a slow one too (by one over
    its seconds): a run that was held up hardly matters. Neither does one that ended early, as it counts as half of what
    was expected. The line is drawn towards the one through the origin as far as the batches were of equal size, and
    neither coefficient is negative.

    Attributes:
        known: whether any batch was seen.
    """

    def __init__(self) -> None:
        self._sums = [0.0] * 5  # of the weights, and of what they weigh
        self.fixed = self.per_token = 0.0
        self.known = False

    def learn(self, tokens: int, seconds: float) -> None:
        """A batch of that many tokens took so long. Nothing is learned from 0 seconds."""
        if not (tokens > 0 and 0 < seconds < inf):
            return
        seconds = max(seconds, 0.5 * self.seconds(tokens))
        terms = (1.0, tokens, seconds, tokens * tokens, tokens * seconds)
        self._sums = [0.95 * old + term / seconds for old, term in zip(self._sums, terms, strict=True)]
        size, time, square, product = (value / self._sums[0] for value in self._sums[1:])
        ridge = 0.01 * size * size
        slope = (product - size * time + ridge * time / size) / (square - size * size + ridge)
        self.per_token = min(max(slope, 0.0), time / size)
        self.fixed = time - self.per_token * size
        self.known = True

    def seconds(self, tokens: float, batches: float = 1.0) -> float:
        """Estimate for tokens in so many batches; 0 while nothing is known."""
        return self.fixed * batches + self.per_token * tokens if tokens else 0.0
