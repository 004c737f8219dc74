"""Benchmarks: medians and ratios within one run. They report; the tests decide."""
