"""Who uses the page: a key where the archive asks for one, a reader's bounds, other names, a sub path."""

from __future__ import annotations

from dataclasses import replace

from playwright.async_api import expect

from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.browser import NEEDS_BROWSER
from ..support.previewed import png
from ..support.proxies import behind_a_proxy
from ..support.sidecar import Sidecar
from .conftest import SCREENSHOTS, Tabs
from .steps import some, watched

pytestmark = NEEDS_BROWSER


async def test_a_key_is_asked_for_kept_in_the_tab_and_forgotten(settings: Settings, tabs: Tabs) -> None:
    settings = replace(settings, access="keys")
    writer = add_key(settings.path_of_keys, "writer", Role.WRITER, "ada", None)
    reader = add_key(settings.path_of_keys, "reader", Role.READER, None, None)
    async with watched(settings, tabs) as sidecar:
        sidecar.client.session.headers.update({"Authorization": f"Bearer {writer}"})
        await some_of(sidecar)
        page = await tabs.open(sidecar.url)
        dialog = page.get_by_role("dialog", name="This archive asks for a key")
        await expect(dialog.get_by_label("API key")).to_be_focused()
        await page.screenshot(path=SCREENSHOTS / "key.png")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_visible()
        await dialog.get_by_label("API key").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(dialog).to_contain_text("unknown, expired or revoked")
        await dialog.get_by_label("API key").fill(writer)
        await page.keyboard.press("Enter")
        await expect(page.locator(".line")).to_have_text("End: 4 of 4")
        await expect(page.locator(".tile.image img").first).to_be_visible()  # pictures need the key, too
        await page.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("dialog").get_by_label("Owner")).to_be_disabled()
        await page.get_by_role("button", name="Done").click()
        await page.reload()
        await expect(page.locator(".line")).to_have_text("End: 4 of 4")
        await page.get_by_role("button", name="Log out").click()
        await expect(dialog).to_be_visible()
        assert await page.evaluate("sessionStorage.length") == 0

        await dialog.get_by_label("API key").fill(reader)
        await page.keyboard.press("Enter")
        await page.locator(".tile a").first.click()
        await expect(page.locator("dialog.viewer").get_by_role("button", name="Copy id")).to_be_visible()
        await expect(page.get_by_role("button", name="Delete")).to_have_count(0)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Add", exact=True)).to_be_hidden()
        tabs.forgive("401 (Unauthorized)")


async def some_of(sidecar: Sidecar) -> None:
    for number in range(3):
        await sidecar.add(f"text-{number}", b"a text %d" % number)
    await sidecar.add("picture", png(1), "image")


async def test_it_works_by_plain_http_under_another_name(settings: Settings, tabs: Tabs) -> None:
    async with watched(replace(settings, allowed_hosts=("archive.test",)), tabs) as sidecar:
        await some(sidecar)
        page = await tabs.open(sidecar.url.replace("127.0.0.1", "archive.test"))
        assert await page.evaluate("isSecureContext") is False
        await page.locator(".tile.image a").first.click()
        await page.get_by_role("button", name="Copy id").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Add").click()
        await page.get_by_label("Or write a text").fill("by plain HTTP")
        await page.get_by_role("button", name="Add the text").click()
        await expect(page.get_by_text("1 added")).to_be_visible()


async def test_it_works_below_a_path_and_asks_nobody_else(settings: Settings, tabs: Tabs) -> None:
    async with watched(settings, tabs) as sidecar, behind_a_proxy(sidecar) as url:
        await some(sidecar)
        page = await tabs.open("about:blank")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{url}/")
        await page.locator(".tile.image a").first.click()
        await page.get_by_role("button", name="Delete").click()
        await page.locator("dialog.ask").get_by_role("button", name="Delete").click()
        await expect(page.locator(".notice")).to_contain_text("for good")
        await page.keyboard.press("Escape")
        await page.keyboard.press("/")
        await page.keyboard.type("a cat")
        await page.keyboard.press("Enter")
        await expect(page.locator(".line")).to_contain_text("End")
        await page.get_by_role("link", name="The calls").click()
        await expect(page.locator(".opblock").first).to_be_visible(timeout=60_000)
        assert [each for each in asked if not each.startswith((f"{url}/", "blob:", "data:"))] == []
        await tabs.close()
