"""The index sidecar: add_content and retrieve over HTTP, on TorchServe's CLIP vectors, Faiss and SQLite."""

__version__ = "0.1.0"
