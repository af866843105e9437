"""The exceptions of fastcpu. The C++ runtime raises the same classes (kernels/bindings/register_errors.cpp)."""

from __future__ import annotations


class FastcpuError(Exception):
    """Base of every error that fastcpu raises on purpose; its message says what is wrong and where."""


class InputError(FastcpuError, ValueError):
    """A name, dtype, rank, shape or value passed by the caller is wrong."""


class MissingPackageError(InputError, ImportError):
    """Something was asked for that needs a package which is not installed; the message says how to install it."""


class FileFormatError(FastcpuError):
    """A model file is truncated, tampered with, or of a version that this release does not read."""


class GraphError(FastcpuError):
    """A graph is inconsistent or cannot be compiled."""


class UnsupportedOpError(GraphError):
    """A node uses an operator that fastcpu cannot run.

    Attributes:
        node: name of the node in the graph it came from.
        op: operator type, with its domain where that is not the default one.
        opset: version of the operator set that the model imports, or None where there is none.
    """

    def __init__(self, node: str, op: str, opset: int | None = None, detail: str = "") -> None:
        version = "" if opset is None else f" (opset {opset})"
        reason = f": {detail}" if detail else ""
        super().__init__(f"node '{node}': operator {op}{version} is not supported{reason}")
        self.node = node
        self.op = op
        self.opset = opset
        self.detail = detail

    def __reduce__(self) -> tuple[type[UnsupportedOpError], tuple[str, str, int | None, str]]:
        return type(self), (self.node, self.op, self.opset, self.detail)


class IsaError(FastcpuError):
    """FASTCPU_ISA names an instruction set that is unknown or that this CPU lacks."""


class QuantizationError(FastcpuError):
    """A tensor or layer cannot be quantized as asked: NaN weights, empty calibration data, an unknown scheme."""


class TrainingError(FastcpuError):
    """Training cannot go on: the loss or its gradient is not finite, or a checkpoint does not fit the model."""


class AccuracyError(FastcpuError):
    """A compressed model has lost more accuracy than the user allows; it is not published."""


class OutputError(FastcpuError, OSError):
    """A file or directory cannot be written: the operating system refuses, or what is there must not be replaced."""


class ResourceError(FastcpuError, OSError):
    """The operating system refused what the runtime needs: to open or read a file of a model, or to start a thread."""
