from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

def isas() -> list[str]: ...
def isa_title(name: str) -> str: ...
def supported_isas() -> list[str]: ...
def selected_isa() -> str: ...
def force_isa_for_testing(name: str) -> None: ...
def op_table() -> list[dict[str, Any]]: ...
def available_cpus() -> int: ...
def crc32c(array: NDArray[Any]) -> int: ...
def erf(x: NDArray[np.float64]) -> NDArray[np.float64]: ...
def measure_peak(threads: int = 0) -> dict[str, Any]: ...
def read_model(path: str | bytes | PathLike[str], *, data: bool = False) -> dict[str, Any]: ...

class Session:
    def __init__(
        self,
        path: str | bytes | PathLike[str],
        *,
        threads: int = 0,
        execution: str = "auto",
        keep: Sequence[str] = (),
        profile: bool = False,
    ) -> None: ...
    def run(
        self,
        feeds: Mapping[str, Any],
        out: Mapping[str, NDArray[np.float32]] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[np.float32]]: ...
    def run_kept(
        self, feeds: Mapping[str, Any], names: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]: ...
    @property
    def threads(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def inputs(self) -> list[tuple[str, str, bool]]: ...
    @property
    def outputs(self) -> list[tuple[str, list[str]]]: ...
    def ops(self) -> list[dict[str, Any]]: ...
    def reset_profile(self) -> None: ...

def attention_forward(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    lengths: NDArray[np.int64],
    heads: int,
    scale: float,
    o: NDArray[Any],
    threads: int,
) -> None: ...
def attention_backward(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    lengths: NDArray[np.int64],
    heads: int,
    scale: float,
    gradient: NDArray[Any],
    dq: NDArray[Any],
    dk: NDArray[Any],
    dv: NDArray[Any],
    threads: int,
) -> None: ...

class SparseProduct:
    def __init__(self, keep: NDArray[np.bool_]) -> None: ...
    @property
    def blocks(self) -> int: ...
    def gather(self, weight: NDArray[Any], values: NDArray[np.float32], threads: int) -> None: ...
    def scatter(self, values: NDArray[np.float32], weight: NDArray[Any], threads: int) -> None: ...
    def forward(
        self,
        values: NDArray[np.float32],
        bias: NDArray[np.float32],
        x: NDArray[Any],
        y: NDArray[Any],
        threads: int,
    ) -> None: ...
    def backward(
        self,
        values: NDArray[np.float32],
        x: NDArray[Any],
        dy: NDArray[Any],
        dx: NDArray[Any],
        dvalues: NDArray[np.float32],
        threads: int,
    ) -> None: ...
