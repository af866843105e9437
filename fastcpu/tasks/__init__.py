"""Text in, results out: tokenization, inference and postprocessing, without torch."""
