"""What tests of the page do again and again."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator

from playwright.async_api import Page, expect

from index_sidecar.settings import Settings

from ..support.previewed import png
from ..support.sidecar import Sidecar, running
from .conftest import Tabs

SEARCH = "Words, or a picture: drop, paste or choose one"


async def some(sidecar: Sidecar, count: int = 12) -> None:
    """So many pictures and, last, a text."""
    for number in range(count):
        metadata = json.dumps(
            {"title": f"Picture {number}", "tags": ["even", "odd"][number % 2], "big": 2**60 + number}
        )
        query = {"user": ("ada", "grace")[number % 2], "metadata": metadata}
        assert (await sidecar.add(f"picture-{number}", png(number), "image", **query)).status == 201
    await sidecar.add("caption", b"a cat looks into the camera", user="ada")


@contextlib.asynccontextmanager
async def watched(settings: Settings, tabs: Tabs) -> AsyncIterator[Sidecar]:
    """A sidecar whose tabs are closed before it stops."""
    async with running(settings) as sidecar:
        yield sidecar
        await tabs.close()


async def shown(page: Page) -> list[str]:
    """The ids of what is on the screen, in its order, once something is: rows are laid after the line is told."""
    await expect(page.locator(".tile > a:first-child").first).to_be_attached()
    links = await page.locator(".tile > a:first-child").evaluate_all("all => all.map(each => each.hash)")
    return [re.sub(r".*open=", "", each) for each in links]
