"""What Prometheus scrapes: real names, counts that only grow, and a bounded number of series whatever is asked."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.fake_torchserve import FakeTorchServe
from ..support.keys import key
from ..support.sidecar import Sidecar, running, serving

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
_VERSION_3 = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"


async def _text(sidecar: Sidecar, accept: str = "text/plain") -> tuple[str, Mapping[str, str]]:
    async with sidecar.client.session.get(f"{sidecar.url}/metrics", headers={"Accept": accept}) as response:
        assert response.status == 200
        return await response.text(), dict(response.headers)


async def _scrape(sidecar: Sidecar) -> Series:
    text, _ = await _text(sidecar)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _value(series: Series, name: str, **labels: str) -> float:
    return series.get((name, frozenset(labels.items())), 0.0)


async def test_what_was_done_is_counted_where_it_was_done(sidecar: Sidecar) -> None:
    before = await _scrape(sidecar)
    await sidecar.add("a", b"a cat")
    await sidecar.add("b", b"a dog")
    await sidecar.retrieve(b"a cat")
    await sidecar.retrieve(b"a cat")
    await sidecar.call("GET", "/contents/none")
    after = await _scrape(sidecar)

    def grown(name: str, **labels: str) -> float:
        return _value(after, name, **labels) - _value(before, name, **labels)

    assert grown("clip_requests_total", route="/add_content", method="POST", status="201") == 2
    assert grown("clip_requests_total", route="/contents/{id}", method="GET", status="404") == 1
    assert grown("clip_errors_total", code="not_found") == 1
    assert grown("clip_request_seconds_count", route="/retrieve") == 2
    for stage, times in {"embed": 3, "wait": 3, "search": 2, "commit": 2, "index": 2}.items():
        assert grown("clip_stage_seconds_count", stage=stage) == times, stage
        assert grown("clip_stage_seconds_sum", stage=stage) > 0
    assert grown("clip_query_cache_total", result="hit") == grown("clip_query_cache_total", result="miss") == 1
    assert grown("clip_store_total", event="writes") == 2
    assert grown("clip_index_total", event="queries") >= 4  # of texts and images, twice
    assert _value(after, "clip_contents", type="text") == 2
    assert _value(after, "clip_contents", type="image") == 0
    assert _value(after, "clip_index_bytes", type="text") == 2 * 2048
    for name in ("clip_ready", "clip_embedder_up", "clip_storage_up"):
        assert _value(after, name) == 1, name
    for name in ("clip_body_bytes", "clip_erasures_due"):
        assert after[name, frozenset()] == 0, name


async def test_each_kind_of_scraper_gets_the_type_it_asks_for(sidecar: Sidecar) -> None:
    text, headers = await _text(sidecar)
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert "charset=utf-8" in headers["Content-Type"]
    openmetrics, headers = await _text(sidecar, _VERSION_3)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert (openmetrics.endswith("# EOF\n"), text.endswith("# EOF\n")) == (True, False)
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_of_what_is_asked_makes_a_series_of_its_own(sidecar: Sidecar) -> None:
    choose = random.Random(1)

    async def odd(number: int) -> None:
        method = choose.choice(["GET", "POST", "DELETE", "PATCH", "BREW", f"X{number}"])
        path = choose.choice(
            [f"/contents/{number}", f"/nowhere/{number}", f"/users/u{number}/contents", f"/retrieve?k={number}"]
        )
        headers = {"X-Request-ID": f"id-{number}", "Host": choose.choice([f"h{number}", "127.0.0.1"])}
        async with sidecar.client.session.request(
            method, sidecar.url + path, data=b"a question", headers=headers
        ) as response:
            await response.read()

    async def some(first: int) -> int:
        for number in range(first, first + 500, 4):
            await asyncio.gather(*(odd(number + each) for each in range(4)))
        return len(await _scrape(sidecar))

    counts = [await some(first) for first in (0, 500, 1000, 1500)]
    assert counts[-1] <= counts[0] + 50, counts  # what is left to come are rare pairs of a route and a status
    assert counts[-1] < 400, counts
    text, _ = await _text(sidecar)
    assert not any(f"{word}{number}" in text for word in ("/contents/", "u", "id-", "X") for number in (7, 777, 1777))


async def test_a_model_that_is_away_and_the_errors_it_makes_are_seen(sidecar: Sidecar, fake: FakeTorchServe) -> None:
    await sidecar.add("a", b"a cat")
    await fake.stop()
    reply = await sidecar.add("b", b"a dog")
    assert reply.error == (503, "embedder_unavailable")
    series = await _scrape(sidecar)
    assert _value(series, "clip_embedder_up") == 0
    assert _value(series, "clip_errors_total", code="embedder_unavailable") >= 1
    assert _value(series, "clip_contents", type="text") == 1


async def test_two_sidecars_in_one_process_count_apart(settings: Settings, sidecar: Sidecar) -> None:
    await sidecar.add("a", b"a cat")
    assert _value(await _scrape(sidecar), "clip_contents", type="text") == 1
    async with running(replace(settings, data_dir=settings.data_dir.with_name("other"))) as second:
        assert _value(await _scrape(second), "clip_contents", type="text") == 0


async def test_an_admin_alone_may_scrape(locked: Settings) -> None:
    client: TestClient[Any, Any]
    async with serving(locked) as server, TestClient(server) as client:
        callers = [{}, *({"Authorization": f"Bearer {key(locked, role)}"} for role in Role)]
        assert [role.word for role in Role] == ["reader", "writer", "admin"]
        assert [(await client.get("/metrics", headers=each)).status for each in callers] == [401, 403, 403, 200]
        text = await (await client.get("/metrics", headers=callers[-1])).text()
    assert 'clip_errors_total{code="missing_key"} 1.0' in text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here: apt-get install prometheus")
async def test_promtool_finds_nothing_to_say(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"a cat")
    text, _ = await _text(sidecar)
    checked = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, b""), checked.stderr.decode()
