"""The large view shows what the archive keeps: a picture as it came, a whole text; and saves both."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from playwright.async_api import Page, expect

from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.browser import NEEDS_BROWSER
from ..support.pictures import file, scene
from .conftest import Tabs
from .steps import watched

pytestmark = NEEDS_BROWSER
PHOTOGRAPH = file(scene(900, 600), "PNG")
SCAN = file(scene(900, 600), "TIFF")  # which Chromium does not show
TEXT = " ".join(f"word {number}" for number in range(400))
FRAME = "dialog.viewer .frame"


def _asked(page: Page) -> list[str]:
    """The originals that a page asks for from now on."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "contents/original" in request.url else None)
    return asked


async def _is_wide(page: Page, pixels: int) -> None:
    await expect(page.locator(f"{FRAME} img")).to_have_js_property("naturalWidth", pixels)


async def _saved(page: Page) -> tuple[str, bytes]:
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Download").click()
    download = await saving.value
    return download.suggested_filename, await asyncio.to_thread((await download.path()).read_bytes)


async def test_the_large_view_shows_originals_and_saves_them_with_the_key(settings: Settings, tabs: Tabs) -> None:
    settings = replace(settings, access="keys", originals="all")
    key = add_key(settings.path_of_keys, "writer", Role.WRITER, None, None)
    async with watched(settings, tabs) as sidecar:
        sidecar.client.session.headers.update({"Authorization": f"Bearer {key}"})
        await sidecar.add("photograph.png", PHOTOGRAPH, "image")
        await sidecar.add("scan.tif", SCAN, "image")
        await sidecar.add("text.txt", TEXT.encode())
        page = await tabs.open(f"{sidecar.url}/#open=photograph.png")
        await page.get_by_label("API key").fill(key)
        await page.keyboard.press("Enter")
        tabs.forgive("401 (Unauthorized)")
        await _is_wide(page, 900)
        await expect(page.locator(f"{FRAME} > *")).to_have_count(1)
        assert await _saved(page) == ("photograph.png", PHOTOGRAPH)

        async with page.expect_response(lambda response: "contents/original" in response.url) as answer:
            await page.goto(f"{sidecar.url}/#open=scan.tif")
        await (await answer.value).finished()
        await _is_wide(page, 256)
        assert await _saved(page) == ("scan.tif", SCAN)
        await _is_wide(page, 256)

        await page.goto(f"{sidecar.url}/#open=text.txt")
        await expect(page.locator(f"{FRAME} p")).to_have_text(TEXT)
        await expect(page.get_by_text("The first 500 characters")).to_have_count(0)
        assert await _saved(page) == ("text.txt", TEXT.encode())


async def test_what_is_not_kept_is_not_asked_for(settings: Settings, tabs: Tabs) -> None:
    async with watched(replace(settings, originals="none"), tabs) as sidecar:
        await sidecar.add("photograph.png", PHOTOGRAPH, "image")
        await sidecar.add("text.txt", TEXT.encode())
        page = await tabs.open("about:blank")
        asked = _asked(page)
        await page.goto(f"{sidecar.url}/#open=photograph.png")
        await page.get_by_role("button", name="Delete").wait_for()
        await _is_wide(page, 256)
        await page.goto(f"{sidecar.url}/#open=text.txt")
        await expect(page.get_by_text("The first 500 characters")).to_be_visible()
        await expect(page.locator(f"{FRAME} p")).to_have_text(TEXT[:500])
        await expect(page.get_by_role("button", name="Download")).to_have_count(0)
        assert asked == []
