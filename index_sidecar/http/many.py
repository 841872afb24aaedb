"""Many contents in one call: the parts of a form come in one after the other, a line goes out as each is durable.

A part that is wrong costs only itself. At most `_AT_ONCE` of one call are held and under way: while they are, the form
is not read on, and TCP lets the sender know. Each part's memory and time are those of a body of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Struct

from ..archive.content import Original
from ..archive.errors import ContentError, InvalidInput, TooLarge, Unsupported
from ..archive.service import ContentService
from . import answers, failures
from .auth import ACCESS, acting_user, only_user_of
from .body import BROKEN, Arriving, Bodies, go_on
from .guard import say_to_browsers
from .handlers import BODIES, SERVICE, wants_new
from .lines import AddedLine, FailedLine, Summary, SummaryLine
from .memory import Share
from .parameters import ID, OWNER, TYPE
from .query import Query, pairs
from .unpacking import broken, encoding_of

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 256
"""Contents of one call."""
PARAMETERS = "X-Content-Parameters"
NDJSON = "application/x-ndjson"
_AT_ONCE = 32  # what fills the model's batches
_PIECE_BYTES = 1 << 16
_WRITE_S = 30.0  # for a caller who sends and does not read


async def add_contents(request: web.Request, query: Query) -> web.StreamResponse:
    """Store the parts of a form, each under its id, and answer a line of JSON for each as soon as it is durable."""
    only_new = wants_new(request)
    request.app[SERVICE].check_ready()
    if request.content_type != "multipart/form-data":
        raise Unsupported("send a form with a part for each content", "not_a_form")
    if encoding_of(request) != "identity":
        raise Unsupported("a form must not be compressed as a whole", "unsupported_encoding")
    await go_on(request)
    return await _Many(request, request.app[SERVICE], request.app[BODIES], only_new).answer()


class _Many:
    """One such call."""

    def __init__(self, request: web.Request, service: ContentService, bodies: Bodies, only_new: bool) -> None:
        self._request = request
        self._service = service
        self._bodies = bodies
        self._only_new = only_new
        self._access = request.app[ACCESS]
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._became: Counter[str] = Counter()
        self._writing = asyncio.Lock()
        self._response = web.StreamResponse(headers={"Content-Type": NDJSON})

    async def answer(self) -> web.StreamResponse:
        """Add all, and answer a line for each and one for all. Raises InvalidInput where there is no content at all."""
        try:
            form = await self._request.multipart()
        except BROKEN as error:
            raise broken() from error
        broken_at: ContentError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                broken_at = await self._read_all(form, tasks)
        except ExceptionGroup as group:  # of callers who have left
            raise group.exceptions[0] from None
        if broken_at is not None and not self._became:
            raise broken_at
        if not self._became:
            raise InvalidInput("the form has no parts: send each content as one", "invalid_body")
        counts = {each: self._became[each] for each in ("added", "replaced", "unchanged", "failed")}
        await self._write(SummaryLine(Summary(**counts, complete=broken_at is None)))
        await self._response.write_eof()
        return self._response

    async def _read_all(self, form: aiohttp.MultipartReader, tasks: asyncio.TaskGroup) -> ContentError | None:
        """Why the form cannot be read to its end: where the next part begins, nobody knows."""
        for number in range(1, MOST_AT_ONCE + 2):
            await self._free.acquire()
            share = self._bodies.share()
            try:
                if not await self._read(form, number, share, tasks):
                    return None
            except ContentError as error:
                share.release()
                if number > 1:
                    await self._failed(number, None, error)
                return error
        return None

    async def _read(self, form: aiohttp.MultipartReader, number: int, share: Share, tasks: asyncio.TaskGroup) -> bool:
        """Take the next part, and begin to add it; False at the end. Raises ContentError where the form is broken."""
        query = Query((ID, TYPE, OWNER))
        failure: ContentError | None = None
        original: Original | None = None
        try:
            async with share:
                part = await form.next()
                if part is None:
                    return False
                if number > MOST_AT_ONCE:
                    raise TooLarge(f"the form holds more than {MOST_AT_ONCE} contents: send the others by another call")
                if not isinstance(part, aiohttp.BodyPartReader):
                    raise InvalidInput("the form holds another form", "invalid_body")
                try:
                    original = await self._content(part, query, share)
                except ContentError as error:
                    failure = error
                    await _pass_over(part, share)
        except BROKEN as error:
            raise broken() from error
        if failure is not None or original is None:
            share.release()
            await self._failed(number, query.get(ID), failure or broken())
            self._free.release()
        else:
            tasks.create_task(self._add(number, original, query, share))
        return True

    async def _content(self, part: aiohttp.BodyPartReader, query: Query, share: Share) -> Original:
        if PARAMETERS in part.headers:
            for name, value in pairs(part.headers[PARAMETERS]):
                query.add(name, value)
        else:
            query.add(TYPE.name, (part.name or "").encode("utf-8", "surrogateescape"))
            query.add(ID.name, (part.filename or "").encode("utf-8", "surrogateescape"))
        query.check_complete()
        if {"Content-Encoding", "Content-Transfer-Encoding"} & {name.title() for name in part.headers}:
            raise Unsupported("a part of the form is encoded: send it as it is", "unsupported_encoding")
        arriving = Arriving(share, self._bodies.limits[query[TYPE]])
        while not part.at_eof():
            arriving.write(await part.read_chunk(_PIECE_BYTES))
        return Original(arriving.buffer.getvalue(), arriving.sha256.digest(), share.release)

    async def _add(self, number: int, original: Original, query: Query, share: Share) -> None:
        started = time.perf_counter()
        try:
            user = acting_user(self._request, query.get(OWNER))
            if number > 1:
                await self._access.count_one_more(self._request)
            await self._access.count_model(self._request, query[TYPE])
            added = await self._service.add_content(
                original, query[ID], query[TYPE], user, None, only_user_of(self._request), self._only_new
            )
        except ContentError as error:
            await self._failed(number, query[ID], error)
        except Exception as error:
            logger.exception("unexpected error")
            await self._failed(number, query[ID], error)
        else:
            self._became[added.status] += 1
            await self._write(AddedLine(number, answers.what_became(added, False, started)))
        finally:
            share.release()
            self._free.release()

    async def _failed(self, number: int, content_id: str | None, failure: Exception) -> None:
        self._became["failed"] += 1
        await self._write(FailedLine(number, content_id, failures.told(failure)))

    async def _write(self, line: Struct) -> None:
        """The head goes out with the first line. Raises ConnectionResetError where the caller reads nothing."""
        async with self._writing:
            try:
                async with asyncio.timeout(_WRITE_S):
                    if not self._response.prepared:
                        answers.name_request(self._response)
                        say_to_browsers(self._request, self._response)
                        await self._response.prepare(self._request)
                    await self._response.write(msgspec.json.encode(line) + b"\n")
            except TimeoutError:
                raise ConnectionResetError("the caller does not read the answer") from None


async def _pass_over(part: aiohttp.BodyPartReader, share: Share) -> None:
    share.release()
    with contextlib.suppress(EOFError):
        while not part.at_eof():
            await part.read_chunk(_PIECE_BYTES)
            share.take(0)  # it arrives, and takes its time
