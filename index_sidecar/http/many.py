"""Many contents in one call: the parts of a form come in one after the other, a line goes out as each is durable.

A part that is wrong costs only itself. Only so many of one call are held and under way (under_way.py): while they are,
the form is not read on, and TCP lets the sender know. Each part's memory and time are those of a body of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter
from typing import Any

import aiohttp
from aiohttp import web

from ..access.roles import Role
from ..archive.content import Original
from ..archive.errors import ContentError, InvalidInput, TooLarge, Unsupported
from ..archive.results import Added
from . import answers, failures
from .auth import ACCESS, acting_user, only_user_of, require
from .body import Arriving, go_on
from .exported import most_bytes, read_exported
from .form import PIECE_BYTES, check_part, copy, field, form_of, next_part
from .handlers import BODIES, SERVICE, wants_new
from .lines import AddedLine, FailedLine, Summary, SummaryLine
from .memory import Share
from .ndjson import Lines
from .parameters import ID, METADATA, OWNER, TYPE, Parameter
from .query import Query, pairs
from .under_way import UnderWay
from .unpacking import encoding_of

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 256
"""Contents of one call."""
PARAMETERS = "X-Content-Parameters"
_AT_ONCE = 32  # what fills the model's batches
_SAID = (ID, TYPE, OWNER, METADATA)
FIELDS = (OWNER, METADATA)
"""What a field of the form may say of the contents behind it."""
_MOST_PARTS = (1 + len(FIELDS)) * MOST_AT_ONCE
_HEADER_BYTES = 1 << 15  # of a part: metadata may be 12 KB when it is percent-encoded


async def add_contents(request: web.Request, query: Query) -> web.StreamResponse:
    """Store the parts of a form, each under its id, and answer a line of JSON for each as soon as it is durable."""
    only_new = wants_new(request)
    request.app[SERVICE].check_ready()
    if request.content_type != "multipart/form-data":
        raise Unsupported("send a form with a part for each content", "not_a_form")
    encoding_of(request)
    await go_on(request)
    return await _Many(request, only_new).answer()


class _Many:
    """One such call."""

    def __init__(self, request: web.Request, only_new: bool) -> None:
        self._request = request
        self._service = request.app[SERVICE]
        self._access = request.app[ACCESS]
        self._bodies = request.app[BODIES]
        self._only_new = only_new
        self._under_way = UnderWay(_AT_ONCE, self._bodies.most_bytes_of_many)
        self._fields: dict[str, bytes] = {}  # what holds for the contents behind it
        self._contents = 0
        self._became: Counter[str] = Counter()
        self._lines = Lines(request, self._bodies.idle_s)

    async def answer(self) -> web.StreamResponse:
        """Add all, and answer a line for each and one for all. Raises InvalidInput where there is no content at all."""
        form = form_of(self._request, _HEADER_BYTES)
        broken_at: ContentError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                broken_at = await self._read_all(form, tasks)
        except ExceptionGroup as group:  # of callers who have left
            raise group.exceptions[0] from None
        if not self._contents:
            raise broken_at or InvalidInput("the form has no contents: send each as a part", "invalid_body")
        counts = {each: self._became[each] for each in ("added", "replaced", "unchanged", "failed")}
        await self._lines.write(SummaryLine(Summary(**counts, complete=broken_at is None)))
        return await self._lines.end()

    async def _read_all(self, form: aiohttp.MultipartReader, tasks: asyncio.TaskGroup) -> ContentError | None:
        """Why the form cannot be read to its end: where the next part begins, nobody knows."""
        for number in itertools.count(1):
            await self._under_way.room()
            share = self._bodies.share()
            try:
                if not await self._read(form, number, share, tasks):
                    return None
            except ContentError as error:
                share.release()
                if self._contents:
                    await self._lines.write(self._failed(number, None, error))
                return error
        return None

    async def _read(self, form: aiohttp.MultipartReader, number: int, share: Share, tasks: asyncio.TaskGroup) -> bool:
        """Take the next part, and begin to add it; False at the end. Raises ContentError where the form ends here."""
        query = Query(_SAID)
        failure: ContentError | None = None
        async with share:
            part = await next_part(form)
            if part is None:
                return False
            if self._contents == MOST_AT_ONCE or number > _MOST_PARTS:
                raise TooLarge(f"the form holds more than {MOST_AT_ONCE} contents: send the others by another call")
            if (parameter := _field_of(part)) is not None:
                await self._keep(part, parameter)
                return True
            self._contents += 1
            try:
                original = await self._content(part, query, share)
            except ContentError as error:
                failure = error
                share.release()
                await _pass_over(part, share)
        if failure is not None:
            await self._lines.write(self._failed(number, query.get(ID), failure))
        else:
            self._under_way.begin(share)
            tasks.create_task(self._add(number, original, query, share, is_first=self._contents == 1))
        return True

    async def _keep(self, part: aiohttp.BodyPartReader, parameter: Parameter[Any]) -> None:
        """A field, which holds until another of its name. One that is wrong ends the form: others rely on it."""
        check_part(part)
        value = await field(part, parameter)
        Query(FIELDS).add(parameter.name, value)
        self._fields[parameter.name] = value

    async def _content(self, part: aiohttp.BodyPartReader, query: Query, share: Share) -> Original:
        if _is_exported(part):
            require(self._request, Role.ADMIN)
            return await self._arrived(part, most_bytes(self._bodies.limits["text"]), share)
        if PARAMETERS in part.headers:
            for name, value in pairs(part.headers[PARAMETERS]):
                query.add(name, value)
        else:
            query.add(TYPE.name, (part.name or "").encode("utf-8", "surrogateescape"))
            query.add(ID.name, (part.filename or "").encode("utf-8", "surrogateescape"))
        for parameter in FIELDS:
            if parameter not in query and parameter.name in self._fields:
                query.add(parameter.name, self._fields[parameter.name])
        query.check_complete()
        return await self._arrived(part, self._bodies.limits[query[TYPE]], share)

    async def _arrived(self, part: aiohttp.BodyPartReader, limit: int, share: Share) -> Original:
        check_part(part)
        arriving = Arriving(share, limit)
        await copy(part, arriving.write)
        return Original(arriving.buffer.getvalue(), arriving.sha256.digest(), lambda: self._under_way.release(share))

    async def _add(self, number: int, original: Original, query: Query, share: Share, is_first: bool) -> None:
        try:
            try:
                line = await self._added(number, original, query, is_first)
            finally:
                original.release()  # before the line, which may have to wait for its reader
            await self._lines.write(line)
        finally:
            self._under_way.end(share)

    async def _added(self, number: int, original: Original, query: Query, is_first: bool) -> AddedLine | FailedLine:
        started = time.perf_counter()
        try:
            if not is_first:  # which is counted as the call
                self._access.count_one_more(self._request)
            added = await (self._take_over(original) if TYPE not in query else self._add_content(original, query))
        except Exception as error:
            if not isinstance(error, ContentError):
                logger.exception("unexpected error")
            return self._failed(number, query.get(ID), error)
        self._became[added.status] += 1
        return AddedLine(number, answers.what_became(added, False, started))

    async def _add_content(self, original: Original, query: Query) -> Added:
        user = acting_user(self._request, query.get(OWNER))
        self._access.count_model(self._request, query[TYPE])
        return await self._service.add_content(
            original,
            query[ID],
            query[TYPE],
            user,
            only_user=only_user_of(self._request),
            only_new=self._only_new,
            metadata=query.get(METADATA),
        )

    async def _take_over(self, line: Original) -> Added:
        """A line of an export, whose vector is stored as it is."""
        return await self._service.takeover.take(*read_exported(line.data), self._only_new)

    def _failed(self, number: int, content_id: str | None, failure: Exception) -> FailedLine:
        self._became["failed"] += 1
        return FailedLine(number, content_id, failures.told(failure))


def _is_exported(part: aiohttp.BodyPartReader) -> bool:
    """Whether a part is a line of an export: the one name that is no type, and says nothing else of itself."""
    return part.name == "exported" and part.filename is None and PARAMETERS not in part.headers


def _field_of(part: aiohttp.BodyPartReader) -> Parameter[Any] | None:
    """What a part says of those behind it, where it is no content."""
    is_content = part.filename is not None or PARAMETERS in part.headers
    return None if is_content else Query(FIELDS).known(part.name)


async def _pass_over(part: aiohttp.BodyPartReader, share: Share) -> None:
    with contextlib.suppress(EOFError):
        while not part.at_eof():
            await part.read_chunk(PIECE_BYTES)
            share.take(0)  # it arrives, and takes its time
