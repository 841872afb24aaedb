"""What a call is: what answers it, and all that the contract says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from msgspec import Struct

from ..access.roles import Role
from .auth import require
from .codes import CODES, Code, Meets, invalid
from .guard import PROBES, SAFE
from .parameters import Parameter
from .query import Query, read_query

Answer = Callable[[web.Request, Query], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Gives:
    """One way in which a call succeeds: its status, its JSON (one of some types) or other media, and its headers.

    `lines` are the types of the lines of JSON that it streams.
    """

    status: int
    means: str
    json: tuple[type[Struct], ...] = ()
    lines: tuple[type[Struct], ...] = ()
    media: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call; `role` is what its caller must have, None for everybody.

    A `lenient` one passes over parameters that it does not know. `name` is what the contract calls it, where that is
    not what answers it.
    """

    method: str
    path: str
    answer: Answer
    gives: tuple[Gives, ...]
    takes: tuple[Parameter[Any], ...] = ()
    role: Role | None = Role.READER
    lenient: bool = False
    meeting: tuple[Meets, ...] = ()
    name: str = ""
    sends: type[Struct] | None = None  # the JSON of its body, where that is no content
    takes_patch: bool = False  # its body is a merge patch of metadata
    fields: tuple[Parameter[Any], ...] = ()  # its form may say of the contents behind them

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """See that the caller may, read the parameters, and answer."""
        require(request, self.role)
        return await self.answer(request, read_query(request, self.path, self.takes, self.lenient))

    @property
    def operation(self) -> str:
        """Its name in the contract, of which there is one."""
        return self.name or self.answer.__name__

    @property
    def meets(self) -> frozenset[Meets]:
        """All that errors can come from."""
        found = {Meets.HTTP, *self.meeting}
        found |= set() if self.lenient else {Meets.STRICT}
        found |= set() if self.role is None else {Meets.KEY}
        found |= {Meets.CHANGES} if self.role is not None and self.role > Role.READER else set()
        found |= set() if self.path in PROBES else {Meets.NAMES}
        found |= set() if self.method in SAFE else {Meets.UNSAFE}
        found |= {Meets.SENT} if Meets.BODY in found or self.takes_patch else set()
        return frozenset(found | ({Meets.ID} if "{" in self.path else set()))

    def codes(self) -> dict[str, Code]:
        """Every code that its errors can have."""
        wrong = dict(invalid(parameter.name) for parameter in (*self.takes, *self.fields))
        wrong |= dict([invalid("metadata")]) if self.takes_patch else {}
        return wrong | {word: code for word, code in CODES.items() if self.meets.issuperset(code.where)}
