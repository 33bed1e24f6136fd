"""Benchmarks: ratios of interleaved cases, measured in one process."""
