"""Benchmarks of fastcpu and of the engines it is compared with.

`bench.compare` measures whole models, one process per engine; `bench.models` makes the models it measures.
"""
