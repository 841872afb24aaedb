"""The door: what is turned away before anything of it is read, while this process is what has too much to do.

Whoever would wait too long for the model is refused when it is known that the model is needed (archive/lanes.py): after
the parameters, the key and the body, of which a vector may be known already. That costs 0.35 ms of the processor. Where
very many come, refusing them is what takes the time, everybody waits for it, and nothing is answered in time any more.
So while the event loop is late and the model's queue is full, those who want the model are refused here, for 0.1 ms, of
which aiohttp itself takes 0.07. Refusals for overload have one line a second in the log, all together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiohttp import web

from ..archive.errors import Overloaded
from ..archive.lanes import Lane
from . import answers, failures
from .call import Call
from .codes import Meets
from .guard import secure
from .middlewares import Refusals, begin_request

_LOOK_S = 0.05
_LATE_S = 0.05  # it takes some ten rounds of the loop to answer a search

Refusal = Callable[[Lane], Overloaded | None]
"""What a content that comes now would be told, where the lane has no room for it."""


class Door:
    """Knows which calls want the model, whether it has room, and whether the event loop is late."""

    def __init__(self, calls: Iterable[Call], refusals: Refusals) -> None:
        self._lanes = {
            (call.method, call.path): Lane.ADD if Meets.WRITE in call.meeting else Lane.SEARCH
            for call in calls
            if Meets.BODY in call.meeting
        }
        self._refusals = refusals
        self._refusal: Refusal | None = None
        self._late = False
        self.turned_away = 0

    async def watch(self, refusal: Refusal) -> None:
        """Look from time to time whether the event loop is late; until it is cancelled."""
        self._refusal = refusal
        now = asyncio.get_running_loop().time
        while True:
            due = now() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            self._late = now() - due > _LATE_S

    def turn_away(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to who is refused; None to who may come in. Pages of other origins want more than this says."""
        if not self._late or self._refusal is None or "Origin" in request.headers:
            return None
        lane = self._lanes.get((request.method, request.rel_url.raw_path))
        if lane is None or (refusal := self._refusal(lane)) is None:
            return None
        self._refusals.count()
        self.turned_away += 1
        begin_request(request)
        answer = failures.content_error(refusal)
        answers.name_request(answer)
        secure(answer)
        return answer


DOOR = web.AppKey("door", Door)
