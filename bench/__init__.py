"""Benchmarks: each a command that prints what it measured beside what it is compared with, in one run, as ratios."""

import index_sidecar  # noqa: F401  (says how OpenMP waits, before anything loads Faiss)
