"""Benchmarks: each prints a table with ratios against a floor or a peer of the same run."""
