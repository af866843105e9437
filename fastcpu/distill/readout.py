"""A linear readout: the map of a student's embeddings that ranks most like the teacher's.

Least squares alone would give the nearest embeddings, but not the best ranking: along each direction they grow with the
teacher's by a slope below 1, the lower the less the student explains there, and what sets similar texts apart lies in
directions that are explained least. Divided by their slopes, they have the teacher's scale in every direction again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_TEXTS = 4
"""Per channel; with fewer, slopes say more of these texts than of the student."""
_RIDGE = 0.01
_LEAST_SLOPE = 0.1
_NOTHING = 1e-9


def solve(student: NDArray[np.float32], teacher: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weight f32 [N, N] of a linear from a student's embeddings [T, N] to its teacher's, of unit length both."""
    import torch

    x, y = (torch.from_numpy(np.array(each, np.float64)) for each in (student, teacher))
    gram = x.T @ x
    ridge = _RIDGE * gram.trace() / len(gram) * torch.eye(len(gram), dtype=x.dtype)
    nearest = torch.linalg.solve(gram + ridge, x.T @ y + ridge)
    directions = torch.linalg.eigh(torch.cov(y.T)).eigenvectors
    guessed, wanted = ((each - each.mean(dim=0)) @ directions for each in (x @ nearest, y))
    variance = wanted.square().mean(dim=0)
    still = variance <= _NOTHING * variance.max()  # directions in which the teacher does not vary
    slopes = (guessed * wanted).mean(dim=0) / variance.where(~still, 1.0)
    slopes = slopes.where(~still, 1.0).clamp(_LEAST_SLOPE, 1.0)
    weight = nearest @ (directions / slopes) @ directions.T
    return np.ascontiguousarray(weight.T.numpy(), np.float32)
