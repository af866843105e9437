"""exp2, relu, gelus and tanh: the straight-line functions of kernels/simd/math.h, read from there and run on arrays.

The coefficients and the order of operations have that header as their only source. Whether they approximate the right
functions is checked against `oracle`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Function = Callable[[F32], F32]

HEADER = Path(__file__).parents[2] / "kernels" / "simd" / "math.h"

_FUNCTION = re.compile(r"template <class V>\ninline V (\w+)\(V (\w+)\) \{\n(.*?)\n\}\n", re.DOTALL)
_STATEMENT = re.compile(r"(?:(?:const )?(?:V )?(\w+) =|return)\s+(.+)", re.DOTALL)
_CONSTANT = re.compile(r"V::set1\((-?[0-9a-fxp.+-]+?)f\)")


def _constant(text: str) -> np.float32:
    value = float.fromhex(text) if "0x" in text else float(text)
    return np.float32(value)


# The vector operations of kernels/simd/scalar.h that the functions are written in.
_OPERATIONS: dict[str, Any] = {
    "constant": _constant,
    "min": lambda a, b: np.where(a < b, a, b),
    "max": lambda a, b: np.where(a > b, a, b),
    "abs": np.abs,
    "rint": np.rint,
    "copysign": np.copysign,
    "pow2": lambda n: np.ldexp(np.float32(1), n.astype(np.int32)),
    "where_less": lambda a, b, x, y: np.where(a < b, x, y),
}


def parse(text: str) -> dict[str, Function]:
    """The functions of a header in the style of math.h, callable on f32 arrays; ValueError if one is not."""
    namespace = dict(_OPERATIONS)
    functions: dict[str, Function] = {}
    for name, argument, body in _FUNCTION.findall(text):
        lines = [f"def {name}({argument}):"]
        for statement in filter(None, map(str.strip, re.sub(r"//.*", "", body).split(";"))):
            match = _STATEMENT.fullmatch(statement)
            if match is None:
                raise ValueError(f"{HEADER.name}: cannot read {statement!r} in {name}")
            target, expression = match.groups()
            expression = _CONSTANT.sub(r"constant('\1')", expression).replace("V::zero()", "constant('0')")
            lines.append(f"    {target} = {expression}" if target else f"    return {expression}")
        exec("\n".join(lines), namespace)
        functions[name] = namespace[name]
    return functions


def _quiet(function: Function) -> Function:
    """NaN and infinities are ordinary inputs."""

    def call(x: F32) -> F32:
        with np.errstate(all="ignore"):
            y = np.asarray(function(np.asarray(x, np.float32)))
        assert y.dtype == np.float32, function
        return y

    return call


_FUNCTIONS = parse(HEADER.read_text(encoding="utf-8"))

exp2 = _quiet(_FUNCTIONS["exp2"])

POINTWISE: dict[str, Function] = {
    "none": lambda x: x,
    "relu": _quiet(_FUNCTIONS["relu"]),
    "gelu": _quiet(_FUNCTIONS["gelu"]),
    "gelu_tanh": _quiet(_FUNCTIONS["gelu_tanh"]),
    "tanh": _quiet(_FUNCTIONS["tanh"]),
}
