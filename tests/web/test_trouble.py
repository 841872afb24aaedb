"""The page is honest: about a service that is away, loading or busy, and about weights that were never trained."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import expect

from ..support.browser import NEEDS_BROWSER
from ..support.fake_torchserve import FakeTorchServe
from ..support.sidecar import Sidecar, SidecarProcess
from .conftest import Tabs
from .steps import some

pytestmark = NEEDS_BROWSER
_NETWORK = ("net::ERR_", "(Service Unavailable)")


async def test_it_waits_for_a_service_that_stops_and_starts(fake: FakeTorchServe, tabs: Tabs, tmp_path: Path) -> None:
    with SidecarProcess(tmp_path / "data", fake.url, fake.key_file, ACCESS="open") as process:
        await asyncio.to_thread(process.start)
        page = await tabs.open(process.url)
        await expect(page.locator(".note")).to_contain_text("The archive is empty")
        await asyncio.to_thread(process.stop)
        await page.keyboard.press("/")
        await page.keyboard.type("a cat")
        await page.keyboard.press("Enter")
        await expect(page.locator(".trouble")).to_contain_text("The archive does not answer since")
        await expect(page.locator(".skeleton")).to_be_visible()
        await asyncio.to_thread(process.start)
        await expect(page.locator(".trouble")).to_be_empty(timeout=20_000)
        await expect(page.locator(".note")).to_contain_text("is empty", timeout=20_000)
        await page.keyboard.press("Escape")
        tabs.forgive(*_NETWORK)
        await tabs.close()


async def test_a_busy_model_is_waited_for_and_an_absent_one_told(
    sidecar: Sidecar, fake: FakeTorchServe, tabs: Tabs
) -> None:
    await some(sidecar)
    page = await tabs.open(sidecar.url)
    await expect(page.locator(".banner")).to_contain_text("Untrained weights")
    fake.failure = "queue_full"
    await page.goto(f"{sidecar.url}/#q=busy&cut=all")
    await expect(page.locator(".trouble")).to_contain_text("The archive is busy since")
    await expect(page.locator(".skeleton")).to_be_visible()
    fake.failure = None
    await expect(page.locator(".line")).to_have_text("End: 13 of 13")
    await expect(page.locator(".trouble")).to_be_empty()
    fake.failure = "internal_503"
    await page.goto(f"{sidecar.url}/#q=away&cut=all")
    await expect(page.locator(".trouble")).to_contain_text("The model does not answer")
    await page.goto(f"{sidecar.url}/#")  # what needs no model is there all the same, and nobody waits any more
    await expect(page.locator(".line")).to_have_text("End: 13 of 13")
    asked = len(fake.requests)
    fake.failure = None
    await expect(page.locator(".trouble")).to_be_empty(timeout=15_000)
    assert b"away" not in [request.data for request in fake.requests[asked:]]
    tabs.forgive(*_NETWORK)
