"""Long answers: where one was is where Back leads to; each content once; a bounded number of elements."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from playwright.async_api import Page, expect

from index_sidecar.settings import Settings

from ..support.browser import NEEDS_BROWSER
from ..support.previewed import fill
from ..support.sidecar import AUTHORIZATION, Sidecar
from .conftest import Tabs
from .steps import shown, some, watched

pytestmark = NEEDS_BROWSER


async def _scroll_to(page: Page, count: int) -> None:
    """Scroll until so many contents are loaded."""
    async with asyncio.timeout(30):
        while await page.evaluate("parseInt(document.querySelector('.line').textContent) || 0") < count:
            await page.mouse.wheel(0, 900)
            await page.wait_for_timeout(20)


async def _place(page: Page) -> tuple[str, int]:
    """The first content in the window, and where it is, once one is there."""
    await page.wait_for_timeout(150)
    found = await page.wait_for_function(
        """() => { const below = document.querySelector('header').getBoundingClientRect().bottom;
        for (const tile of document.querySelectorAll('.tile')) {
          const { top, bottom } = tile.getBoundingClientRect();
          if (bottom > below) return [tile.querySelector('a').hash.split('open=')[1], Math.round(top)];
        } }"""
    )
    content_id, top = await found.json_value()
    return content_id, top


async def _is_at(page: Page, place: tuple[str, int], how: str) -> None:
    now = place
    for _ in range(60):  # an answer has to come first
        now = await _place(page)
        if now[0] == place[0] and abs(now[1] - place[1]) <= 1:  # a pixel is what rounding may move
            return
    assert now == place, how


async def _middle(page: Page) -> tuple[float, float]:
    """Of a tile that is wholly in the window: to click there scrolls nothing."""
    found = await page.wait_for_function(
        """() => [...document.querySelectorAll('.tile')].map((tile) => tile.getBoundingClientRect())
          .filter(({ top, bottom }) => top > 250 && bottom < innerHeight)
          .map((box) => [box.x + box.width / 2, box.y + 60])[0]"""
    )
    x, y = await found.json_value()
    return x, y


@pytest.mark.parametrize("address", ["/", "/#q=a+sentence&cut=all"], ids=["newest", "asked"])
async def test_back_leads_to_the_same_place(settings: Settings, tabs: Tabs, address: str) -> None:
    await fill(settings.data_dir, 400, 200)
    async with watched(settings, tabs) as sidecar:
        page = await tabs.open(sidecar.url + address)
        await _scroll_to(page, 200)
        await page.mouse.wheel(0, -1000)
        place = await _place(page)
        for how in ("the page's own", "the browser's", "after a reload"):
            await page.mouse.click(*await _middle(page))
            await expect(page.locator("dialog.viewer .about dl")).to_be_visible()
            await page.keyboard.press("ArrowRight")
            await page.keyboard.press("ArrowRight")
            if how == "the page's own":
                await page.get_by_role("button", name="Back to the results").click()
            else:
                if how == "after a reload":
                    await page.reload()
                    await expect(page.locator("dialog.viewer .about dl")).to_be_visible()
                await page.go_back()
            await expect(page.locator("dialog")).to_have_count(0)
            await _is_at(page, place, how)
        # To another question and back.
        await page.goto(f"{sidecar.url}/#q=something+else&cut=all")
        first = page.locator(".tile > a:first-child").first
        await expect(first).to_have_attribute("href", re.compile("something"))
        await page.go_back()
        await expect(first).not_to_have_attribute("href", re.compile("something"))
        await _is_at(page, place, "from another question")
        # A link that was shared.
        cold = await tabs.open(f"{sidecar.url}{address}{'&' if '#' in address else '#'}open=item-7")
        await expect(cold.locator("dialog.viewer h2")).to_have_text("Number 7")
        await cold.get_by_role("button", name="Back to the results").click()
        await expect(cold.locator(".tile").first).to_be_visible()
        assert "open" not in cold.url


async def test_what_is_deleted_or_added_while_paging_moves_nothing(settings: Settings, tabs: Tabs) -> None:
    await fill(settings.data_dir, 200, 0)
    async with watched(settings, tabs) as sidecar:
        page = await tabs.open(f"{sidecar.url}/#q=a+sentence&cut=all")
        await expect(page.locator(".line")).to_have_text("60 so far")
        for _ in range(3):
            await page.locator(".tile a").first.click()
            await page.get_by_role("button", name="Delete").click()
            await page.locator("dialog.ask").get_by_role("button", name="Delete").click()
            await expect(page.locator(".notice")).to_contain_text("for good")
            await page.get_by_role("button", name="Back to the results").click()
        await expect(page.locator(".line")).to_have_text("57 so far")
        for number in range(2):
            await sidecar.add(f"new-{number}", b"a new sentence %d" % number)
        seen: dict[str, None] = {}
        at_end = "document.querySelector('.line').getBoundingClientRect().bottom <= innerHeight"
        while "End" not in await page.locator(".line").inner_text() or not await page.evaluate(at_end):
            seen |= dict.fromkeys(await shown(page))
            await page.mouse.wheel(0, 500)
            await page.wait_for_timeout(20)
        seen |= dict.fromkeys(await shown(page))
        ids = await page.evaluate("Number(document.querySelector('.line').textContent.match(/\\d+/)[0])")
        assert 197 <= ids <= 199
        stored = (await sidecar.call("GET", "/contents?limit=1000", headers=AUTHORIZATION)).json["contents"]
        assert {each["id"] for each in stored if each["id"].startswith("item")} <= seen.keys()


async def test_ten_thousand_contents_scroll_with_few_elements(settings: Settings, tabs: Tabs) -> None:
    await fill(settings.data_dir, 10_000, 500)
    async with watched(replace(settings, index_exact_rows=20_000), tabs) as sidecar:
        page = await tabs.open(sidecar.url)
        most, moved = 0, 0
        await page.evaluate(
            """() => { window.moved = 0; window.at = new Map();
            window.look = () => { for (const tile of document.querySelectorAll('.tile')) {
              const id = tile.querySelector('a').hash, where = tile.style.left + tile.style.top;
              if (window.at.has(id) && window.at.get(id) !== where) window.moved++;
              window.at.set(id, where); } } }"""
        )
        async with asyncio.timeout(150):  # only so that it ends: how long is the machine's affair
            while not (await page.locator(".line").inner_text()).startswith("End"):
                await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
                most = max(most, await page.evaluate("look(), document.querySelectorAll('*').length"))
        moved = await page.evaluate("moved")
        assert (await page.locator(".line").inner_text()) == "End: 10000 of 10000"
        assert (moved, most < 1500) == (0, True), (moved, most)
        await page.evaluate("scrollTo(0, 0)")
        await expect(page.locator(".tile").first).to_contain_text("text 9999")
        assert await page.evaluate("document.querySelectorAll('*').length") < 1500


async def test_first_results_are_on_the_screen_soon_after_the_answer(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar, 30)
    page = await tabs.open(sidecar.url)
    await expect(page.locator(".tile p, .tile img").first).to_be_visible()
    times = []
    for number in range(5):
        seen = "performance.getEntriesByName('seen').length"
        before = await page.evaluate(seen)
        await page.goto(f"{sidecar.url}/#q=question+{number}&cut=all")
        await expect(page.locator(".line")).to_have_text("End: 31 of 31")
        last = "performance.getEntriesByName('{}').at(-1)?.startTime"
        took = f"{last.format('seen')} - {last.format('answered')}"
        while await page.evaluate(seen) == before:
            await page.wait_for_timeout(5)
        times.append(await page.evaluate(took))
    assert sorted(times)[2] < 150, times
