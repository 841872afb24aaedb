"""Packages point inward; handler/ and index_sidecar/ know of each other only what goes over the wire."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .support.sidecar import ROOT

# Each package of the sidecar ("" is its root) and those it may import from.
ALLOWED = {
    "": {"", "access", "archive", "embedding", "http", "qdrant", "sqlite", "telemetry", "vectors"},
    "access": {"access", "archive"},
    "http": {"", "access", "archive", "http", "telemetry"},
    "archive": {"archive"},
    "embedding": {"archive", "embedding"},
    "qdrant": {"archive", "qdrant"},
    "sqlite": {"archive", "sqlite"},
    "telemetry": {"archive", "telemetry"},
    "vectors": {"archive", "vectors"},
}
# Who alone may import these.
OWNERS = {
    "faiss": {"vectors"},
    "sqlite3": {"sqlite"},
    "sklearn": {"archive"},
    "PIL": {"embedding"},
    "pillow_heif": {"embedding"},
    "opentelemetry": {"telemetry"},
    "prometheus_client": {"http", "telemetry"},
    "aiohttp": {"", "embedding", "http", "qdrant"},
}
SIDECAR = ROOT / "index_sidecar"
MODULES = sorted(SIDECAR.rglob("*.py"))


def _imported(source: str, package: tuple[str, ...]) -> set[str]:
    """Absolute dotted names of all that a module of `package` imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            path = ".".join([*base, *([node.module] if node.module else [])])
            names |= {path} if node.module else {f"{path}.{alias.name}" for alias in node.names}
    return names


def _room(path: Path) -> str:
    return path.parent.name if path.parent != SIDECAR else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SIDECAR)))
def test_packages_import_inward(path: Path) -> None:
    room = _room(path)
    package = ("index_sidecar", room) if room else ("index_sidecar",)
    names = _imported(path.read_text(), package)
    ours = [name.split(".") for name in names if name.startswith("index_sidecar")]
    rooms = {parts[1] if len(parts) > 1 and (SIDECAR / parts[1]).is_dir() else "" for parts in ours}
    assert rooms <= ALLOWED[room]
    tops = {name.split(".")[0] for name in names}
    handler = {each.stem for each in (ROOT / "handler").glob("*.py")}
    assert not tops & ({"handler", "torch", "tests", "deploy", "clip_archive"} | handler)
    assert {top for top in tops & set(OWNERS) if room not in OWNERS[top]} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "handler").glob("*.py")), ids=lambda path: path.stem)
def test_the_handler_knows_nothing_of_the_sidecar(path: Path) -> None:
    tops = {name.split(".")[0] for name in _imported(path.read_text(), ("handler",))}
    assert not tops & {"index_sidecar", "aiohttp", "faiss", "sqlite3"}


@pytest.mark.parametrize(
    ("package", "files"), [("index_sidecar", ("sidecar", "otel")), ("clip_archive", ("client", "sidecar"))]
)
def test_what_is_imported_is_asked_for(package: str, files: tuple[str, ...]) -> None:
    """A container and a wheel's user have what the package asks for, and nothing that the tests brought along."""
    lines = [line for file in files for line in (ROOT / f"deploy/requirements/{file}.in").read_text().splitlines()]
    asked = {canonicalize_name(Requirement(line).name) for line in lines if line and line[0] != "#"}
    tops = {
        name.split(".")[0]
        for path in (ROOT / package).rglob("*.py")
        for name in _imported(path.read_text(), (package, *path.parent.relative_to(ROOT / package).parts))
    }
    brought = packages_distributions()
    foreign = tops - sys.stdlib_module_names - {package, "index_sidecar", "clip_archive", "__future__"}
    assert {top for top in foreign if not asked & {canonicalize_name(each) for each in brought.get(top, ())}} == set()
