"""The forms in which a graph is written as ONNX (fastcpu/export/onnx.py says what each is)."""

from __future__ import annotations

from typing import Literal, get_args

Form = Literal["fp32", "qdq", "matmulinteger"]
FORMS: tuple[Form, ...] = get_args(Form)
