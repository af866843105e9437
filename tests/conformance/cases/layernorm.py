"""Alone and with a residual; f32, static u8, smoothed u8 and dynamic u8 outputs."""

from collections.abc import Iterator

import numpy as np

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    for channels in (1, 5, 64):
        for residual in (False, True):
            for kind in ("f32", "static", "smooth", "dynamic"):
                b = Builder(f"{kind}-{channels}", channels)
                h = b.hidden(channels)
                tensors = {"gamma": b.tensor("gamma", b.random(channels)), "beta": b.tensor("beta", b.random(channels))}
                outputs = [b.value("y", channels)]
                if kind == "static":
                    outputs.append(b.static("q", channels, 0.04, 117))
                elif kind == "smooth":
                    outputs.append(b.static("q", channels, 0.04, 117))
                    tensors["smooth"] = b.tensor("smooth", np.exp(b.random(channels)))
                elif kind == "dynamic":
                    outputs += b.dynamic("q", channels)
                inputs = [h, b.unary("pointwise", "other", h, function="tanh")] if residual else [h]
                b.node("layernorm", "norm", inputs, outputs, tensors=tensors, epsilon=1e-12, residual=residual)
                yield b.finish("y")
