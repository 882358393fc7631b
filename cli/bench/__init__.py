"""Benchmarks: each prints percentiles and the ratio against a named peer measured in the same run."""
