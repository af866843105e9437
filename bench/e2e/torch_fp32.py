"""PyTorch in fp32, with its fused attention: eager, and compiled by torch.compile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from bench.e2e.protocol import Answers, Engine, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from bench.inputs import Feeds, Shape
    from bench.models import PreparedModel


class TorchFp32(Engine):
    """The Hugging Face model itself, in inference mode."""

    name: ClassVar[str] = "torch_fp32"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    precision: Precision = "fp32"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:  # noqa: ARG002  (nothing to make)
        """Remembers the directory."""
        self._directory = model.hf
        self._outputs = model.outputs

    def load(self, threads: int) -> None:
        """Loads the class that the configuration names."""
        import torch
        import transformers

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        architecture = json.loads((self._directory / "config.json").read_text())["architectures"][0]
        kind = getattr(transformers, architecture)
        self._model = kind.from_pretrained(self._directory, attn_implementation="sdpa", local_files_only=True).eval()
        self._compiled: dict[Shape, Any] = {}
        self._threads = threads

    def variants(self, shape: Shape) -> tuple[str, ...]:  # noqa: ARG002  (the same at every shape)
        """As it is, and compiled for the shape."""
        return ("eager", "compiled")

    def use(self, variant: str, shape: Shape) -> None:
        """Runs that variant from now on; it is compiled in the first run."""
        import torch

        if variant == "eager":
            self._call = self._model
            return
        if shape not in self._compiled:
            torch._dynamo.reset()
            self._compiled[shape] = torch.compile(self._model, dynamic=False)
        self._call = self._compiled[shape]

    def run(self, feeds: Feeds) -> Answers:
        """Runs the model."""
        import torch

        with torch.inference_mode():
            answers = self._call(**{name: torch.from_numpy(value) for name, value in feeds.items()})
        return {name: answers[name].numpy() for name in self._outputs}

    def info(self) -> dict[str, Any]:
        """Threads."""
        return {"threads": self._threads, "attention": "sdpa"}
