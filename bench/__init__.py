"""Benchmarks: each a command that prints what it measured beside what it is compared with, in one run, as ratios."""
