"""Many contents in one call: its form, and what of it is settled when its answer ends or breaks off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from .answers import AddAnswer
from .contents import Exported, Item, data_of, type_of
from .errors import ArchiveError, CutOff, Failure, VersionMismatch, error_of_line
from .form import named, write_form
from .lines import AddedLine, FailedLine
from .wire import Call, queried

MOST_ITEMS = 64
MOST_BYTES = 16 << 20


class Outgoing:
    """One content that is to be sent, read."""

    def __init__(self, item: Item | Exported) -> None:
        """Raises OSError where its file cannot be read."""
        if isinstance(item, Exported):
            self.id = _id_of(item.line)
            self.data = item.line
            self.headers = {"Content-Disposition": named("exported")}
        else:
            self.id = item.id
            self.data = data_of(item.content)
            said = queried(
                id=item.id, type=type_of(item.content, item.type), user=item.user, metadata=item.metadata or None
            )
            parameters = urlencode(said, quote_via=quote, safe="")
            self.headers = {"Content-Disposition": named("content"), "X-Content-Parameters": parameters}


class Sending:
    """Some contents on their way, by as many calls as it takes: each is answered once."""

    def __init__(self, outgoing: Sequence[Outgoing], only_new: bool = False) -> None:
        self._outgoing = outgoing
        self._only_new = only_new
        self._settled: dict[int, AddAnswer | ArchiveError] = {}
        self._sent: list[int] = []
        self._ended = False

    @property
    def answers(self) -> list[AddAnswer]:
        """What became of those that were added, in their order."""
        return [each for _, each in sorted(self._settled.items()) if isinstance(each, AddAnswer)]

    @property
    def failures(self) -> list[Failure]:
        """Those that were not, in their order."""
        settled = sorted(self._settled.items())
        return [Failure(self._outgoing[place].id, each) for place, each in settled if isinstance(each, ArchiveError)]

    def outcome(self, place: int) -> AddAnswer | ArchiveError | None:
        """What is known of one of them."""
        return self._settled.get(place)

    def _left(self) -> list[int]:
        return [place for place in range(len(self._outgoing)) if self._is_left(self._settled.get(place))]

    @staticmethod
    def _is_left(outcome: AddAnswer | ArchiveError | None) -> bool:
        return outcome is None or (isinstance(outcome, ArchiveError) and outcome.retryable)

    def call(self) -> Call[Any]:
        """The request for what is left."""
        self._sent, self._ended = self._left(), False
        media, body = write_form((self._outgoing[place].headers, self._outgoing[place].data) for place in self._sent)
        headers = {"Content-Type": media} | ({"If-None-Match": "*"} if self._only_new else {})
        return Call("POST", "/contents", bytes, {}, body, headers, media="application/x-ndjson")

    def take(self, line: bytes) -> None:
        """Take a line of the answer. Raises VersionMismatch for one that cannot be read."""
        try:
            told = msgspec.json.decode(line)
            if "content" in told:
                added = msgspec.convert(told, AddedLine)
                self._settled[self._sent[added.part - 1]] = added.content
            elif "error" in told:
                failed = msgspec.convert(told, FailedLine)
                if failed.part <= len(self._sent):
                    error = failed.error
                    self._settled[self._sent[failed.part - 1]] = error_of_line(
                        error.code, error.message, error.request_id
                    )
            elif "summary" in told:
                self._ended = True
        except (msgspec.MsgspecError, IndexError) as error:
            raise VersionMismatch(f"a line of the answer is not as this client knows it: {error}") from None

    def end(self) -> None:
        """Raises CutOff where the answer broke off, or left one out; what was answered holds."""
        if not self._ended or any(place not in self._settled for place in self._sent):
            raise CutOff("the answer broke off before all contents were answered", retryable=True)

    def broke(self, error: ArchiveError) -> None:
        """A call ended by an error. What may be done, and must not be done twice, is settled by it."""
        if self._only_new and not error.surely_undone:
            error.retryable = False
            self.give_up(error)

    def check(self) -> None:
        """Raises the error of one that may succeed later, if there is one."""
        for place in self._left():
            outcome = self._settled.get(place)
            if isinstance(outcome, ArchiveError):
                raise outcome

    def give_up(self, error: ArchiveError) -> None:
        """What was not answered has failed by this."""
        for place in range(len(self._outgoing)):
            self._settled.setdefault(place, error)


def some_at_a_time(items: Iterable[Item | Exported]) -> Iterator[list[Outgoing]]:
    """The contents, read, in as many steps as keep a call small."""
    some: list[Outgoing] = []
    size = 0
    for each in items:
        outgoing = Outgoing(each)
        if some and (len(some) == MOST_ITEMS or size + len(outgoing.data) > MOST_BYTES):
            yield some
            some, size = [], 0
        some.append(outgoing)
        size += len(outgoing.data)
    if some:
        yield some


def _id_of(line: bytes) -> str:
    try:
        return str(msgspec.json.decode(line)["id"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "?"
