"""The places where a module does not care which implementation it has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from .content import Content, ContentType, Embedding, Hit, IndexState, Page, Vector, VectorPage
from .filters import Filter, Selection
from .metadata import Metadata


class Embedder(Protocol):
    """Bytes of a content -> its vector."""

    def answers(self) -> bool:
        """Whether the last call got an answer of the model."""

    async def embed(self, data: bytes, content_type: ContentType, aside: Callable[[], None] | None = None) -> Embedding:
        """The unit vector of one text (UTF-8) or image file.

        `aside` is called, once, where reading the content takes long and the model goes on without it meanwhile.
        Raises InvalidInput (or a kind of it) when the content cannot be embedded, Unavailable when nothing can.
        """


class Previewer(Protocol):
    """Bytes of a content -> what lets a person recognise it."""

    async def make(self, data: bytes, content_type: ContentType) -> bytes | None:
        """A small WebP of an image, the start of a text in UTF-8; None when there is none, or none is wanted."""


@dataclass(frozen=True, slots=True)
class Written:
    """A write that is done: when this is returned, no read of the store finds what it took away any more.

    `gone` are the ids of what was deleted. The bytes of that, and of what was replaced, are overwritten in the
    background; `overwritten` is done when they are in no file, cancelled when the program ends before that or the
    engine does not tell, and None where there is nothing to overwrite. `key` is that of what was put, in a store that
    has keys.
    """

    gone: Sequence[str]
    overwritten: Future[None] | None = None
    key: int | None = None

    async def is_overwritten(self, within_s: float) -> bool:
        """False when that takes longer: it goes on all the same."""
        if self.overwritten is None:
            return True
        waiting = asyncio.wrap_future(self.overwritten)
        await asyncio.wait([waiting], timeout=within_s)
        return waiting.done() and not waiting.cancelled()


class Kept(Protocol):
    """An original that can be read; whoever got it closes it."""

    size: int

    async def read(self, start: int, size: int) -> bytes:
        """These bytes, or as many as there are. Raises NotFound once it is erased, StorageUnavailable."""

    def close(self) -> None:
        """Let go of it. Never waits."""


class Originals(Protocol):
    """The bytes of contents as they came, of those that a store was given with them. All raise StorageUnavailable."""

    async def lacks(self, content_id: str) -> bool:
        """Whether a content is stored without its original."""

    async def give(self, content: Content, original: bytes) -> None:
        """Have a stored content, as long as it has these bytes, its original; durable when it returns."""

    async def open(self, content_id: str) -> tuple[Content, Kept] | None:
        """A content and its original; None when there is no such content, or no original of it."""

    async def size_bytes(self) -> Mapping[ContentType, int]:
        """What they take on the disk, by type; empty where nobody knows."""


class Store(Protocol):
    """The durable truth: contents by id, with their vectors, all of one model.

    A write is durable when it returns: what that withstands, each implementation says. All raise StorageUnavailable,
    writes StorageFull where there is no room.
    """

    @property
    def originals(self) -> Originals:
        """The originals of its contents."""

    async def check(self) -> None:
        """Raises StorageUnavailable unless contents can be read now."""

    def erasures_due(self) -> int:
        """How many contents are erased for everybody who asks, but not yet overwritten."""

    def events(self) -> Mapping[str, int]:
        """What it did since the start, by name; for whoever watches it."""

    async def fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while nothing was ever stored."""

    async def check_model(self, fingerprint: str) -> None:
        """Raises ModelMismatch unless vectors of this model may be compared with the stored ones."""

    async def put(self, content: Content, preview: bytes | None = None, original: bytes | None = None) -> Written:
        """Store a content, its preview and its original, replacing what its id held, which is gone.

        Raises ModelMismatch.
        """

    async def set_metadata(self, content_id: str, metadata: Metadata) -> Written | None:
        """Replace the metadata of a content, and nothing else of it; None when there is no such content."""

    async def delete(self, content_id: str) -> Written:
        """Erase a content, if there is one."""

    async def delete_many(self, ids: Sequence[str], user: str | None = None) -> Written:
        """Erase some contents, at most 1,000; with `user`, only those that are this user's at that moment.

        With a user and no ids it is told that all of this user's are about to be erased, also from its backups.
        """

    async def get(self, content_id: str) -> Content | None:
        """The content stored under an id."""

    async def get_many(self, ids: Sequence[str]) -> list[Content]:
        """The contents stored under some ids, always in the same order."""

    async def preview(self, content_id: str) -> tuple[Content, bytes] | None:
        """A content and its preview; None when there is no such content, or no preview of it."""

    async def same_bytes(self, sha256: bytes, content_type: ContentType) -> list[Content]:
        """Contents of these bytes, oldest first; at most 100."""

    async def history(self, user: str, content_type: ContentType, limit: int) -> list[Content]:
        """The user's newest contents of a type, newest first."""

    async def sample(self, content_type: ContentType, limit: int) -> list[Content]:
        """A deterministic uniform sample: one content of each of the smallest SHA-256 of a type."""

    async def select(self, filter: Filter) -> Selection:
        """What an index needs to search only among what passes a filter now."""

    async def page(
        self,
        user: str | None,
        content_type: ContentType | None,
        limit: int,
        after: str | None,
        filter: Filter | None = None,
        newest: bool = False,
    ) -> Page:
        """Up to `limit` entries, of one user or type or of what passes a filter if said, from the cursor `after` on.

        Those that were added first come first, or last with `newest`. Raises InvalidInput.

        Following `next` from page to page names each content once that is there all the time.
        """

    async def count(self) -> int:
        """How many contents are stored."""

    async def close(self) -> None:
        """Finish the writes under way and let go of everything."""


