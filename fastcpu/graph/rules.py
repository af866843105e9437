"""What each op of docs/format.md asks of its node: the same as the constructors in kernels/runtime/ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import GraphError
from fastcpu.graph.ir import Graph, Node, Quantization, Tensor, Value
from fastcpu.graph.limits import (
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_TABLES,
    MAX_U8_HEAD_DIM,
    MAX_WEIGHT_ELEMENTS,
    U8_HEAD_DIM_UNIT,
)

FUNCTIONS = ("relu", "gelu", "gelu_tanh", "tanh")
ACTIVATIONS = ("none", *FUNCTIONS, "table")
POOLS = ("cls", "mean", "max")
GRID_ROLES = ("q", "k", "v", "score", "probability")

_STORAGE = {"f": "f32", "i1": "s8", "u1": "u8", "i4": "s32"}
_F32_MAX = float(np.finfo(np.float32).max)
_INT32 = np.iinfo(np.int32)
_LOG2_E = math.log2(math.e)


def storage(tensor: Tensor) -> str:
    """f32, s8, u8 or s32."""
    dtype = tensor.data.dtype
    name = _STORAGE.get(dtype.kind if dtype == np.float32 else dtype.str[1:])
    if name is None:
        raise GraphError(f"tensor '{tensor.name}' has dtype {dtype}; f32, s8, u8 or s32 expected")
    return name


def f32(number: float) -> float:
    """The f32 next to ``number``; infinite beyond the range."""
    with np.errstate(over="ignore"):
        return float(np.float32(number))


class Check:
    """One node with everything a rule asks about it; every complaint names the node.

    ``scales`` are the values that hold a scale per token: nothing reads them as numbers.
    """

    def __init__(self, graph: Graph, node: Node, scales: set[str]) -> None:
        self.graph = graph
        self.node = node
        self.scales = scales
        self.inputs = [] if node.op == "unpad" else [graph.values[name] for name in node.inputs]
        self.outputs = [graph.values[name] for name in node.outputs]

    def fail(self, message: str) -> NoReturn:
        raise GraphError(f"{self.node.op} '{self.node.name}': {message}")

    # ---- values ----

    def counts(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        for what, names, allowed in (("inputs", self.node.inputs, inputs), ("outputs", self.node.outputs, outputs)):
            if len(names) not in allowed:
                self.fail(f"{len(names)} {what}; {' or '.join(map(str, allowed))} expected")

    def expect(
        self, value: Value, dtypes: tuple[str, ...], spaces: tuple[str, ...], channels: int | None = None
    ) -> None:
        if value.dtype not in dtypes:
            self.fail(f"value '{value.name}' is {value.dtype}; {' or '.join(dtypes)} expected")
        if value.space not in spaces:
            self.fail(f"value '{value.name}' is in space {value.space}; {' or '.join(spaces)} expected")
        if channels is not None and value.channels != channels:
            self.fail(f"value '{value.name}' has {value.channels} channels; {channels} expected")
        if value.name in self.scales:
            self.fail(f"value '{value.name}' is a scale per token and cannot be used here")

    def one_scale(self, value: Value) -> Quantization:
        """The quantization of a static u8 value with one scale."""
        quantization = value.quantization
        if quantization is None:
            self.fail(f"value '{value.name}' has a scale per token; a static scale expected")
        if len(quantization.groups) > 1:
            self.fail(f"value '{value.name}' has {len(quantization.groups)} scales; one expected")
        return quantization

    def quantized_outputs(self, values: list[Value], space: str, channels: int) -> None:
        """A u8 output, and behind it the scale per token when the u8 output is dynamic."""
        if not values:
            return
        self.expect(values[0], ("u8",), (space,), channels)
        dynamic = values[0].dynamic_scale
        if (dynamic is not None) != (len(values) == 2) or (dynamic is not None and values[1].name != dynamic):
            self.fail(f"value '{values[0].name}' and the outputs disagree about a scale per token")
        if dynamic is None:
            self.one_scale(values[0])
        elif values[1].space != space:
            self.fail(f"value '{dynamic}' is in space {values[1].space}; {space} expected")

    # ---- tensors ----

    def tensors(self, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        for role in required:
            if role not in self.node.tensors:
                self.fail(f"tensor '{role}' is missing")
        for role in self.node.tensors:
            if role not in required and role not in optional:
                self.fail(f"no tensor '{role}' is known")

    def tensor(self, role: str, storages: tuple[str, ...], shape: tuple[int | None, ...]) -> Tensor:
        tensor = self.graph.tensors[self.node.tensors[role]]
        found = storage(tensor)
        if found not in storages:
            self.fail(f"tensor '{role}' is {found}; {' or '.join(storages)} expected")
        actual = tensor.data.shape
        if len(actual) != len(shape) or any(b is not None and a != b for a, b in zip(actual, shape, strict=True)):
            expected = ", ".join("any" if n is None else str(n) for n in shape)
            self.fail(f"tensor '{role}' has shape {list(actual)}; [{expected}] expected")
        return tensor

    # ---- attributes ----

    def attributes(self, *known: str) -> None:
        for name in self.node.attrs:
            if name not in known:
                self.fail(f"no attribute '{name}' is known")

    def _attr(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self.node.attrs.get(name, default)
        if value is None:
            self.fail(f"attribute '{name}' is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(f"attribute '{name}' is {value!r}")
        return value

    def flag(self, name: str) -> bool:
        return bool(self._attr(name, bool, False))

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self._attr(name, str, default)
        if value not in choices:
            self.fail(f"attribute '{name}' is {value!r}; one of {', '.join(choices)} expected")
        return str(value)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self._attr(name, int, default)
        if not low <= value <= high:
            self.fail(f"attribute '{name}' is {value}; {low} to {high} expected")
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        """An attribute of type f32."""
        value = self._attr(name, (float, int), default)
        if not abs(value) <= _F32_MAX:  # NaN too
            self.fail(f"attribute '{name}' is {value!r}; a finite f32 expected")
        return f32(value)

    def grid(self, scale_name: str, zero_point_name: str) -> None:
        scale = self.number(scale_name)
        if scale <= 0 or not math.isfinite(f32(1 / scale)):
            self.fail(f"attribute '{scale_name}' is {scale}; a positive scale whose inverse is a finite f32 expected")
        self.integer(zero_point_name, 0, 255)


# ---- one rule per op ----


def _unpad(c: Check) -> None:
    roles = [{i.name: i.role for i in c.graph.inputs}.get(name) for name in c.node.inputs]
    if roles not in (["ids", "mask"], ["ids", "mask", "types"]) or len(roles) != len(c.graph.inputs):
        c.fail(f"its inputs have roles {roles}; ids, mask and, where the graph has it, types expected")
    c.counts((2, 3), (len(roles),))
    for value in c.outputs:
        c.expect(value, ("s32",), ("tokens",), 1)
    c.tensors(())
    c.attributes("padding_id")
    if "padding_id" in c.node.attrs:
        c.integer("padding_id", 0, _INT32.max)


def _embedding(c: Check) -> None:
    c.counts(tuple(range(1, MAX_TABLES + 1)), (1,))
    c.expect(c.outputs[0], ("f32",), ("tokens",))
    c.tensors(tuple(f"table{i}" for i in range(len(c.inputs))))
    c.attributes()
    for i, value in enumerate(c.inputs):
        c.expect(value, ("s32",), ("tokens",), 1)
        table = c.tensor(f"table{i}", ("s8", "f32"), (None, c.outputs[0].channels))
        if table.encoding != "dense" or table.data.shape[0] < 1:
            c.fail(f"tensor 'table{i}' is {table.encoding} with {table.data.shape[0]} rows; a dense table expected")


def _layernorm(c: Check) -> None:
    residual = c.flag("residual")
    c.counts((2,) if residual else (1,), (1, 2, 3))
    c.attributes("epsilon", "residual")
    space, channels = c.outputs[0].space, c.outputs[0].channels
    for value in (*c.inputs, c.outputs[0]):
        c.expect(value, ("f32",), ("tokens", "sequences") if value is c.outputs[0] else (space,), channels)
    c.quantized_outputs(c.outputs[1:], space, channels)
    c.tensors(("gamma", "beta"), ("smooth",))
    c.tensor("gamma", ("f32",), (channels,))
    c.tensor("beta", ("f32",), (channels,))
    if c.number("epsilon") <= 0:
        c.fail("epsilon is not positive")
    if "smooth" in c.node.tensors:
        _smooth(c, channels)


def _smooth(c: Check, channels: int) -> None:
    """The factor of each channel of a layernorm's u8 output: scale times factor is a positive normal f32."""
    factor = c.tensor("smooth", ("f32",), (channels,)).data
    if len(c.outputs) != 2 or c.outputs[1].quantization is None:
        c.fail("smooth needs a static u8 output")
    with np.errstate(over="ignore", under="ignore"):
        steps = (f32(c.outputs[1].quantization.scale) * factor.astype(np.float64)).astype(np.float32)
    normal = (steps >= np.finfo(np.float32).tiny) & np.isfinite(steps)
    if not normal.all():
        c.fail(f"smooth of channel {np.argmin(normal)} times the scale is no positive normal f32")


