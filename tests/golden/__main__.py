"""Write the golden models of this version of the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastcpu
from fastcpu.export.writer import write_model
from tests.reference import graphs
from tests.runtime.hostile import KINDS, seed_graph

for kind in (*KINDS, "ops"):
    directory = write_model(seed_graph(kind), Path(__file__).parent / f"tiny-v1-{kind}")
    feeds = graphs.batch(rows=4, length=19)
    answers = fastcpu.Session(directory, threads=1).run(feeds)
    np.savez_compressed(
        directory / "expected.npz",
        **{f"in.{name}": array for name, array in feeds.items()},  # type: ignore[arg-type]
        **{f"out.{name}": array for name, array in answers.items()},  # type: ignore[arg-type]
    )
