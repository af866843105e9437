"""`infinity_emb` with a thread count, in a folder.

    python -m bench.serve.peers.infinity_server THREADS FOLDER ARGUMENT...

Infinity has no option for the threads of ONNX Runtime, which would take one per core of the machine.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def main() -> None:
    """Sets the threads of every session that is opened without options, then runs Infinity's own command line."""
    threads = int(sys.argv.pop(1))
    os.chdir(sys.argv.pop(1))
    import onnxruntime

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]  # the package has no types
        """A session with a thread count."""

        def __init__(self, path: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
            options = sess_options or onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            super().__init__(path, options, *args, **kwargs)

    onnxruntime.InferenceSession = Session
    import torch
    from torch.onnx._internal.torchscript_exporter import symbolic_opset14

    torch.set_num_threads(threads)
    # Where Optimum's exporters look for the private parts of it, which it needs to be imported; nothing is exported.
    sys.modules["torch.onnx.symbolic_opset14"] = symbolic_opset14
    from infinity_emb.cli import cli

    cli()


if __name__ == "__main__":
    main()
