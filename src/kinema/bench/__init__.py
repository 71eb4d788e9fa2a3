"""Benchmarks: every figure, its peer and the physical floor are measured in the same run, interleaved."""
