"""One browser for all tests of the search page; each test has a tab of its own, whose console must stay silent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from ..support.browser import launched, listen
from ..support.sidecar import ROOT

SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", ROOT / "run" / "screenshots"))
# Names that are not localhost, as a machine in a network has them.
RESOLVED = "--host-resolver-rules=MAP archive.test 127.0.0.1"
expect.set_options(timeout=20_000)  # a machine that others use, too, may stand still for a while


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """The event loop that the browser, the servers and the tests share."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def browser(runner: asyncio.Runner) -> Iterator[Browser]:
    """Chromium, started once."""
    context = launched(RESOLVED)
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))


class Tabs:
    """Opens tabs, and keeps what their consoles say."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.said: list[str] = []
        self._pages: list[tuple[Page, list[str]]] = []

    async def open(self, url: str, **options: Any) -> Page:
        """A page in a context of its own: nothing is kept from another one. It has what it asked for when it loads."""
        options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", "locale": "en-GB"} | options
        context = await self._browser.new_context(**options)
        context.set_default_timeout(30_000)
        page = await context.new_page()
        self._pages.append((page, listen(page)))
        await page.goto(url)
        return page

    def forgive(self, *expected: str) -> None:
        """Forget what the network said that a test has brought about."""
        for _, said in self._pages:
            said[:] = [each for each in said if not any(piece in each for piece in expected)]

    async def close(self) -> None:
        """Close all tabs, and remember what was said and not forgiven."""
        for page, said in self._pages:
            await page.context.close()
            self.said += said
        self._pages = []


@pytest.fixture
def tabs(runner: asyncio.Runner, browser: Browser) -> Iterator[Tabs]:
    """Tabs whose consoles say nothing: no error, and nothing that their Content-Security-Policy refused."""
    tabs = Tabs(browser)
    yield tabs
    runner.run(tabs.close())
    assert tabs.said == []
