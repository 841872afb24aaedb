"""Compares a service whole with the ledger: what it lists, finds, scores, counts and keeps in its files."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from index_sidecar.archive.content import CONTENT_TYPES, ContentType, Vector

from ..support.fake_vectors import vector_of
from ..support.sidecar import AUTHORIZATION
from .findings import Findings
from .ledger import Ledger, State
from .load import Contents

VectorOf = Callable[[bytes, ContentType], Vector]
_MOST_FOUND = 1000  # an archive has to be smaller than that to be compared whole
_NEEDLES = 400


class Comparison:
    """Asks a service that nobody else asks now."""

    def __init__(
        self, url: str, ledger: Ledger, contents: Contents, vector: VectorOf = vector_of, tolerance: float = 2e-6
    ) -> None:
        self._url = url
        self._ledger = ledger
        self._contents = contents
        self._vector = vector
        self._tolerance = tolerance
        self._held: dict[str, State] = {}
        self.findings = Findings()

    async def run(self, seed: int = 0) -> Findings:
        """Everything but the files; what was open in the ledger is settled by it."""
        assert len(self._ledger.ids) <= _MOST_FOUND
        async with aiohttp.ClientSession(headers=AUTHORIZATION) as session:
            self._settle(await self._listed(session))
            numbers = random.Random(seed)
            users = sorted({state.user for state in self._held.values() if state.user})
            for content_type in CONTENT_TYPES:
                query = self._contents.fresh(content_type)
                await self._search(session, query, content_type, None)
                if users:
                    await self._search(session, query, content_type, numbers.choice(users))
            async with session.get(f"{self._url}/health") as response:
                counts = (await response.json())["contents"]
            expected = {each: sum(state.type == each for state in self._held.values()) for each in CONTENT_TYPES}
            if counts != expected:
                self.findings.wrong.append(f"/health counts {counts}, stored are {expected}")
        return self.findings

    async def _listed(self, session: aiohttp.ClientSession) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        params = {"limit": "100"}
        while True:
            async with session.get(f"{self._url}/contents", params=params) as response:
                assert response.status == 200, await response.text()
                page = await response.json()
            entries += page["contents"]
            if page["next"] is None:
                return entries
            params["after"] = page["next"]

    def _settle(self, entries: list[dict[str, Any]]) -> None:
        listed = {entry["id"]: entry for entry in entries}
        if len(listed) != len(entries):
            self.findings.wrong.append("an id is listed twice")
        for content_id in listed.keys() - set(self._ledger.ids):
            self.findings.wrong.append(f"{content_id!r} was never added")
        for content_id in self._ledger.ids:
            possible, entry = self._ledger.possible(content_id), listed.get(content_id)
            if entry is None:
                if None not in possible:
                    self.findings.lost.append(f"{content_id!r} is not stored any more")
                self._ledger.observed(content_id, None)
                continue
            said = entry["type"], entry["user"], entry["sha256"]
            found = [
                state
                for state in possible
                if state and (state.type, state.user, hashlib.sha256(state.data).hexdigest()) == said
            ]
            if found:
                self._held[content_id] = found[0]
                self._ledger.observed(content_id, found[0])
            elif possible == {None}:
                self.findings.leaked.append(f"{content_id!r} is erased and listed")
            else:
                self.findings.wrong.append(f"{content_id!r} holds {said}, possible are {possible}")

    async def _search(
        self, session: aiohttp.ClientSession, query: bytes, content_type: ContentType, without: str | None
    ) -> None:
        params = {"type": content_type, "k": str(_MOST_FOUND)} | ({"user": without} if without else {})
        async with session.post(f"{self._url}/retrieve", params=params, data=query) as response:
            if response.status != 200:
                self.findings.wrong.append(f"a search answers {response.status} {await response.text()}")
                return
            hits = (await response.json())["contents"]
        direction = self._vector(query, content_type)
        expected = {
            content_id: float(np.dot(self._vector(state.data, state.type), direction))
            for content_id, state in self._held.items()
            if without is None or state.user != without
        }
        found = {hit["id"]: hit for hit in hits}
        for content_id in expected.keys() - found.keys():
            self.findings.lost.append(f"{content_id!r} is stored and not found")
        for content_id in found.keys() - expected.keys():
            known = content_id in self._held
            kind = self.findings.wrong if known else self.findings.leaked
            kind.append(f"{content_id!r} is found and must not be")
        for content_id in expected.keys() & found.keys():
            hit, state = found[content_id], self._held[content_id]
            if (hit["type"], hit["user"]) != (state.type, state.user):
                self.findings.wrong.append(f"{content_id!r} is found as {hit}, stored as {state}")
            if abs(hit["score"] - expected[content_id]) > self._tolerance:
                self.findings.wrong.append(f"{content_id!r} scores {hit['score']}, expected {expected[content_id]}")
        order = [(-hit["score"], hit["id"]) for hit in hits]
        if order != sorted(order):
            self.findings.wrong.append("hits are out of order")

    async def files(self, folder: Path, within_s: float = 30) -> float:
        """Whether what is erased is in no file any more; how many seconds the overwriting took from now. After `run`.

        A number of what was ever stored and is not any more is looked for: its vector and, of a text, its preview.
        """
        began = time.monotonic()
        async with aiohttp.ClientSession(headers=AUTHORIZATION) as session:
            while True:
                async with session.get(f"{self._url}/health") as response:
                    due = (await response.json())["erasures_due"]
                if not due:
                    break
                if time.monotonic() - began > within_s:
                    self.findings.leaked.append(f"{due} erasures are not overwritten after {within_s} s")
                    return within_s
                await asyncio.sleep(0.05)
        seconds = time.monotonic() - began
        gone = sorted(self._ledger.ever - {(state.type, state.data) for state in self._held.values()})
        sample = random.Random(0).sample(gone, min(_NEEDLES, len(gone)))
        self.findings.add(await asyncio.to_thread(self._scan, folder, sample))
        return seconds

    def _scan(self, folder: Path, gone: list[tuple[ContentType, bytes]]) -> Findings:
        findings = Findings()
        files = {path.name: path.read_bytes() for path in folder.glob("contents.sqlite*")}
        for content_type, data in gone:
            needles = [self._vector(data, content_type).astype("<f4").tobytes()[:64]]
            needles += [data] if content_type == "text" else []
            findings.leaked += [
                f"{data!r} is erased, and still in {name}"
                for name, content in files.items()
                if any(needle in content for needle in needles)
            ]
        return findings
