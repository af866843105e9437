"""What schemathesis is told of the server beside its OpenAPI document: `test_schema` lets it import this."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

MEANINGS = (
    r"the vectors have \d+, not",
    r"has \d+ tokens; there must be 1 to",
    r"has (token ids that are not|something else than token ids) below",
    r"the model has no prompt",
    r"only the right end can be cut",
    r"cannot be empty|query is empty",
    r"max_tokens_per_doc: documents can only be cut at",
    r"is no pair of a question and a passage with words",
    r"threshold: of no use without no_answer",
    r"context: (one question|there are)",
    r"have no room beside \d+ other tokens",
    r"stride",
    r"has no \[MASK\]|has a \[MASK\] after",
    r"targets?:",
    r"top_k: .* are more than",
    r"parameters: '.*' is not supported",
    r"Expected `[^`]*int[^`]*`, got `float`",  # JSON Schema takes 2.0 for an integer
)
"""What a schema allows, and only the model or the meaning of the words can refuse."""
TENSORS = (
    r'^{"error": ?"(input|inputs|output|outputs|parameters)\b',
    r"the body is not JSON|Inference-Header-Content-Length",  # schemathesis sends that header with bodies of JSON
)
"""The same of tensors: their names, types and shapes are those of the model."""
OF_THE_TASK = (r"Expected|unknown field|missing required field|the path names another one",)
"""The same where the body is that of the task of the model."""


@schemathesis.check
def valid_data_is_accepted(ctx: Any, response: Any, case: Any) -> bool | None:
    """As positive_data_acceptance, but for the reasons above."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in {400, 413, 422}:
        return None
    reasons = MEANINGS
    if case.path.endswith("/infer"):
        reasons += TENSORS
    elif case.path == "/models/{model}":
        reasons += OF_THE_TASK
    assert re.search("|".join(reasons), response.text), f"valid data should have been accepted: {response.text}"
    return None


@schemathesis.check
def server_errors_are_foreseen(ctx: Any, response: Any, case: Any) -> bool | None:
    """503 and 504 alone; the former only while models are not there."""
    assert response.status_code < 500 or response.status_code in {503, 504}
    return None


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leaves out bytes behind the JSON: the document cannot say of them what `test_inference` checks."""
    return case.media_type != "application/octet-stream"
