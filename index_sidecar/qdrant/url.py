"""What INDEX_URL says: this machine's own store and index, or a Qdrant cluster. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_EXAMPLE = "qdrant://HOST[:PORT][,HOST[:PORT]...][/COLLECTION], or qdrants:// for TLS"
_DEFAULT_PORT = 6333
_DEFAULT_COLLECTION = "contents"


@dataclass(frozen=True, slots=True)
class QdrantUrl:
    """The nodes of a cluster, as `http(s)://host:port`, and the collection that holds the contents."""

    nodes: tuple[str, ...]
    collection: str


def qdrant_url(value: str) -> QdrantUrl:
    """Read qdrant://HOST[:PORT][,...][/COLLECTION], qdrants:// for TLS. Raises ValueError, which repeats no secret."""
    found = re.fullmatch(r"(qdrants?)://([^/?#]*)(?:/([A-Za-z0-9_-]{1,64})?)?", value)
    if "@" in value:
        raise ValueError("must not hold a key: it belongs into QDRANT_API_KEY_FILE")
    if found is None:
        raise ValueError(f"must be {_EXAMPLE}")
    scheme, hosts, collection = found.groups()
    secure = scheme == "qdrants"
    nodes = tuple(_node(host, secure) for host in hosts.split(","))
    return QdrantUrl(nodes, collection or _DEFAULT_COLLECTION)


def _node(host: str, secure: bool) -> str:
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:  # a port or an IPv6 address that is none
        name = None
    if not name or not re.fullmatch(r"[A-Za-z0-9._:-]+", name):
        raise ValueError(f"has a node that is none, {host!r}: must be {_EXAMPLE}")
    return f"{'https' if secure else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"
