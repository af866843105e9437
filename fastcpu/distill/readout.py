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
    x, y = student.astype(np.float64), teacher.astype(np.float64)
    gram = x.T @ x
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    nearest = np.linalg.solve(gram + ridge, x.T @ y + ridge)
    _, directions = np.linalg.eigh(np.cov(y.T))
    guessed, wanted = ((each - each.mean(axis=0)) @ directions for each in (x @ nearest, y))
    variance = (wanted * wanted).mean(axis=0)
    still = variance <= _NOTHING * variance.max()  # directions in which the teacher does not vary
    slopes = (guessed * wanted).mean(axis=0) / np.where(still, 1.0, variance)
    slopes = np.where(still, 1.0, slopes).clip(_LEAST_SLOPE, 1.0)
    weight = nearest @ (directions / slopes) @ directions.T
    return np.ascontiguousarray(weight.T, np.float32)
