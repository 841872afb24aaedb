"""A real browser: Debian's Chromium, driven by Playwright.

Without one, tests that need it are skipped, or fail where REQUIRE_ALL=1.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_BROWSER = [
    pytest.mark.servers,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
"""The marks of a module of such tests."""


@contextlib.asynccontextmanager
async def launched(*arguments: str) -> AsyncIterator[Browser]:
    """The browser, with no page yet."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", *arguments]
        )
        try:
            yield browser
        finally:
            await browser.close()


def listen(page: Page) -> list[str]:
    """What the page's console says from now on: also what a Content-Security-Policy refuses is said there.

    Not that the machine got or lost a network interface, as containers that start beside it bring about.
    """
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if "net::ERR_NETWORK_CHANGED" not in message.text:
            said.append(f"{message.type}: {message.text}")

    page.on("console", hear)
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    return said


@contextlib.asynccontextmanager
async def browsing(*arguments: str) -> AsyncIterator[tuple[Page, list[str]]]:
    """An empty page, and what its console says as long as it is open."""
    async with launched(*arguments) as browser:
        page = await browser.new_page(viewport={"width": 1200, "height": 1400})
        yield page, listen(page)
