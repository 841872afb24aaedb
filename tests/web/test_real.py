"""The page on the real thing: TorchServe with the true architecture behind a sidecar process of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import expect

from ..support.browser import NEEDS_BROWSER
from ..support.real_servers import TorchServe
from ..support.samples import PHOTOGRAPHS
from ..support.sidecar import SidecarProcess
from .conftest import Tabs
from .steps import SEARCH

pytestmark = [*NEEDS_BROWSER, pytest.mark.timeout(300)]


async def test_a_photograph_is_dropped_found_by_words_and_by_itself_and_deleted(
    torchserve: TorchServe, tabs: Tabs, tmp_path: Path
) -> None:
    cat = next(path for path in PHOTOGRAPHS if path.stem == "chelsea")
    with SidecarProcess(tmp_path / "data", torchserve.url, torchserve.key_file, ACCESS="open") as process:
        await asyncio.to_thread(process.start)
        page = await tabs.open(process.url)
        await expect(page.get_by_role("heading", name="The archive is empty")).to_be_visible()
        await page.locator(".note").get_by_role("button", name="Add").click()
        await page.locator("dialog.adding input[type=file]").set_input_files([cat, PHOTOGRAPHS[0]])
        await expect(page.get_by_text("2 added")).to_be_visible(timeout=30_000)
        await page.get_by_role("button", name="Done").click()
        await expect(page.locator(".tile img")).to_have_count(2)
        await page.get_by_placeholder(SEARCH).fill("a cat")
        await page.keyboard.press("Enter")
        await expect(page.locator("body.asked")).to_be_attached()
        await expect(page.locator(".line")).to_have_text("End: 2 of 2")
        await page.get_by_placeholder(SEARCH).fill("")
        await page.locator("form.bar input[type=file]").set_input_files(cat)
        await expect(page.locator(".chip .thumb img")).to_be_visible()
        await expect(page.locator(".tile > a").first).to_have_attribute("aria-label", "Pictures: chelsea")
        await page.get_by_role("button", name="Scores").click()
        await expect(page.locator(".tile .score").first).to_contain_text("1.000")
        await page.locator(".tile > a").first.click()
        await page.get_by_role("button", name="Delete").click()
        await page.locator("dialog.ask").get_by_role("button", name="Delete").click()
        await expect(page.locator(".notice")).to_contain_text("Deleted")
        await page.get_by_role("button", name="Back to the results").click()
        await expect(page.locator(".line")).to_have_text("End: 1 of 1")
        await tabs.close()
