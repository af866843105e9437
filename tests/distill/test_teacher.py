"""Several teachers in one."""

from __future__ import annotations

import numpy as np
import pytest

from fastcpu import InputError

torch = pytest.importorskip("torch")

from fastcpu.distill.corpus import Batch  # noqa: E402
from fastcpu.distill.losses.loss import Outputs  # noqa: E402  (needs torch)
from fastcpu.distill.teacher import MeanTeacher  # noqa: E402


class Constant:
    """A teacher that gives the same logits to every batch."""

    def __init__(self, **logits: torch.Tensor) -> None:
        self._logits = logits

    def __call__(self, indices: np.ndarray, batch: Batch) -> Outputs:
        del indices
        return Outputs(batch.mask, logits=self._logits)


BATCH = np.arange(2), Batch(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool))


def test_logits_are_averaged_by_name() -> None:
    first, second = (Constant(logits=torch.full((2, 2), value)) for value in (1.0, 4.0))
    found = MeanTeacher([first, second])(*BATCH)
    assert found.logits is not None
    assert list(found.logits) == ["logits"]
    torch.testing.assert_close(found.logits["logits"], torch.full((2, 2), 2.5))
    assert found.mask is BATCH[1].mask


@pytest.mark.parametrize("other", [{"logits": torch.zeros(2, 3)}, {"start_logits": torch.zeros(2, 2)}, {}])
def test_logits_of_other_shapes_or_names_are_not(other: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError, match="the teachers' logits differ in shape"):
        MeanTeacher([Constant(logits=torch.zeros(2, 2)), Constant(**other)])(*BATCH)
