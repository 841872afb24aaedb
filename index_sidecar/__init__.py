"""The index sidecar: add_content and retrieve over HTTP, on TorchServe's CLIP vectors, Faiss and SQLite."""

import os

# Faiss's OpenMP reads this when it is loaded. By default its idle threads wait busily, each keeping a core from the
# event loop and from the very thread it waits for: with other work on the cores a search took up to ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
