"""Contents that come with their vectors, as an export has them: the model is not asked."""

from __future__ import annotations

from collections.abc import Callable

from .content import Content
from .errors import EmbedderUnavailable, InvalidInput, Taken
from .metadata import write_metadata
from .model import Model
from .originals import Keeping
from .ports import Store, Written
from .results import Added
from .writes import Writes


class Takeover:
    """Stores what another archive had computed, where that was with the same model."""

    def __init__(
        self,
        store: Store,
        writes: Writes,
        model: Model,
        check_ready: Callable[[], None],
        erase_wait_s: float,
        originals: Keeping,
    ) -> None:
        self._store = store
        self._writes = writes
        self._model = model
        self._check_ready = check_ready
        self._erase_wait_s = erase_wait_s
        self._originals = originals

    async def take(self, content: Content, preview: bytes | None, original: bytes | None, only_new: bool) -> Added:
        """Store a content as it is, its age included: durable and found when this returns.

        Raises InvalidInput for another model's vector, Taken as `add_content`, Unavailable.
        """
        self._check_ready()
        await self._check_model(content.embedding.fingerprint)
        kept = self._originals.of(original, content.type)
        async with self._writes.turns.of(content.id):
            before = await self._store.get(content.id)
            if before is not None and only_new:
                raise Taken("this id holds a content already")
            same_bytes = await self._store.same_bytes(content.sha256, content.type)
            duplicate_of = [other.id for other in same_bytes if other.id != content.id]
            if before is not None and _all(before) == _all(content):
                await self._writes.make_sure(before, kept)
                return Added("unchanged", before, duplicate_of, [], overwritten=True)
            written: Written = await self._writes.put(content, preview, kept)
        status = await written.is_overwritten(self._erase_wait_s)
        return Added("added" if before is None else "replaced", content, duplicate_of, [], status)

    async def _check_model(self, fingerprint: str) -> None:
        ours = await self._model.fingerprint()
        if ours is None:
            raise EmbedderUnavailable("which model this archive is for is not known before its model has answered once")
        if ours != fingerprint:
            raise InvalidInput(
                f"the vector is of the model {fingerprint!a}, this archive's are of {ours}: send the content itself",
                "other_model",
            )


def _all(content: Content) -> tuple[object, ...]:
    embedding = content.embedding
    head = (content.type, content.user, content.sha256, content.created, write_metadata(content.metadata))
    return (*head, embedding.fingerprint, embedding.truncated, embedding.vector.tobytes())
