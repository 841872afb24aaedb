"""The page of the contract in a real browser: it works offline, under its own policy, with a key, behind a sub path."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.browser import NEEDS_BROWSER, browsing
from ..support.proxies import behind_a_proxy
from ..support.sidecar import running

pytestmark = NEEDS_BROWSER


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "below a path"])
async def test_it_is_read_and_tried_with_a_key(settings: Settings, tmp_path: Path, proxied: bool) -> None:
    settings = replace(settings, access="keys")
    key = add_key(settings.path_of_keys, "reader", Role.WRITER, None, None)
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\npixels")
    async with contextlib.AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(running(settings))
        url = await stack.enter_async_context(behind_a_proxy(sidecar)) if proxied else sidecar.url
        page, said = await stack.enter_async_context(browsing())
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{url}/docs")
        adding = page.locator("#operations-add_content-add_content")
        await adding.wait_for(timeout=60_000)
        assert await page.locator(".opblock").count() > 20

        await page.locator(".btn.authorize").click()
        await page.locator(".auth-container input").fill(key)
        await page.locator(".auth-btn-wrapper .authorize").click()
        await page.locator(".btn-done").click()
        await adding.locator(".opblock-summary-control").click()
        await adding.locator(".execute").click()
        answer = adding.locator(".live-responses-table .response").first
        await answer.wait_for()
        assert "201" in await answer.inner_text()
        assert '"status": "added"' in await answer.inner_text()

        await adding.locator("tr[data-param-name=type] select").select_option("image")
        await adding.locator(".opblock-section-request-body select.content-type").select_option("image/*")
        await adding.locator(".opblock-section-request-body input[type=file]").set_input_files(picture)
        async with page.expect_response(lambda response: "/add_content" in response.url) as replaced:
            await adding.locator(".execute").click()
        assert (await replaced.value).status == 200

        assert [each for each in asked if not each.startswith((f"{url}/", "data:"))] == []
        assert said == []
        if "SCREENSHOTS" in os.environ:
            await page.screenshot(path=f"{os.environ['SCREENSHOTS']}/docs-{proxied}.png")
        async with sidecar.client.session.get(
            f"{sidecar.url}/contents/cat-1", headers={"Authorization": f"Bearer {key}"}
        ) as response:
            assert (await response.json())["type"] == "image"
