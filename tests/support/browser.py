"""A real browser: Debian's Chromium, driven by Playwright.

Without one, tests that need it are skipped, or fail where REQUIRE_ALL=1.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_BROWSER = [
    pytest.mark.servers,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
"""The marks of a module of such tests."""


@contextlib.asynccontextmanager
async def browsing(*arguments: str) -> AsyncIterator[tuple[Page, list[str]]]:
    """An empty page, and what its console says as long as it is open."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", *arguments]
        )
        try:
            page = await browser.new_page(viewport={"width": 1200, "height": 1400})
            said: list[str] = []
            page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: said.append(f"error: {error}"))
            yield page, said
        finally:
            await browser.close()
