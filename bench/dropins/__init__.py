"""Drop-ins against ONNX Runtime int8 through the same pipelines: text in, results out."""