class VectorSource(Protocol):
    """Where an index that lives in this process gets its contents back from: the store."""

    async def fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while nothing was ever stored."""

    def size(self, content_type: ContentType) -> int:
        """How many contents of a type there are; for a thread, not for the event loop."""

    def pages(self, content_type: ContentType, batch: int) -> Iterator[VectorPage]:
        """The contents of a type, `batch` at a time as they are then; for a thread, not the event loop.

        What stays the same meanwhile comes once; what is deleted and added again can come twice.
        """


class Archive(Protocol):
    """A store that is copied as a whole to another one."""

    def scan(self, batch: int) -> Iterator[list[Content]]:
        """All contents, `batch` at a time; for a thread, not for the event loop."""

    @property
    def originals(self) -> Originals:
        """The originals of its contents."""

    async def preview(self, content_id: str) -> tuple[Content, bytes] | None:
        """A content and its preview; None when there is no such content, or no preview of it."""

    async def count(self) -> int:
        """How many contents are stored."""


class VectorIndex(Protocol):
    """Vectors by content id, searched by cosine similarity. Calls take effect in the order they are made."""

    @property
    def intact(self) -> bool:
        """Whether it holds what it was told; if not, all calls raise NotReady until it is filled from the store."""

    async def upsert(self, contents: Sequence[Content]) -> None:
        """Put contents in, each replacing what its id held before, also of the other type and earlier in `contents`."""

    async def delete(self, ids: Sequence[str]) -> None:
        """Take contents out, however many, while searches go on; ids that are not there do not matter."""

    async def search(
        self,
        query: Vector,
        k: int,
        content_type: ContentType,
        without_user: str | None,
        among: Selection | None = None,
    ) -> list[Hit]:
        """The k most similar contents of one type that are not `without_user`'s, best first, ties by id.

        With `among`, only of those that its store selected.

        Exactly those, or, where the state's kind is approximate, as many of them as its recall says. Scores are rounded
        to 1e-6 before they are ranked.
        """

    async def count(self, content_type: ContentType) -> int:
        """How many contents of one type are in."""

    async def state(self, content_type: ContentType) -> IndexState:
        """How the contents of one type are searched at the moment."""

    def events(self) -> Mapping[str, int]:
        """What it did since the start, by name; for whoever watches it."""


class DerivedIndex(VectorIndex, Protocol):
    """An index in this process: empty at first, filled from the store at each start and whenever it is not intact."""

    async def load(self, source: VectorSource) -> None:
        """Empty it, fill it with all that `source` holds, and keep it in shape from then on.

        Raises StoreError when the source can never be read.
        """
