"""The archive as a Python object, whose methods wait for their answers."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2
import stamina

from . import calls, questions
from .address import address
from .answers import AddAnswer, ContentType
from .contents import Exported, Item
from .contract import Contract, explained, may_be_versions
from .errors import ArchiveError, Failure, PartlyFailed
from .exporting import Export
from .lines import ExportedContent
from .many import Sending, some_at_a_time
from .questions import Filter
from .retries import Patience, retrying
from .transport import client_options, failed, reply_of
from .wire import Call, Lines, Reply, error_in, is_answer, read_reply

P = ParamSpec("P")
T = TypeVar("T")


def _method(describe: Callable[P, Call[T]]) -> Callable[Concatenate[Archive, P], T]:
    """A method that sends what `describe` makes."""

    @functools.wraps(describe)
    def method(self: Archive, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(describe(*args, **kwargs))

    return method


class Archive:
    """A client of one archive, for threads: calls may be made from several at once.

    `url` is the archive's address, a path below a host included, CLIP_ARCHIVE_URL when not said, else this machine's.
    `key` is an API key, CLIP_ARCHIVE_KEY when not said. What fails and may succeed later is tried again, as `patience`
    has it: after as long as Retry-After says, a write only where doing it twice does no harm. Raises ValueError for an
    address or a key that cannot be one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        patience: Patience | None = None,
        connections: int = 64,
    ) -> None:
        self.address = address(url, key)
        self.patience = patience or Patience()
        self._client = httpx2.Client(**client_options(self.address, self.patience, connections))
        self._contract: Contract | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, call: Call[T]) -> T:
        """The answer of a call, after as many tries as it takes. Raises ArchiveError."""
        try:
            for attempt in stamina.retry_context(**retrying(self.patience, call.repeatable)):
                with attempt:
                    return read_reply(call, self._once(call))
        except ArchiveError as error:
            raise self._explained(error, call) from None
        raise AssertionError

    def _once(self, call: Call[Any]) -> Reply:
        url = self.address.to(call.path, call.query)
        try:
            response = self._client.request(call.method, url, content=call.body, headers=dict(call.headers))
        except httpx2.HTTPError as error:
            raise failed(error, self.address) from error
        return reply_of(response, response.content)

    def _explained(self, error: ArchiveError, call: Call[Any]) -> ArchiveError:
        if not may_be_versions(error):
            return error
        if self._contract is None:
            try:
                asked = calls.contract()
                self._contract = read_reply(asked, self._once(asked))
            except ArchiveError:
                return error
        return explained(error, call, self._contract)

    add_content = _method(calls.add_content)
    retrieve = _method(questions.retrieve)
    retrieve_each = _method(questions.retrieve_each)
    search = _method(questions.search)
    search_each = _method(questions.search_each)
    recommend = _method(questions.recommend)
    recommend_each = _method(questions.recommend_each)
    get_content = _method(calls.get_content)
    get_contents = _method(calls.get_contents)
    get_similar = _method(questions.get_similar)
    get_similar_each = _method(questions.get_similar_each)
    get_preview = _method(calls.get_preview)
    get_original = _method(calls.get_original)
    patch_content = _method(calls.patch_content)
    delete_content = _method(calls.delete_content)
    delete_user = _method(calls.delete_user)
    caller = _method(calls.caller)
    index = _method(calls.index)
    health = _method(calls.health)
    livez = _method(calls.livez)
    ready = _method(calls.ready)
    contract = _method(calls.contract)

    def add_contents(self, items: Iterable[Item | Exported], *, only_new: bool = False) -> list[AddAnswer]:
        """Add many contents, some dozens a call: what became of each, in their order.

        What failed and may succeed later is sent again, and nothing else is. Raises PartlyFailed where some were not
        added: it says which and why, and what became of the others.
        """
        answers: list[AddAnswer] = []
        failures: list[Failure] = []
        for some in some_at_a_time(items):
            sending = Sending(some, only_new)
            try:
                for attempt in stamina.retry_context(**retrying(self.patience, True)):
                    with attempt:
                        self.send_many(sending)
                        sending.check()
            except ArchiveError as error:
                sending.give_up(error)
            answers += sending.answers
            failures += sending.failures
        if failures:
            raise PartlyFailed(answers, failures)
        return answers

    def send_many(self, sending: Sending) -> None:
        """Send what is left of some contents in one call, and take what is answered. Raises ArchiveError."""
        try:
            for line in self._lines(sending.call()):
                sending.take(line)
            sending.end()
        except ArchiveError as error:
            sending.broke(error)
            raise

    def export(
        self,
        *,
        user: str | None = None,
        type: ContentType | None = None,
        filter: Filter | None = None,
        after: str | None = None,
        vectors: bool = False,
        previews: bool = False,
        originals: bool = False,
    ) -> Iterator[ExportedContent]:
        """All contents, each once, as they come; where the answer breaks off, it is asked on from there.

        `vectors`, `previews`, `originals` (of texts; `get_original` has a picture's): with those. `after`: behind the
        place of this cursor. Needs the role admin.
        """
        export = Export(user, type, filter, after, vectors, previews, originals)
        for _, found in self.export_lines(export):
            if found is not None:
                yield found

    def export_lines(self, export: Export) -> Iterator[tuple[bytes, ExportedContent | None]]:
        """The lines of an export until it is done, each with the content it holds, if that is new."""
        while not export.done:
            try:
                for line in self._lines(export.call()):
                    yield line, export.take(line)
                export.end()
            except ArchiveError as error:
                time.sleep(export.pause_s(error, self.patience))

    def _lines(self, call: Call[Any]) -> Iterator[bytes]:
        url, lines = self.address.to(call.path, call.query), Lines()
        try:
            with self._client.stream(call.method, url, content=call.body, headers=dict(call.headers)) as response:
                if not is_answer(call, reply_of(response, b"")):
                    raise self._explained(error_in(reply_of(response, response.read())), call)
                for piece in response.iter_raw():
                    yield from lines.feed(piece)
        except httpx2.HTTPError as error:
            raise failed(error, self.address) from error