def _linear(c: Check) -> None:
    dynamic = bool(c.inputs) and c.inputs[0].dynamic_scale is not None
    c.counts((2,) if dynamic else (1,), (1,))
    x, y = c.inputs[0], c.outputs[0]
    c.expect(x, ("u8", "f32"), ("tokens", "sequences"))
    c.expect(y, ("u8", "f32"), (x.space,))
    if dynamic and (c.inputs[1].name != x.dynamic_scale or c.inputs[1].space != x.space):
        c.fail(f"value '{c.inputs[1].name}' is not the scale of '{x.name}'")
    activation = c.choice("activation", ACTIVATIONS, "none")
    grid = ("table_scale", "table_zero_point") if activation == "table" else ()
    c.attributes("activation", *grid)
    integer = x.dtype == "u8"
    c.tensors(("weight", "bias"), ("bias_s32", "table") if integer else ())
    weight = c.tensor("weight", ("s8",) if integer else ("f32",), (y.channels, x.channels))
    if weight.data.size > MAX_WEIGHT_ELEMENTS:
        c.fail(f"tensor 'weight' has {weight.data.size} elements; at most {MAX_WEIGHT_ELEMENTS}")
    c.tensor("bias", ("f32",), (y.channels,))
    if "bias_s32" in c.node.tensors:
        c.tensor("bias_s32", ("s32",), (y.channels,))
    if ("table" in c.node.tensors) != (activation == "table"):
        c.fail(f"activation {activation} {'with' if 'table' in c.node.tensors else 'without'} a table")
    if activation == "table":
        c.tensor("table", ("u8",), (256,))
        if c.number("table_scale") <= 0:
            c.fail("table_scale is not positive")
        c.integer("table_zero_point", 0, 255)
    if y.dtype == "u8" and (
        dynamic or not integer or activation not in ("none", "table") or y.dynamic_scale is not None
    ):
        c.fail(f"a u8 output needs a static u8 input and activation none or table, not {activation}")
    if y.dtype == "f32" and activation == "table":
        c.fail("a table gives a u8 output")
    if integer:
        _integer_linear(c, weight)


