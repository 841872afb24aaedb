"""Questions: by words, by pictures however they come, by parts; what is typed while an answer is under way."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Page, Route, expect

from ..support.browser import NEEDS_BROWSER
from ..support.fake_torchserve import FakeTorchServe
from ..support.previewed import png
from ..support.sidecar import AUTHORIZATION, Sidecar
from .conftest import Tabs
from .steps import SEARCH, shown, some

pytestmark = NEEDS_BROWSER


async def asked(page: Page, what: str = "/search") -> dict[str, object]:
    """The JSON of the next question."""
    async with page.expect_request(lambda request: request.url.endswith(what)) as request:
        await page.keyboard.press("Enter")
    body = (await request.value).post_data_json
    assert isinstance(body, dict)
    return body


async def test_words_find_and_the_address_says_what_was_asked(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar)
    page = await tabs.open(sidecar.url)
    await expect(page.locator(".line")).to_have_text("End: 13 of 13")
    assert (await shown(page))[0] == "caption"  # the newest first
    await page.keyboard.press("/")
    await page.keyboard.type("a cat looks into the camera")
    await page.keyboard.press("Enter")
    await expect(page.locator(".tile").first).to_contain_text("a cat looks into the camera")
    assert page.url.endswith("#q=a+cat+looks+into+the+camera")
    await page.reload()
    await expect(page.get_by_placeholder(SEARCH)).to_have_value("a cat looks into the camera")
    await expect(page.locator(".tile").first).to_contain_text("a cat looks into the camera")
    await page.go_back()
    await expect(page.locator(".line")).to_have_text("End: 13 of 13")
    await expect(page.get_by_placeholder(SEARCH)).to_have_value("")


async def test_a_picture_finds_itself_chosen_dropped_or_pasted(sidecar: Sidecar, tabs: Tabs, tmp_path: Path) -> None:
    await some(sidecar)
    page = await tabs.open(sidecar.url)
    (tmp_path / "seven.png").write_bytes(png(7))
    searches: list[str] = []
    page.on("request", lambda request: searches.append(request.url) if request.url.endswith("/search") else None)

    await page.locator("form.bar input[type=file]").set_input_files(tmp_path / "seven.png")
    await expect(page.locator(".chip")).to_contain_text("seven.png")
    await expect(page.locator(".tile > a").first).to_have_attribute("aria-label", "Pictures: Picture 7")
    given = "data => { const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));"
    given += " const transfer = new DataTransfer(); const file = new File([bytes], 'pasted.png', {type: 'image/png'});"
    paste = (
        "document.activeElement.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true}))"
    )
    for number, html in ((5, ""), (3, "<img src=https://example.org/x.png>")):  # a screenshot; "copy image"
        await page.get_by_placeholder(SEARCH).focus()
        with_html = f"transfer.setData('text/html', '{html}');" if html else ""
        await page.evaluate(
            f"{given} transfer.items.add(file); {with_html} {paste} }}", base64.b64encode(png(number)).decode()
        )
        await expect(page.locator(".chip")).to_contain_text("pasted.png")
        await expect(page.locator(".tile > a").first).to_have_attribute("aria-label", f"Pictures: Picture {number}")
    drop = (
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}))"
    )
    await page.evaluate(f"{given} transfer.items.add(file); {drop} }}", base64.b64encode(png(4)).decode())
    await expect(page.locator(".tile > a").first).to_have_attribute("aria-label", "Pictures: Picture 4")
    assert len(searches) == 4  # each once

    word = "transfer.setData('text/plain', 'a cell'); transfer.setData('text/html', '<td>a cell</td>');"
    await page.evaluate(f"{given} {word} transfer.items.add(file); {paste} }}", base64.b64encode(png(1)).decode())
    await page.wait_for_timeout(100)
    assert len(searches) == 4  # a cell of a spreadsheet is its text

    await page.reload()
    await expect(page.locator(".note")).to_contain_text("only kept in the tab")


async def test_a_picture_that_no_browser_shows_is_asked_by_all_the_same(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar, 2)
    page = await tabs.open(sidecar.url)
    await page.evaluate(
        """() => { const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array([0, 0, 0, 24, 102, 116, 121, 112])], 'IMG_1.HEIC'));
        const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
        document.body.dispatchEvent(new DragEvent('drop', options)) }"""
    )
    await expect(page.locator(".chip")).to_contain_text("IMG_1.HEIC")
    await expect(page.locator(".chip .thumb svg")).to_be_visible()
    await expect(page.locator(".note")).to_contain_text("not an image")  # as the archive says it
    await expect(page.get_by_role("button", name="Copy the request's id")).to_be_visible()
    tabs.forgive("415")


async def test_an_input_method_keeps_its_enter_and_its_escape(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar, 2)
    page = await tabs.open(sidecar.url)
    searches: list[str] = []
    page.on("request", lambda request: searches.append(request.url) if "/search" in request.url else None)
    await page.keyboard.press("/")
    session = await page.context.new_cdp_session(page)
    await session.send("Input.imeSetComposition", {"text": "ねこ", "selectionStart": 2, "selectionEnd": 2})
    enter = {"windowsVirtualKeyCode": 229, "key": "Enter", "code": "Enter"}
    await session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    await session.send("Input.insertText", {"text": "猫"})  # the composition ends ...
    await page.keyboard.press("Enter")  # ... and the key that ended it comes after
    await page.wait_for_timeout(100)
    assert searches == []
    await expect(page.get_by_placeholder(SEARCH)).to_have_value("猫")
    await page.keyboard.press("Enter")
    await expect(page.locator("body.asked")).to_be_attached()
    assert len(searches) == 1
    await page.keyboard.press("Escape")
    await expect(page.get_by_placeholder(SEARCH)).to_have_value("")


async def test_only_the_last_question_counts(sidecar: Sidecar, tabs: Tabs, fake: FakeTorchServe) -> None:
    await some(sidecar)
    page = await tabs.open(sidecar.url)

    async def later(route: Route) -> None:
        if '"slow"' in (route.request.post_data or ""):
            await asyncio.sleep(0.6)
        await route.continue_()

    await page.route("**/search", later)
    await page.goto(f"{sidecar.url}/#q=slow&cut=all")
    await page.goto(f"{sidecar.url}/#q=a+cat+looks+into+the+camera&cut=all")
    await expect(page.locator(".tile").first).to_contain_text("a cat looks")
    await page.wait_for_timeout(800)
    await expect(page.locator(".tile").first).to_contain_text("a cat looks")
    await expect(page.locator("[role=alert]:visible")).to_have_count(0)
    await page.unroute_all(behavior="ignoreErrors")


async def test_more_and_less_like_this_are_parts(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar)
    page = await tabs.open(f"{sidecar.url}/#q=a+cat&cut=all")
    tile = page.locator(".tile.image").first
    await tile.hover()
    await tile.get_by_role("button", name="Less of").click()
    await expect(page.locator(".chip.less")).to_have_count(1)
    await expect(page.locator(".line")).to_have_text("End: 12 of 12")  # it is in no answer itself
    assert "q=a+cat" in page.url
    await page.locator(".chip button").first.click()  # its sign: more of it
    await expect(page.locator(".chip.less")).to_have_count(0)
    await page.locator(".tile.image a").first.click()
    await page.locator("dialog").get_by_role("button", name="More like this", exact=True).click()
    await expect(page.locator("dialog")).to_have_count(0)
    await expect(page.locator(".chip")).to_have_count(1)
    await expect(page.locator(".chip .thumb img")).to_be_visible()
    await page.get_by_placeholder(SEARCH).fill("at night")
    body = await asked(page)
    assert [sorted(part) for part in body["query"]] == [["id"], ["text"]]  # type: ignore[attr-defined]
    await page.goto(f"{sidecar.url}/#-q=rain")
    await expect(page.locator(".note")).to_contain_text("only what you want less of")


async def test_a_clicked_value_filters_with_all_its_digits(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar)
    page = await tabs.open(sidecar.url)
    await page.locator(".tile.image a").first.click()
    await page.get_by_role("button", name="odd", exact=True).click()
    await expect(page.locator(".line")).to_have_text("End: 6 of 6")
    await page.locator(".tile.image a").first.click()
    await page.get_by_role("button", name=str(2**60 + 11), exact=True).click()
    await expect(page.locator(".line")).to_have_text("End: 1 of 1")
    assert await shown(page) == ["picture-11"]
    await page.reload()
    await expect(page.locator(".line")).to_have_text("End: 1 of 1")
    for _ in range(2):
        await page.locator(".on .chip button").first.click()
    await expect(page.locator(".line")).to_have_text("End: 13 of 13")
    await page.get_by_role("button", name="Filters").click()
    await page.get_by_label("Not by").fill("ada")
    await page.get_by_label("Not by").press("Enter")
    await expect(page.locator(".line")).to_have_text("End: 6 of 6")


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
async def test_days_are_those_of_the_browser(sidecar: Sidecar, tabs: Tabs, zone: str) -> None:
    await some(sidecar, 2)
    page = await tabs.open(sidecar.url, timezone_id=zone)
    today = await page.evaluate("new Intl.DateTimeFormat('sv').format()")
    async with page.expect_request(re.compile("filter=")) as request:
        await page.goto(f"{sidecar.url}/#from={today}&to={today}")
    await expect(page.locator(".line")).to_have_text("End: 3 of 3")
    (given,) = parse_qs(urlsplit((await request.value).url).query)["filter"]
    bounds = json.loads(given)["must"][0]["range"]
    hour = {"Asia/Tokyo": "T15:00", "America/Los_Angeles": "T08:00"}[zone]
    assert hour in bounds["gte"]
    assert hour in bounds["lt"]


async def test_the_question_as_curl_answers_the_same(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar)
    page = await tabs.open(f"{sidecar.url}/#q=it%27s+a+cat&cut=all&type=image")
    await expect(page.locator(".line")).to_have_text("End: 12 of 12")
    await page.get_by_role("button", name="As a call").click()
    command = await page.locator("pre").first.inner_text()
    answer = json.loads(await page.locator("pre").last.inner_text())
    shell = "curl --silent " + " ".join(f"--header '{name}: {value}'" for name, value in AUTHORIZATION.items())
    command = command.replace("curl", shell, 1)
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert json.loads(output)["contents"] == answer["contents"]
