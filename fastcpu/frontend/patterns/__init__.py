"""The patterns that turn ONNX nodes into runtime ops, in the order in which they are tried on a node.

A pattern names the operators that it looks at. It is asked with the symbols of the node's inputs and answers with the
symbols of its outputs, or None when the node is not its own; where it came close it says why (``ctx.miss``).

To add one: a file here with a ``PATTERN``, and its line below. Symbols that it defines say in ``shape`` and ``emit``
what the importer asks of them.
"""

from __future__ import annotations

from fastcpu.frontend.patterns import (
    activation,
    attention,
    attention_op,
    channels,
    embedding,
    fold,
    heads,
    identity,
    integers,
    layernorm,
    linear,
    pooling,
    qdq,
    residual,
)
from fastcpu.frontend.patterns.pattern import Pattern

PATTERNS: tuple[Pattern, ...] = (
    qdq.PATTERN,  # before fold, which would lose the integers behind a dequantized weight
    fold.PATTERN,  # constants, shapes and masks; everything below sees at least one runtime value
    integers.PATTERN,  # before identity and activation: the Casts and Muls of an integer product
    identity.PATTERN,  # before the patterns that give a meaning to Reshape, Slice and Expand
    embedding.PATTERN,
    linear.PATTERN,  # before residual: the Add of a bias
    attention.PATTERN,  # scores, mask, softmax and context
    attention_op.PATTERN,  # all of it in one operator
    heads.PATTERN,  # splitting into heads and merging them
    layernorm.PATTERN,  # the operator, and the form that opsets before 17 write out
    pooling.PATTERN,  # before activation: the Mul by a mask and the Div by a count or a norm
    activation.PATTERN,
    channels.PATTERN,  # parts of the channels, first tokens
    residual.PATTERN,  # last: an Add of two activations that means nothing else
)

__all__ = ["PATTERNS", "Pattern"]
