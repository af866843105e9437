"""What is caught of the last layer's attention, for every family."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from fastcpu.distill.corpus import Batch  # noqa: E402  (needs torch)
from fastcpu.distill.losses.divergence import attention_divergence  # noqa: E402
from fastcpu.distill.model import outputs  # noqa: E402
from fastcpu.frontend.families import FAMILIES, Family  # noqa: E402
from tests.frontend import tiny  # noqa: E402

IDS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize("ending", ["Model", "ForSequenceClassification"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_they_give_the_attention_of_the_last_layer(family: Family, ending: str) -> None:
    model = tiny.model(family.name + ending)
    with torch.no_grad():
        caught = outputs(model, None, Batch(IDS, MASK), {"projections"}).projections
        assert caught is not None
        model.set_attn_implementation("eager")
        expected = model(input_ids=IDS, attention_mask=MASK.long(), output_attentions=True).attentions[-1]
    heads = expected.shape[1]
    assert caught.heads == heads
    q, k, v = (
        each.reshape(*MASK.shape, heads, -1).transpose(1, 2) for each in (caught.query, caught.key, caught.value)
    )
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    if family.name == "MPNet":
        scores = scores + model.get_submodule(family.prefix if ending != "Model" else "").encoder.compute_position_bias(
            torch.zeros(*MASK.shape, 1)
        )
    found = scores.masked_fill(~MASK[:, None, None, :], -torch.inf).softmax(-1)
    torch.testing.assert_close(found.transpose(1, 2)[MASK], expected.transpose(1, 2)[MASK])
    assert v.shape == q.shape
    assert not torch.equal(v, q)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_nothing_is_left_in_the_model(family: Family) -> None:
    model = tiny.model(f"{family.name}Model")
    with torch.no_grad():
        outputs(model, None, Batch(IDS, MASK), {"projections"})
    assert not any(part._forward_hooks for part in model.modules() if isinstance(part, torch.nn.Linear))
    with pytest.raises(IndexError):
        outputs(model, None, Batch(torch.full_like(IDS, tiny.VOCABULARY), MASK), {"projections"})
    assert not any(part._forward_hooks for part in model.modules() if isinstance(part, torch.nn.Linear))


def test_they_carry_gradients_to_the_student() -> None:
    student, teacher = (tiny.model("BertModel", seed) for seed in (0, 1))
    mine, theirs = (outputs(each, None, Batch(IDS, MASK), {"projections"}).projections for each in (student, teacher))
    assert mine is not None
    assert theirs is not None
    attention_divergence((mine.query, mine.key), (theirs.query, theirs.key), MASK, 2).backward()
    last = student.encoder.layer[-1].attention.self
    assert last.query.weight.grad.abs().sum() > 0
    assert last.value.weight.grad is None
    student.zero_grad()