def _integer_linear(c: Check, weight: Tensor) -> None:
    """No sum overflows s32, and the constants of the epilogue (docs/numerics.md, section 4) are finite f32."""
    x = None if c.inputs[0].dynamic_scale is not None else c.one_scale(c.inputs[0])
    lowest = weight.data.min(axis=1)
    if (lowest == -128).any():
        c.fail(f"row {np.argmin(lowest)} of tensor 'weight' has a value of -128")
    start = -(128 if x is None else x.zero_point) * weight.data.sum(axis=1, dtype=np.int64)
    if "bias_s32" in c.node.tensors:
        start += c.graph.tensors[c.node.tensors["bias_s32"]].data
    reach = weight.data.shape[1] * 255 * 127
    overflow = (start < _INT32.min + reach) | (start > _INT32.max - reach)
    if overflow.any():
        c.fail(f"row {np.argmax(overflow)} could overflow 32 bits")
    assert weight.scale is not None, weight.name  # of every s8 tensor
    mul = weight.scale.astype(np.float64)
    add = c.graph.tensors[c.node.tensors["bias"]].data.astype(np.float64)
    with np.errstate(all="ignore"):
        if x is not None:
            mul = f32(x.scale) * mul
        if c.outputs[0].dtype == "u8":
            scale, zero_point = _output_grid(c)
            mul, add = mul / scale, add / scale + zero_point
        finite = np.isfinite(mul.astype(np.float32)) & np.isfinite(add.astype(np.float32))
    if not finite.all():
        c.fail(f"the scales of row {np.argmin(finite)} overflow f32")


