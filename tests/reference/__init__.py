"""docs/numerics.md in NumPy: what the runtime must answer, bit for bit."""
