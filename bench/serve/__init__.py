"""Benchmarks of serving: fastcpu's server and other embedding servers under the same traffic."""
