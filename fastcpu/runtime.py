"""Running a compressed model: NumPy in, NumPy out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcpu import _core
from fastcpu.errors import InputError

Feed = ArrayLike | Sequence[NDArray[np.integer[Any]]]


@dataclass(frozen=True)
class InputSpec:
    """An input array: int8 to int64, uint8 to uint64 (a mask may also be bool), shape ``[batch, sequence]``."""

    name: str
    role: str
    optional: bool


@dataclass(frozen=True)
class OutputSpec:
    """An output array: float32; ``dims`` are symbolic names (``batch``, ``sequence``) or sizes."""

    name: str
    dims: tuple[str | int, ...]


def _names(names: object, argument: str) -> list[str]:
    if isinstance(names, Iterable) and not isinstance(names, (str, bytes)):
        listed = list(names)
        if all(isinstance(name, str) for name in listed):
            return listed
    raise InputError(f"{argument} must be a list of names, not {names!r}")


def _arrays(arrays: object, argument: str) -> dict[str, Any]:
    if not isinstance(arrays, Mapping):
        raise InputError(f"{argument} must be a mapping of names to arrays, not {type(arrays).__name__}")
    return dict(arrays)


class Session:
    """A model directory, opened and ready to run on this CPU.

    Args:
        path: the directory that ``fastcpu compile`` wrote.
        threads: threads per run, up to 1024; 0 takes all CPUs available to this process: its affinity mask, cut by the
            CPU quotas of its control groups.
        execution: how weights with 4x1 blocks are executed; the answers are the same bit for bit. ``"sparse"`` computes
            with the stored blocks alone, ``"dense"`` fills the gaps with zeros and uses the kernels of dense weights,
            ``"auto"`` leaves the choice to the runtime, which takes ``"sparse"``.
        keep: names of intermediate values that ``run_kept`` can return, or ``["*"]``.
        profile: measure the time of every op (``ops``).

    Any number of Python threads may call ``run`` on one session at the same time.

    Raises:
        fastcpu.errors.InputError: an argument is not one of these, or ``path`` is empty.
        fastcpu.errors.FileFormatError: the directory is damaged, hostile or of an unknown version.
        fastcpu.errors.GraphError: the graph is inconsistent or has an unknown op.
        fastcpu.errors.ResourceError: a file cannot be opened or read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int = 0,
        execution: Literal["auto", "dense", "sparse"] = "auto",
        keep: Sequence[str] = (),
        profile: bool = False,
    ) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            raise InputError(f"path must be that of a model directory, not {path!r:.60}")
        self._session = _core.Session(
            os.fspath(path), threads=threads, execution=execution, keep=_names(keep, "keep"), profile=bool(profile)
        )
        self.path = os.fsdecode(path)
        self.inputs = [InputSpec(name, role, optional) for name, role, optional in self._session.inputs]
        self.outputs = [
            OutputSpec(name, tuple(int(dim) if dim.isdecimal() else dim for dim in dims))
            for name, dims in self._session.outputs
        ]

    @property
    def threads(self) -> int:
        """Threads per run."""
        return self._session.threads

    @property
    def isa(self) -> str:
        """The instruction-set tier in use, e.g. ``avx512vnni``."""
        return self._session.isa

    def run(
        self,
        feeds: Mapping[str, Feed],
        out: Mapping[str, NDArray[np.float32]] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Run one batch.

        Args:
            feeds: input name to an integer array ``[batch, sequence]`` (with an attention mask of 0 and 1, holes and
                left padding included), or to a list of 1-D integer arrays, one per sequence, which takes no mask.
                Dtypes are int8 to int64 and uint8 to uint64, for a mask also bool; nothing else is converted.
            out: optional output arrays to write into, by name: float32, C-contiguous, of the right shape.
            outputs: names of the outputs to return, by default all. What only the others need is not computed.

        Returns:
            Output name to a float32 array. Padding is never computed: its rows are 0 in hidden states and -1e4 in
            logits per token. For ragged input the sequence axis has the length of the longest sequence.

        The position of a token is its column, padding included, as in transformers: a row padded on the left differs
        from the same sequence in a list. Models like RoBERTa count the tokens before it that are not the padding token
        instead. Pooling of the first token takes the first one with a mask of 1, where
        transformers takes column 0, which is padding in such a row.

        Raises:
            fastcpu.errors.InputError: a missing input, an unknown output, a wrong name, dtype, rank or shape, an empty
                batch, an id outside the vocabulary, a mask value that is neither 0 nor 1, a sequence longer than the
                model's positions, or not enough memory for the batch; the session stays usable.
        """
        return self._session.run(
            _arrays(feeds, "feeds"),
            None if out is None else _arrays(out, "out"),
            None if outputs is None else _names(outputs, "outputs"),
        )

    def run_kept(
        self, feeds: Mapping[str, Feed], names: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """Run one batch and also return kept values as float32 ``[tokens, channels]`` (codes of u8 values)."""
        return self._session.run_kept(_arrays(feeds, "feeds"), _names(names, "names"))

    def ops(self) -> list[dict[str, Any]]:
        """One dict per op, in the order of execution.

        - ``op``, ``name``: the runtime op and the node's name.
        - ``kernel``: the variant in use, e.g. ``spmm_u8s8_avx2``; empty where there is nothing to choose.
        - ``density``: stored weights / all weights, 1 for dense ones and for ops without weights.
        - ``macs_per_token``: multiply-accumulates with stored weights, per token (per sequence after pooling).
        - ``packed_bytes``: bytes of the weights as packed for this CPU.
        - ``read_bytes``: of these, what a run over a few tokens reads at least: a kernel may keep weights in two forms.
        - ``seconds``, ``macs``: time, summed over threads, and multiply-accumulates, those of attention included, of
          all runs since the session was opened or ``reset_profile``; 0 without ``profile=True``.
        """
        return self._session.ops()

    def reset_profile(self) -> None:
        """Start the ``seconds`` and ``macs`` of ``ops`` again from zero."""
        self._session.reset_profile()