def _output_grid(c: Check) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and zero point per channel of what the epilogue writes in u8, before a table."""
    if "table" in c.node.tensors:
        groups: tuple[tuple[int, float, int], ...] = ((0, c.number("table_scale"), c.node.attrs["table_zero_point"]),)
    else:
        quantization = c.outputs[0].quantization
        assert quantization is not None, c.outputs[0].name
        groups = quantization.groups or ((0, quantization.scale, quantization.zero_point),)
    counts = np.diff([*(first for first, _, _ in groups), c.outputs[0].channels])
    scales = np.repeat([f32(scale) for _, scale, _ in groups], counts)
    return scales, np.repeat([float(zero_point) for _, _, zero_point in groups], counts)


def _attention_values(c: Check, dtypes: tuple[str, ...]) -> list[tuple[Value, int, int]]:
    """The channels of q, k and v: (value, first, count)."""
    c.counts((3,), (1,))
    heads, head_dim = c.integer("heads", 1, MAX_HEADS), c.integer("head_dim", 1, MAX_HEAD_DIM)
    kv_heads = c.integer("kv_heads", 1, heads, default=heads)
    if heads % kv_heads:
        c.fail(f"{heads} heads are not a multiple of {kv_heads} heads of keys and values")
    parts = []
    for value, role, count in zip(c.inputs, "qkv", (heads, kv_heads, kv_heads), strict=True):
        c.expect(value, dtypes, ("tokens",))
        offset = c.integer(f"{role}_offset", 0, value.channels - 1, default=0)
        if offset + count * head_dim > value.channels:
            c.fail(f"channels {offset} to {offset + count * head_dim} of '{value.name}', which has {value.channels}")
        parts.append((value, offset, count * head_dim))
    c.expect(c.outputs[0], ("f32", "u8"), ("tokens",), heads * head_dim)
    c.tensors((), ("bias",))
    c.number("scale")
    return parts


def _position_bias(c: Check, factor: float) -> None:
    """The bias per head and distance, which the runtime multiplies with ``factor``."""
    if "bias" not in c.node.tensors:
        return
    bias = c.tensor("bias", ("f32",), (c.node.attrs["heads"], None))
    if bias.data.shape[1] % 2 == 0 or bias.encoding != "dense":
        c.fail(f"tensor 'bias' has {bias.data.shape[1]} columns; an odd number expected")
    if not math.isfinite(f32(float(np.abs(bias.data).max()) * factor)):
        c.fail("tensor 'bias' overflows f32")


def _attention(c: Check) -> None:
    parts = _attention_values(c, ("u8", "f32"))
    dtypes = {value.dtype for value in c.inputs}
    if len(dtypes) != 1:
        c.fail("q, k and v have different dtypes")
    known = ("heads", "kv_heads", "head_dim", "q_offset", "k_offset", "v_offset", "scale", "causal")
    of_u8 = ("q_scale", "k_scale", "v_scale", "q_zero_point")
    c.flag("causal")
    if dtypes == {"f32"}:
        c.attributes(*known)
        if c.outputs[0].dtype != "f32":
            c.fail("a u8 output needs u8 inputs")
    else:
        c.attributes(*known, *of_u8)
        for name in ("q_scale", "k_scale", "v_scale"):
            c.number(name, 1.0)
        c.integer("q_zero_point", 0, 255, default=0)
    scale, out = c.number("scale"), 1.0
    if dtypes == {"u8"}:
        head_dim = c.node.attrs["head_dim"]
        if head_dim % U8_HEAD_DIM_UNIT or head_dim > MAX_U8_HEAD_DIM:
            c.fail(f"head_dim {head_dim}: u8 attention needs a multiple of {U8_HEAD_DIM_UNIT} up to {MAX_U8_HEAD_DIM}")
        q, k, out = _attention_scales(c, parts)
        scale *= q * k
        if c.outputs[0].dtype == "u8":
            out /= f32(c.one_scale(c.outputs[0]).scale)
    exponent_scale = f32(scale * _LOG2_E)
    if exponent_scale < 0:
        c.fail("scale is negative")
    if not math.isfinite(exponent_scale) or not math.isfinite(f32(out)):
        c.fail(f"the scale of the scores, {scale}, or of the output, {out}, overflows f32")
    _position_bias(c, _LOG2_E)


def _attention_scales(c: Check, parts: list[tuple[Value, int, int]]) -> list[float]:
    """The scales of q, k and v, all u8. Attributes repeat them, and must where a value has several."""
    merged = any(value.quantization is not None and len(value.quantization.groups) > 1 for value in c.inputs)
    scales = []
    for role, (value, first, count) in zip("qkv", parts, strict=True):
        if value.quantization is None:
            c.fail(f"value '{value.name}' has a scale per token; a static scale expected")
        groups = value.quantization.groups or ((0, value.quantization.scale, value.quantization.zero_point),)
        begin, scale, zero_point = next(group for group in reversed(groups) if group[0] <= first)
        if any(begin < start < first + count for start, _, _ in groups):
            c.fail(f"channels {first} to {first + count} of '{value.name}' lie in several groups")
        scales.append(f32(scale))
        if c.number(f"{role}_scale", None if merged else scale) != scales[-1]:
            c.fail(f"attribute '{role}_scale' is not {scale}, the scale of '{value.name}'")
        if role != "q" and zero_point != 128:
            c.fail(f"value '{value.name}' is a key or value: zero point 128 expected, not {zero_point}")
        if role == "q" and c.integer("q_zero_point", 0, 255, None if merged else zero_point) != zero_point:
            c.fail(f"attribute 'q_zero_point' is not {zero_point}, that of '{value.name}'")
    return scales


def _attention_qdq(c: Check) -> None:
    _attention_values(c, ("f32",))
    c.expect(c.outputs[0], ("f32",), ("tokens",))
    grids = [f"{role}_{part}" for role in GRID_ROLES for part in ("scale", "zero_point")]
    c.attributes(
        "heads", "kv_heads", "head_dim", "q_offset", "k_offset", "v_offset", "scale", "q_factor", "k_factor", *grids
    )
    heads = c.node.attrs["heads"]
    c.integer("kv_heads", heads, heads, default=heads)
    c.number("q_factor")
    c.number("k_factor")
    for role in GRID_ROLES:
        if f"{role}_scale" in c.node.attrs or f"{role}_zero_point" in c.node.attrs:
            c.grid(f"{role}_scale", f"{role}_zero_point")
    _position_bias(c, 1.0)


def _quantize(c: Check) -> None:
    c.counts((1,), (1, 2))
    x = c.inputs[0]
    c.expect(x, ("f32",), ("tokens", "sequences"))
    c.quantized_outputs(c.outputs, x.space, x.channels)
    c.tensors(())
    c.attributes()


def _elementwise(c: Check, inputs: int) -> None:
    c.counts((inputs,), (1,))
    y = c.outputs[0]
    c.expect(y, ("f32",), ("tokens", "sequences"))
    for value in c.inputs:
        c.expect(value, ("f32",), (y.space,), y.channels)


def _pointwise(c: Check) -> None:
    _elementwise(c, 1)
    c.tensors(())
    c.attributes("function")
    c.choice("function", FUNCTIONS)


def _add(c: Check) -> None:
    _elementwise(c, 2)
    c.tensors(())
    c.attributes()


def _fake_quant(c: Check) -> None:
    _elementwise(c, 1)
    c.tensors((), ("bias",))
    c.attributes("scale", "zero_point")
    c.grid("scale", "zero_point")
    if "bias" in c.node.tensors:
        c.tensor("bias", ("f32",), (c.outputs[0].channels,))


def _pool(c: Check) -> None:
    c.counts((1,), (1,))
    c.expect(c.inputs[0], ("f32",), ("tokens",))
    c.expect(c.outputs[0], ("f32",), ("sequences",), c.inputs[0].channels)
    c.tensors(())
    c.attributes("mode")
    c.choice("mode", POOLS)


def _l2norm(c: Check) -> None:
    _elementwise(c, 1)
    c.tensors(())
    c.attributes()


def _repad(c: Check) -> None:
    c.counts((1,), (1,))
    x = c.inputs[0]
    c.expect(x, ("f32",), ("tokens", "sequences"))
    c.attributes("begin", "end", "squeeze", "fill")
    begin = c.integer("begin", 0, x.channels - 1, default=0)
    end = c.integer("end", begin + 1, x.channels, default=x.channels)
    c.expect(c.outputs[0], ("f32",), ("output",), end - begin)
    c.tensors(())
    if c.flag("squeeze") and end - begin != 1:
        c.fail(f"squeeze drops the axis of one channel, not of {end - begin}")
    c.number("fill", 0.0)


RULES: dict[str, Callable[[Check], None]] = {
    "add": _add,
    "attention": _attention,
    "attention_qdq": _attention_qdq,
    "embedding": _embedding,
    "fake_quant": _fake_quant,
    "l2norm": _l2norm,
    "layernorm": _layernorm,
    "linear": _linear,
    "pointwise": _pointwise,
    "pool": _pool,
    "quantize": _quantize,
    "repad": _repad,
    "unpad": _unpad,
}
