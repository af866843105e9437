"""Writes the golden models of this release: python -m tests.golden. README.md says when."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastcpu
from fastcpu.export.writer import FORMAT_VERSION, write_model
from tests.reference import executor, graphs
from tests.runtime.hostile import KINDS, seed_graph


def write_golden_models(folder: Path) -> list[Path]:
    """Writes a directory per kind of model; FileExistsError, and nothing written, if any of them is there."""
    kinds = {kind: folder / f"tiny-v{FORMAT_VERSION}-{fastcpu.__version__}-{kind}" for kind in (*KINDS, "ops")}
    for directory in kinds.values():
        if directory.exists():
            raise FileExistsError(f"{directory} is there; golden models are evidence and never written again")
    feeds = graphs.batch(rows=4, length=19)
    for kind, directory in kinds.items():
        graph = seed_graph(kind)
        answers = executor.run(graph, feeds)  # the specification, not whatever the runtime of the day answers
        write_model(graph, directory)
        np.savez_compressed(
            directory / "expected.npz",
            **{f"in.{name}": array for name, array in feeds.items()},  # type: ignore[arg-type]
            **{f"out.{name}": array for name, array in answers.items()},  # type: ignore[arg-type]
        )
    return list(kinds.values())


if __name__ == "__main__":
    for written in write_golden_models(Path(__file__).parent):
        print(written)
