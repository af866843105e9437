"""Tiny Hugging Face directories as ONNX files with their tokenizer beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from tests.frontend import tiny

_OUTPUTS = {"Model": ("last_hidden_state",), "ForQuestionAnswering": ("start_logits", "end_logits")}


def export(folder: Path, head: str, out: Path) -> Path:
    """The .onnx file of a directory, in `out` with its tokenizer."""
    import torch
    import transformers

    kind = getattr(transformers, f"AutoModel{head.removeprefix('Model')}")
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    names = ("input_ids", "attention_mask", "token_type_ids")[: 2 if model.config.model_type == "distilbert" else 3]
    outputs = _OUTPUTS.get(head, ("logits",))

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = self.model(**dict(zip(names, tensors, strict=True)), return_dict=True)
            return tuple(found[output] for output in outputs)

    out.mkdir()
    onnx.save(tiny.export(Exported(), names, outputs), str(out / "model.onnx"))
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(folder / name, out)
    return out / "model.onnx"
