"""A mixed load over several connections, whose answers go into a ledger and are checked against it as they come."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from index_sidecar.archive.content import CONTENT_TYPES, ContentType

from ..support.fake_torchserve import PNG
from ..support.sidecar import AUTHORIZATION, path_of
from .findings import Findings
from .ledger import Ledger, Operation, Outcome, State

IDS = [f"id {number}/ä?#%" for number in range(240)]
USERS = [f"user {number}/é" for number in range(12)]
_OPERATIONS = {"put": 46, "delete": 10, "delete_user": 1, "search": 35, "look": 8}
# What these say did not happen has not: everything else of a 503 may have.
_NOT_DONE = {"overloaded", "embedder_unavailable", "storage_full", "model_mismatch"}
UNAVAILABLE = _NOT_DONE | {"not_ready", "storage_unavailable"}


class Contents:
    """Makes contents, each unlike all before it."""

    def __init__(self) -> None:
        self._count = 0

    def fresh(self, content_type: ContentType) -> bytes:
        """One that was never there before."""
        self._count += 1
        words = b"theme=%d seed=%08d" % (self._count % 7, self._count)
        return words if content_type == "text" else PNG + words


class Load:
    """`async with` it: so long there is load. What must not be is in `findings`."""

    def __init__(
        self, url: str, ledger: Ledger, contents: Contents, seed: int = 0, connections: int = 8, pause_s: float = 0.0
    ) -> None:
        self.findings = Findings()
        self.answers: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.unanswered: list[float] = []
        """When requests began to which no answer came."""
        self.succeeded_at = 0.0
        """When the model's work was last acknowledged: an add of something new."""
        self._url = url
        self._ledger = ledger
        self._contents = contents
        self._numbers = random.Random(seed)
        self._connections = connections
        self._pause_s = pause_s
        self._recent: list[tuple[ContentType, bytes]] = []
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._stopping = False
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Every request under way gets its answer, or the end of its connection."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def answered(self) -> None:
        """Until some more answers have come."""
        count = self.answers.total()
        while self.answers.total() < count + 10:
            await asyncio.sleep(0.01)

    async def _work(self) -> None:
        names, weights = list(_OPERATIONS), list(_OPERATIONS.values())
        calls: dict[str, Callable[[aiohttp.ClientSession], Any]] = {name: getattr(self, f"_{name}") for name in names}
        connector = aiohttp.TCPConnector(limit=1)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=AUTHORIZATION) as session:
            while not self._stopping:
                (name,) = self._numbers.choices(names, weights)
                began = time.monotonic()
                await calls[name](session)
                self.slowest[name] = max(self.slowest.get(name, 0.0), time.monotonic() - began)
                await asyncio.sleep(self._pause_s)

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, data: bytes | None = None
    ) -> tuple[int, Any]:
        """Status and JSON; status 0 where the connection ended without an answer."""
        began = time.monotonic()
        try:
            url = URL(self._url + path, encoded=True)
            async with session.request(method, url, data=data) as response:
                body = await response.json() if response.content_type == "application/json" else None
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            self.unanswered.append(began)
            self.answers["none" if isinstance(error, aiohttp.ClientError) else "late"] += 1
            await asyncio.sleep(0.01)
            return 0, None
        code = body["error"]["code"] if status >= 400 and body else ""
        self.answers[f"{status} {code}".strip()] += 1
        if status >= 500 and code not in UNAVAILABLE:
            self.findings.wrong.append(f"{method} {path} answers {status} {body}")
        if status >= 500:
            if "Retry-After" not in response.headers:
                self.findings.wrong.append(f"{status} {code} without Retry-After")
            await asyncio.sleep(0.02)
        return status, body

    async def _put(self, session: aiohttp.ClientSession) -> None:
        content_id, content_type = self._numbers.choice(IDS), self._numbers.choice(CONTENT_TYPES)
        user = self._numbers.choice([None, *USERS])
        if self._recent and self._numbers.random() < 0.15:  # the same bytes again, also under other ids
            content_type, data = self._numbers.choice(self._recent)
        else:
            data = self._contents.fresh(content_type)
            self._recent = [*self._recent[-20:], (content_type, data)]
        state = State(content_type, user, data)
        before = self._ledger.possible(content_id)
        operation = self._ledger.put(content_id, state)
        version = self._ledger.version(content_id)
        path = f"/add_content?id={quote(content_id, safe='')}&type={content_type}"
        path += f"&user={quote(user, safe='')}" if user else ""
        status, body = await self._ask(session, "POST", path, data)
        alone = self._ledger.version(content_id) == version and len(before) == 1
        self._end(operation, status, body, (200, 201))
        if status in (200, 201):
            self.succeeded_at = time.monotonic()
            (held,) = before if alone else (None,)
            expected = "unchanged" if held == state else "replaced" if held else "added"
            if alone and body["status"] != expected:
                self.findings.wrong.append(f"an add of {content_id!r} was {body['status']} instead of {expected}")

    async def _delete(self, session: aiohttp.ClientSession) -> None:
        content_id = self._numbers.choice(IDS)
        before = self._ledger.possible(content_id)
        operation = self._ledger.delete(content_id)
        version = self._ledger.version(content_id)
        status, body = await self._ask(session, "DELETE", path_of(content_id))
        alone = self._ledger.version(content_id) == version and len(before) == 1
        self._end(operation, status, body, (200, 204, 404))
        if alone and status == 404 and before != {None}:
            self.findings.lost.append(f"{content_id!r} was acknowledged, and a delete says 404")
        if alone and status in (200, 204) and before == {None}:
            self.findings.leaked.append(f"{content_id!r} was erased, and erased once more")

    async def _delete_user(self, session: aiohttp.ClientSession) -> None:
        user = self._numbers.choice(USERS)
        operation = self._ledger.delete_user(user)
        status, body = await self._ask(session, "DELETE", f"/users/{quote(user, safe='')}/contents")
        self._end(operation, status, body, (200,))

    def _end(self, operation: Operation, status: int, body: Any, good: tuple[int, ...]) -> None:
        outcome: Outcome = "done" if status in good else "unknown"
        if status >= 400 and body and body["error"]["code"] in _NOT_DONE:
            outcome = "refused"
        elif 400 <= status < 500 and status not in good:
            self.findings.wrong.append(f"{status} {body}")
        self._ledger.end(operation, outcome)

    async def _search(self, session: aiohttp.ClientSession) -> None:
        """Half of them for something that is there for certain, and must be found as the first."""
        versions = {content_id: self._ledger.version(content_id) for content_id in IDS}
        held = self._certain(self._numbers.choice(IDS))
        content_type, data = (held.type, held.data) if held else ("text", self._contents.fresh("text"))
        status, body = await self._ask(session, "POST", f"/retrieve?type={content_type}&k=300", data)
        if status != 200:
            return
        found = {hit["id"]: hit for hit in body["contents"]}
        for content_id in IDS:
            if self._ledger.version(content_id) != versions[content_id] or not self._ledger.certain(content_id):
                continue
            (state,) = self._ledger.possible(content_id)
            if state is None and content_id in found:
                self.findings.leaked.append(f"{content_id!r} was erased, and is found")
            elif state is not None and content_id not in found:
                self.findings.lost.append(f"{content_id!r} was acknowledged, and is not found")
            elif state == held is not None and found[content_id]["score"] < 0.9999:
                self.findings.wrong.append(f"{content_id!r} scores {found[content_id]['score']} with itself")

    async def _look(self, session: aiohttp.ClientSession) -> None:
        content_id = self._numbers.choice(IDS)
        version, held = self._ledger.version(content_id), self._ledger.possible(content_id)
        status, body = await self._ask(session, "GET", path_of(content_id))
        if self._ledger.version(content_id) != version or len(held) != 1 or status not in (200, 404):
            return
        (state,) = held
        if status == 404 and state is not None:
            self.findings.lost.append(f"{content_id!r} was acknowledged, and is 404")
        elif status == 200 and (state is None or (body["type"], body["user"]) != (state.type, state.user)):
            kind = self.findings.leaked if state is None else self.findings.wrong
            kind.append(f"{content_id!r} is looked up as {body}, expected {state}")

    def _certain(self, content_id: str) -> State | None:
        possible = self._ledger.possible(content_id)
        return next(iter(possible)) if len(possible) == 1 else None
