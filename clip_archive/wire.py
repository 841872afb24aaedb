"""What goes over the wire, without a transport: a call that is described once, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from .answers import ErrorAnswer
from .errors import ArchiveError, NotAnArchive, VersionMismatch, error_of
from .retries import retry_after_s

T = TypeVar("T")
_SHOWN_CHARACTERS = 200
_OF_PROXIES = (502, 503, 504)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what its answer becomes.

    `query` holds only what was said. `repeatable`: made twice, it leaves the archive as made once.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    media: str = "application/json"


@dataclass(frozen=True)
class Reply:
    """An answer as it came; `headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def json_of(kind: type[T]) -> Callable[[bytes], T]:
    """What reads an answer of one type."""
    return msgspec.json.Decoder(kind).decode


def read_reply(call: Call[T], reply: Reply) -> T:
    """The answer of a call. Raises a kind of ArchiveError."""
    if not is_answer(call, reply):
        raise error_in(reply)
    try:
        return call.read(reply.body)
    except msgspec.MsgspecError as error:
        raise VersionMismatch(
            f"the archive's answer to {call.method} {call.path} is not as this client knows it: {error}",
            status=reply.status,
            request_id=reply.headers.get("x-request-id"),
        ) from None


def is_answer(call: Call[Any], reply: Reply) -> bool:
    """Whether a reply is the call's answer by its head: a 200 may also be the page of something else."""
    return reply.status == 204 or (200 <= reply.status < 300 and _media(reply).startswith(call.media))


def error_in(reply: Reply) -> ArchiveError:
    """The error that a reply is: the archive's own, or the page of something in between."""
    try:
        told = msgspec.json.decode(reply.body, type=ErrorAnswer).error
    except (msgspec.MsgspecError, ValueError):
        return not_an_archive(reply)
    waits = retry_after_s(reply.headers.get("retry-after"))
    return error_of(reply.status, told.code, told.message, told.request_id, waits)


def not_an_archive(reply: Reply) -> NotAnArchive:
    """The error for an answer that no archive gives."""
    where = reply.headers.get("location")
    words = " ".join(reply.body[:2000].decode("utf-8", "replace").split())[:_SHOWN_CHARACTERS]
    if 300 <= reply.status < 400 and where:
        message = f"the address leads elsewhere: use {where} if that is the archive"
    else:
        message = f"this is no answer of an archive, but {_media(reply) or 'something'}: {words!r}"
    return NotAnArchive(
        message,
        status=reply.status,
        request_id=reply.headers.get("x-request-id"),
        retryable=reply.status in _OF_PROXIES,
        retry_after_s=retry_after_s(reply.headers.get("retry-after")),
    )


def _media(reply: Reply) -> str:
    return reply.headers.get("content-type", "").lower()


class Lines:
    """Pieces of a stream -> its lines, which end by a line feed alone: JSON may hold all other line ends."""

    def __init__(self, most_bytes: int = 1 << 24) -> None:
        self._rest = bytearray()
        self._most_bytes = most_bytes

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that are whole now. Raises NotAnArchive where one has no end."""
        self._rest += piece
        *lines, rest = self._rest.split(b"\n")
        if len(rest) > self._most_bytes:
            raise NotAnArchive(f"a line of the answer is longer than {self._most_bytes} bytes")
        self._rest = bytearray(rest)
        return [bytes(line) for line in lines if line]


def queried(**values: Any) -> dict[str, str]:
    """The parameters that were said, as the archive reads them."""
    said = {name: value for name, value in values.items() if value is not None}
    return {name: _written(value) for name, value in said.items()}


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.15f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return msgspec.json.encode(value).decode()
    return str(value)
