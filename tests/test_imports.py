"""Imports point inward; handler/ and index_sidecar/ know of each other only what goes over the wire."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .sidecar import ROOT

# Each module of the package and the modules of the package it may import, outermost first.
ALLOWED = {
    "__main__": {"__init__", "app", "content", "logs", "migrate", "settings"},
    "migrate": {"content", "index_url", "qdrant", "qdrant_index", "qdrant_store", "settings", "store"},
    "app": {
        *("body", "content", "faiss_index", "index_url", "previews", "qdrant", "qdrant_index", "qdrant_store"),
        *("query_cache", "recommend", "routes", "service", "settings", "store", "torchserve"),
    },
    "routes": {"__init__", "answers", "body", "content", "parameters", "ports", "service", "settings"},
    "parameters": {"content", "search"},
    "answers": {"content", "recommend", "recommender", "service"},
    "service": {"content", "ports", "previews", "query_cache", "recommender", "relevance", "search", "turns"},
    "recommender": {"content", "ports", "recommend", "relevance", "search"},
    "search": {"content"},
    "turns": set(),
    "recommend": {"content", "relevance"},
    "relevance": {"content"},
    "previews": {"content"},
    "query_cache": {"content"},
    "store": {"blocks", "content", "database"},
    "blocks": set(),
    "database": {"content"},
    "faiss_index": {"content", "disk", "exact_vectors", "index_builder", "index_loader", "ports", "shelf", "snapshots"},
    "index_loader": {"approximate_vectors", "content", "exact_vectors", "ports", "shelf", "snapshot", "snapshots"},
    "snapshots": {"approximate_vectors", "content", "disk", "index_builder", "shelf", "snapshot"},
    "index_builder": {"approximate_vectors", "content", "exact_vectors", "recall_gate", "shelf"},
    "recall_gate": {"approximate_vectors", "content", "exact_vectors"},
    "shelf": {"approximate_vectors", "content", "exact_vectors", "snapshot"},
    "snapshot": {"disk", "exact_vectors"},
    "approximate_vectors": {"content", "exact_vectors"},
    "exact_vectors": {"content"},
    "disk": {"content"},
    "qdrant_index": {"content", "qdrant"},
    "qdrant_store": {"content", "qdrant"},
    "qdrant": {"content"},
    "torchserve": {"content"},
    "body": {"content"},
    "ports": {"content"},
    "content": set(),
    "settings": {"index_url"},
    "index_url": set(),
    "logs": set(),
    "__init__": set(),
}
# Who alone may import these.
OWNERS = {
    "faiss": {"approximate_vectors", "exact_vectors", "index_builder"},
    "sqlite3": {"blocks", "database", "store"},
    "sklearn": {"recommend"},
    "PIL": {"previews"},
    "aiohttp": {"__main__", "answers", "app", "body", "parameters", "qdrant", "routes", "torchserve"},
}


def _imported(source: str) -> set[str]:
    """Absolute names as they are, relative ones with their leading dot; `from . import x` is `.x`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add("." * node.level + node.module)
        elif isinstance(node, ast.ImportFrom):
            names |= {"." * node.level + alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "index_sidecar").glob("*.py")), ids=lambda path: path.stem)
def test_imports_point_inward(path: Path) -> None:
    names = _imported(path.read_text())
    inner = {name[1:] if name[1:] in ALLOWED else "__init__" for name in names if name.startswith(".")}
    assert inner <= ALLOWED[path.stem]
    tops = {name.split(".")[0] for name in names if not name.startswith(".")}
    handler = {each.stem for each in (ROOT / "handler").glob("*.py")}
    assert not tops & ({"index_sidecar", "handler", "torch", "tests", "deploy"} | handler)
    assert {name for name in tops & set(OWNERS) if path.stem not in OWNERS[name]} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "handler").glob("*.py")), ids=lambda path: path.stem)
def test_the_handler_knows_nothing_of_the_sidecar(path: Path) -> None:
    tops = {name.lstrip(".").split(".")[0] for name in _imported(path.read_text())}
    assert not tops & {"index_sidecar", "aiohttp", "faiss", "sqlite3"}
