"""How the page looks and can be used: accessible in every state, by the keyboard alone, light; screenshots."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from playwright.async_api import Page, expect

from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.browser import NEEDS_BROWSER
from ..support.fake_torchserve import FakeTorchServe
from ..support.samples import PHOTOGRAPHS
from ..support.sidecar import ROOT, Sidecar
from .conftest import SCREENSHOTS, Tabs
from .steps import SEARCH, shown, some, watched

pytestmark = NEEDS_BROWSER
AXE = ROOT / ".npm" / "axe-core" / "axe.min.js"
TSC = ROOT / ".npm" / "typescript" / "bin" / "tsc"
FETCHED = "`make npm` fetches it"


async def photographs(sidecar: Sidecar) -> None:
    """Those that scikit-image ships, and what is said of some."""
    for number, path in enumerate(PHOTOGRAPHS):
        metadata = {
            "title": path.stem.replace("_", " ").capitalize(),
            "tags": ["sample"],
            "date": f"2026-06-{number + 1:02}",
        }
        query = {"user": ("ada", "grace")[number % 2], "metadata": json.dumps(metadata)}
        assert (await sidecar.add(path.stem, path.read_bytes(), "image", **query)).status == 201
    await sidecar.add("caption", b"a cat looks into the camera", user="grace")


async def _findings(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text() + "; undefined")
    found: list[dict[str, Any]] = await page.evaluate(
        "axe.run({resultTypes: ['violations']}).then((all) => all.violations)"
    )
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]} {each['nodes'][0]['failureSummary'][:300]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.skipif(not AXE.exists(), reason=f"axe-core is not there: {FETCHED}")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_state_is_accessible(sidecar: Sidecar, fake: FakeTorchServe, tabs: Tabs, scheme: str) -> None:
    found: dict[str, list[str]] = {}
    page = await tabs.open(sidecar.url, color_scheme=scheme)
    await expect(page.locator(".note h2")).to_be_visible()

    async def look(state: str) -> None:
        await page.screenshot(path=SCREENSHOTS / f"{scheme}-{state}.png")
        if findings := await _findings(page):
            found[state] = findings

    await look("empty")
    await photographs(sidecar)
    await page.reload()
    await expect(page.locator(".line")).to_have_text("End: 21 of 21")
    await look("newest")
    await page.goto(f"{sidecar.url}/#q=a+cat+looks+into+the+camera&-like=moon&cut=all&owner=grace")
    await expect(page.locator(".line")).to_contain_text("End")
    await page.get_by_role("button", name="Filters").click()
    await page.get_by_role("button", name="Scores").click()
    await expect(page.locator(".values button").first).to_be_visible()
    await look("question")
    await page.get_by_role("button", name="As a call").click()
    await look("calls")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Add", exact=True).click()
    await page.get_by_role("button", name="choose files").wait_for()
    await look("add")
    await page.keyboard.press("Escape")
    await page.goto(f"{sidecar.url}/#open=coffee")
    await expect(page.locator("dialog.viewer img")).to_be_visible()
    await page.get_by_role("button", name="Delete").wait_for()
    await look("content")
    await page.get_by_role("button", name="Delete").click()
    await look("delete")
    await page.get_by_role("button", name="Cancel").click()
    await page.goto(f"{sidecar.url}/#q=nothing&owner=nobody")
    await expect(page.locator(".note button").first).to_be_visible()
    await look("nothing")
    await page.goto(f"{sidecar.url}/#view=for&user=ada")
    await expect(page.locator(".because img").first).to_be_visible(timeout=30_000)
    await look("for-you")
    await page.set_viewport_size({"width": 360, "height": 740})
    await look("phone")
    fake.failure = "queue_full"
    await page.goto(f"{sidecar.url}/#q=busy&cut=all")
    await expect(page.locator(".trouble")).to_contain_text("busy", timeout=20_000)
    await look("trouble")
    fake.failure = None
    await expect(page.locator(".trouble")).to_be_empty(timeout=20_000)
    tabs.forgive("(Service Unavailable)")
    assert found == {}


@pytest.mark.skipif(not AXE.exists(), reason=f"axe-core is not there: {FETCHED}")
async def test_the_question_for_a_key_is_accessible(settings: Settings, tabs: Tabs) -> None:
    settings = replace(settings, access="keys")
    add_key(settings.path_of_keys, "reader", Role.READER, None, None)
    async with watched(settings, tabs) as sidecar:
        page = await tabs.open(sidecar.url, viewport={"width": 360, "height": 740})
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            await page.get_by_label("API key").fill("wrong")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("dialog")).to_contain_text("unknown, expired or revoked")
            await page.screenshot(path=SCREENSHOTS / f"{scheme}-key-phone.png")
            assert await _findings(page) == []
        tabs.forgive("401 (Unauthorized)")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("desktop", {"viewport": {"width": 1280, "height": 800}}),
        ("phone", {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "locale": "de-DE"}),
        ("4k", {"viewport": {"width": 3840, "height": 2160}, "locale": "it-IT"}),
    ],
)
async def test_it_fits_from_a_phone_to_a_wall(sidecar: Sidecar, tabs: Tabs, name: str, options: dict[str, Any]) -> None:
    await photographs(sidecar)
    page = await tabs.open(f"{sidecar.url}/#q=a+cat&cut=all&type=image", **options)
    await expect(page.locator(".line")).to_contain_text("20")
    await expect(page.locator(".tile img").first).to_be_visible()
    await page.wait_for_timeout(200)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    language = {"phone": "de", "4k": "it"}.get(name, "en")
    assert await page.evaluate("document.documentElement.lang") == language
    await page.locator(".tile a").first.click()
    await expect(page.locator("dialog.viewer dl")).to_be_visible()
    await page.screenshot(path=SCREENSHOTS / f"{name}-content.png")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_the_keyboard_is_enough(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar)
    page = await tabs.open(sidecar.url)
    await expect(page.locator(".line")).to_have_text("End: 13 of 13")
    press = page.keyboard.press
    await press("/")
    await page.keyboard.type("a cat")
    await press("Enter")
    await expect(page.locator("body.asked")).to_be_attached()
    await expect(page.locator(".line")).to_contain_text("End")

    async def tab_to(name: str) -> None:
        focused = "document.activeElement.ariaLabel ?? document.activeElement.textContent"
        for _ in range(60):
            await press("Tab")
            if name in await page.evaluate(focused):
                assert await page.evaluate("document.activeElement.matches(':focus-visible')")
                return
        raise AssertionError(f"{name} is not reached")

    await tab_to("Everything")  # the relevance
    await press("Enter")
    first = page.locator(".tile > a").first
    await expect(first).to_have_attribute("href", re.compile("cut=all"))  # the line of the newest said the same
    await expect(page.locator(".line")).to_have_text("End: 13 of 13")
    await first.focus()
    await press("ArrowRight")
    await press("ArrowDown")
    await press("ArrowUp")
    order = await shown(page)
    await press("Enter")
    await expect(page.locator("dialog.viewer dl")).to_be_visible()
    assert page.url.endswith(f"open={order[1]}")
    await press("ArrowRight")
    await expect(page.locator(".steps span").first).to_have_text("3 / 13")
    await tab_to("Delete")
    await press("Enter")
    await page.keyboard.press("Tab")
    await press("Enter")
    await expect(page.locator(".notice")).to_have_text("Deleted, for good.")
    await press("Escape")
    await expect(page.locator("dialog")).to_have_count(0)
    await expect(page.locator(".line")).to_have_text("End: 12 of 12")
    await press("/")
    await press("Escape")
    await expect(page.get_by_placeholder(SEARCH)).to_have_value("")
    await tab_to("Add")
    await press("Enter")
    await page.get_by_label("Or write a text").focus()
    await page.keyboard.type("by the keyboard")
    await press("Tab")
    await press("Enter")
    await expect(page.get_by_text("1 added")).to_be_visible()


async def test_what_a_search_loads_is_light(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar, 2)
    page = await tabs.open("about:blank")
    sizes: dict[str, int] = {}

    async def weigh(response: Any) -> None:
        if "/page/" in response.url or response.url == f"{sidecar.url}/":
            sizes[response.url] = len(await response.body())

    page.on("response", weigh)
    await page.goto(sidecar.url)
    await expect(page.locator(".line")).to_have_text("End: 3 of 3")
    await page.wait_for_timeout(100)
    assert len(sizes) > 15
    assert sum(sizes.values()) < 60_000, sizes


@pytest.mark.skipif(not TSC.exists() or shutil.which("node") is None, reason=f"TypeScript is not there: {FETCHED}")
def test_types_are_right() -> None:
    config = ROOT / "index_sidecar" / "http" / "web" / "jsconfig.json"
    done = subprocess.run(["node", TSC, "--project", config], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
