"""Benchmarks. They print medians and ratios within one run, and fail nothing: tests do that."""
