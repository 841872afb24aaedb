"""What the archive is made of. Pure: no HTTP, no Faiss, no SQLite, no Qdrant."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .metadata import Metadata

DIMENSION = 512
MAX_ID_LENGTH = 256
MAX_K = 1000
PREVIEW_CHARACTERS = 500

ContentType = Literal["text", "image"]
CONTENT_TYPES: tuple[ContentType, ...] = get_args(ContentType)
Target = Literal["any", "text", "image", "each"]
TARGETS: tuple[Target, ...] = get_args(Target)
Rank = Literal["score", "relevance"]
RANKS: tuple[Rank, ...] = get_args(Rank)
Vector = npt.NDArray[np.float32]

# Controls, line and paragraph separators, surrogates; and what turns the text around it, so that one id looks like
# another. Every other space and joiner is in file names of everyday.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Embedding:
    """A (512,) float32 vector of unit length, the model it is of, and whether the text was cut for it."""

    vector: Vector
    fingerprint: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """One entry of the archive under its caller-given id; `sha256` is of the bytes, `created` in Unix seconds."""

    id: str
    type: ContentType
    user: str | None
    sha256: bytes
    created: float
    embedding: Embedding = field(repr=False)
    metadata: Metadata = field(default_factory=dict)
    key: int | None = field(default=None, compare=False)
    """Its number in the store, by which a selection names it; None before it is stored, or where there is none."""

    @property
    def entry(self) -> Entry:
        """The same without the vector."""
        return Entry(self.id, self.type, self.user, self.sha256, self.created, self.embedding.truncated, self.metadata)


@dataclass(frozen=True, slots=True)
class Entry:
    """A content as a listing names it: without its vector, which is most of it."""

    id: str
    type: ContentType
    user: str | None
    sha256: bytes
    created: float
    truncated: bool
    metadata: Metadata = field(default_factory=dict)


class VectorPage(NamedTuple):
    """What an index holds of some stored contents, by column; `vectors` is (len(ids), 512) float32."""

    keys: Sequence[int]
    ids: Sequence[str]
    users: Sequence[str | None]
    sha256s: Sequence[bytes]
    vectors: Vector


@dataclass(frozen=True, slots=True)
class Duplicates:
    """How many of the hits that were looked at went under a better one, and which: the best 100 of them, best first."""

    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search; `score` is the cosine similarity to the query, as exact as the index keeps vectors.

    It is rounded to 1e-6, so that equal contents score alike and a content scores 1 for itself.

    `relevance` is as in relevance.py. `created` is there where hits are ordered by it, `duplicates` where copies are
    folded and there are any, `metadata` where it was asked for.
    """

    id: str
    type: ContentType
    user: str | None
    score: float
    relevance: float | None = None
    created: float | None = None
    duplicates: Duplicates | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries of a longer list; `next` is the cursor to the following ones, None at the end."""

    contents: list[Entry]
    next: str | None


@dataclass(frozen=True, slots=True)
class IndexState:
    """How the contents of one type are searched at the moment; what does not apply is None.

    `recall` is the measured recall@10 by direction, as in {"text->image": 0.96}; `build` the part done, 0 to 1, of an
    approximate index that is being built; `snapshot` tells whether a restart finds what that build learned in a file.
    """

    kind: Literal["exact", "approximate"]
    size: int
    memory_bytes: int | None
    nprobe: int | None = None
    recall: dict[str, float] | None = None
    build: float | None = None
    snapshot: Literal["none", "writing", "written"] = "none"


class Original:
    """The bytes of a content or a query as they came, and their SHA-256.

    Whoever needs `data` no more says `release`: it may be many megabytes, of which there is a budget.
    """

    def __init__(self, data: bytes, sha256: bytes | None = None, released: Callable[[], None] | None = None) -> None:
        self.data = data
        self.sha256 = sha256 or digest(data)
        self._released = released

    def release(self) -> None:
        """Forget the bytes, and let whoever counts them know."""
        self.data = b""
        if self._released is not None:
            self._released()


def preview_of_text(data: bytes) -> bytes:
    """The first 500 characters, in UTF-8; of a text that begins so, its first 2,000 bytes are enough."""
    return data[: 4 * PREVIEW_CHARACTERS].decode("utf-8", "ignore")[:PREVIEW_CHARACTERS].encode()


def digest(data: bytes) -> bytes:
    """The 32-byte SHA-256 that tells whether two contents are the same bytes."""
    return hashlib.sha256(data).digest()


def ranked(hits: list[Hit], k: int) -> list[Hit]:
    """The k best hits by score; equal ones in the order of their ids, so that answers are stable."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]


def check_id(value: str, name: str = "id") -> str:
    """A caller-given id or user, as file systems have names: 1 to 256 characters, of which none ends a line.

    Raises InvalidInput.
    """
    if not 1 <= len(value) <= MAX_ID_LENGTH or _UNFIT.search(value):
        reason = f"must be 1 to {MAX_ID_LENGTH} characters, without line breaks, control characters or bidi overrides"
        raise InvalidInput(f"{name} {reason}", f"invalid_{name}")
    if value in (".", ".."):
        raise InvalidInput(f"{name} may not be '.' or '..': no URL path can name it", f"invalid_{name}")
    return value
