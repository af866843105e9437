"""ONNX -> Graph: one walk over the nodes that the outputs need, each taken by the first pattern that knows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastcpu.errors import FastcpuError, FileFormatError, GraphError, InputError, UnsupportedOpError
from fastcpu.frontend.builder import Builder
from fastcpu.graph import passes, verify
from fastcpu.graph.ir import Graph, GraphInput
from fastcpu.graph.trace import Trace

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from fastcpu.frontend.context import Import
    from fastcpu.frontend.symbols import Array, Probe, Symbol

OPSETS = range(13, 24)

Role = Literal["ids", "mask", "types"]


def import_file(path: Path, trace: Trace | None = None, per_token: bool = False) -> Graph:
    """The graph of an .onnx file: f32, or int8 as it quantizes.

    ``per_token`` gives every token a scale of its own where the file has a DynamicQuantizeLinear of the whole batch.

    Raises:
        InputError: no such file, or ``per_token`` for a file that has no DynamicQuantizeLinear.
        FileFormatError: not a readable ONNX file.
        GraphError: what the runtime cannot express.
    """
    import onnx_ir as ir

    try:
        model = ir.load(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # protobuf raises its own DecodeError, onnx-ir ValueError and others
        raise FileFormatError(f"{path}: not a readable ONNX file ({error})") from error
    if not model.opset_imports:  # protobuf reads an empty file, and many a file that is none of its own
        raise FileFormatError(f"{path}: {'an empty file' if path.stat().st_size == 0 else 'not an ONNX model'}")
    return import_model(model, path.stem, trace, per_token=per_token)


def import_proto(
    proto: onnx.ModelProto, name: str, prefix: str = "", trace: Trace | None = None, per_token: bool = False
) -> Graph:
    """The graph of an ONNX model in memory; ``prefix`` is dropped from the front of module paths."""
    import onnx_ir as ir

    return import_model(ir.from_proto(proto), name, trace, prefix, per_token)


def import_model(
    model: ir.Model, name: str, trace: Trace | None = None, prefix: str = "", per_token: bool = False
) -> Graph:
    """The graph of an onnx-ir model, after the passes."""
    from onnx_ir.passes.common import IdentityEliminationPass, InlinePass, RemoveUnusedNodesPass

    from fastcpu.frontend.context import Import

    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    if opset is None:
        raise GraphError("the model imports no opset of ONNX")
    if opset not in OPSETS:
        raise GraphError(f"the model imports opset {opset} of ONNX; {OPSETS.start} to {OPSETS.stop - 1} are supported")
    try:
        for clean in (InlinePass(), RemoveUnusedNodesPass(), IdentityEliminationPass()):
            model = clean(model).model
    except Exception as error:  # a function that calls itself, an Identity without input
        raise GraphError(f"the graph is malformed: {error}") from error
    trace = trace or Trace()
    ctx = Import(Builder(name), opset, trace, prefix, per_token)
    symbols = _inputs(ctx, model.graph)
    for node in model.graph:
        _visit(ctx, node, symbols)
    _outputs(ctx, model.graph, symbols)
    if per_token and not ctx.used_per_token:
        raise InputError(f"per_token is for files with DynamicQuantizeLinear; {name} has none")
    graph = ctx.builder.graph
    verify.check(graph)
    passes.run(graph, trace)
    _store_zeros_as_blocks(graph)
    return graph


def _store_zeros_as_blocks(graph: Graph) -> None:
    """Put s8 weights that nothing but linears read into the smaller encoding."""
    from fastcpu.quantize.weights import encoded

    tables = {name for node in graph.nodes if node.op == "embedding" for name in node.tensors.values()}
    for name, tensor in graph.tensors.items():
        if tensor.scale is not None and name not in tables:
            graph.tensors[name] = encoded(tensor)


# ---- inputs ----


def _inputs(ctx: Import, graph: ir.Graph) -> dict[str, Symbol]:
    """Give each graph input a role and a symbol, and start the graph with them."""
    from fastcpu.frontend.symbols import Input, probed

    roles = _roles(graph)
    declared = [GraphInput(name, role, optional=role == "types") for name, role in roles.items()]
    masks = [graph_input.name for graph_input in declared if graph_input.role == "mask"]
    if masks:
        ctx.mask_input = masks[0]
    else:
        declared.append(GraphInput("attention_mask", "mask", optional=True))
    ctx.builder.unpad(declared)
    dtypes = {value.name: value.dtype for value in graph.inputs}
    symbols: dict[str, Symbol] = {}
    for name, role in roles.items():
        dtype = dtypes[name]
        numpy_dtype = np.int64 if dtype is None else dtype.numpy()

        def mask(probe: Probe, dtype: Any = numpy_dtype) -> Array:
            return probe.mask.astype(dtype)

        symbols[name] = probed(mask) if role == "mask" else Input(name, role)
    return symbols


def _roles(graph: ir.Graph) -> dict[str, Role]:
    """Which input is what: those that index a table are ids and token types, the other one is the mask."""
    inputs = {value.name: value for value in graph.inputs if value.name is not None and not value.is_initializer()}
    indices = {name for name, value in inputs.items() if _indexes_table(value)}
    unused = {name for name, value in inputs.items() if not value.uses()}
    types = {name for name in indices | unused if "type" in name.lower() or "segment" in name.lower()}
    ids, masks = indices - types, set(inputs) - indices - types
    for role, names, most in (("token ids", ids, 1), ("attention mask", masks, 1), ("token types", types, 1)):
        if len(names) > most:
            raise GraphError(f"inputs {', '.join(sorted(names))} all look like the {role}")
    if not ids:
        raise GraphError(f"none of the inputs {', '.join(sorted(inputs))} indexes an embedding table")
    return {name: "ids" if name in ids else "types" if name in types else "mask" for name in inputs}


def _indexes_table(value: ir.Value) -> bool:
    """True when ``value``, cast and reshaped or not, is the index of a Gather from a matrix of the file."""
    for use in value.uses():
        node = use.node
        if node.op_type in ("Cast", "Reshape", "Identity") and use.idx == 0:
            if _indexes_table(node.outputs[0]):
                return True
        elif node.op_type == "Gather" and use.idx == 1:
            table = node.inputs[0]
            producer = None if table is None else table.producer()
            if producer is not None and producer.op_type == "DequantizeLinear":
                table = producer.inputs[0]
            if table is not None and table.is_initializer():
                return True
    return False


# ---- nodes ----


def _symbol(value: ir.Value | None, symbols: dict[str, Symbol]) -> Symbol | None:
    from fastcpu.frontend.symbols import Constant

    if value is None or value.name is None or value.name == "":
        return None
    if value.name not in symbols:
        if value.const_value is None:
            raise GraphError(f"value '{value.name}' is read before it is written")
        try:
            array = value.const_value.numpy()
        except Exception as error:  # external data that is missing or too short, a type that NumPy lacks
            raise FileFormatError(f"initializer '{value.name}' cannot be read ({error})") from error
        symbols[value.name] = Constant(array, value.name)
    return symbols[value.name]


def _visit(ctx: Import, node: ir.Node, symbols: dict[str, Symbol]) -> None:
    """Bind the outputs of ``node``; UnsupportedOpError when no pattern takes it."""
    inputs = [_symbol(value, symbols) for value in node.inputs]
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"
    name = node.name or next((value.name for value in node.outputs if value.name), op)
    try:
        results = _match(ctx, node, inputs)
    except FastcpuError:
        raise
    except Exception as error:  # inputs or attributes that the operator does not have
        raise UnsupportedOpError(name, op, ctx.opset, f"{type(error).__name__}: {error}") from error
    if results is None:
        operands = ", ".join("nothing" if symbol is None else type(symbol).__name__ for symbol in inputs)
        detail = ctx.trace.at(node.name or node.op_type) or f"no pattern takes it on {operands}"
        raise UnsupportedOpError(name, op, ctx.opset, detail)
    for output, result in zip(node.outputs, results, strict=False):
        if output.name:
            symbols[output.name] = result


def _match(ctx: Import, node: ir.Node, inputs: list[Symbol | None]) -> list[Symbol] | None:
    """The answer of the first pattern that takes ``node``; what the others missed at it does not matter then."""
    from fastcpu.frontend.patterns import PATTERNS

    if node.domain not in ("", "ai.onnx"):
        return None
    before = len(ctx.trace.misses)
    for pattern in PATTERNS:
        if pattern.ops is None or node.op_type in pattern.ops:
            results = pattern.match(ctx, node, inputs)
            if results is not None:
                ctx.trace.misses[before:] = [m for m in ctx.trace.misses[before:] if m.pattern == pattern.name]
                return results
    return None


# ---- outputs ----


def _outputs(ctx: Import, graph: ir.Graph, symbols: dict[str, Symbol]) -> None:
    from fastcpu.frontend.symbols import Channels

    for value in graph.outputs:
        symbol = _symbol(value, symbols)
        part = symbol if isinstance(symbol, Channels) else None
        source = part.source if part is not None else ctx.activation(symbol)
        if source is None or value.name is None:
            raise GraphError(
                f"output '{value.name}' is not an activation per token or per sequence: {type(symbol).__name__}"
            )
        begin, end, squeeze = (part.begin, part.end, part.squeezed) if part is not None else (0, source.channels, False)
        ctx.builder.output(value.name, ctx.builder.f32(source), begin, end, squeeze)
