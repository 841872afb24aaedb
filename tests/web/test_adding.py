"""Adding and erasing by the page: a result for each of several files, links to duplicates, deletions."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import expect

from ..support.browser import NEEDS_BROWSER
from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.previewed import png
from ..support.sidecar import AUTHORIZATION, Sidecar
from .conftest import Tabs
from .steps import SEARCH, some

pytestmark = NEEDS_BROWSER


async def test_of_three_files_the_broken_one_says_why(
    sidecar: Sidecar, tabs: Tabs, fake: FakeTorchServe, tmp_path: Path
) -> None:
    await some(sidecar, 2)
    files = [tmp_path / name for name in ("red.png", "broken.png", "copy.png")]
    for path, data in zip(files, (png(9), PNG + b"broken", png(0)), strict=True):
        path.write_bytes(data)
    page = await tabs.open(sidecar.url)
    fake.still_decoding = 1  # one 503 on the way
    await page.get_by_role("button", name="Add").click()
    dialog = page.locator("dialog.adding")
    await dialog.get_by_label("Owner").fill("ada")
    await dialog.get_by_label("Metadata, a line each").fill("tags: new, three")
    await dialog.locator("input[type=file]").set_input_files(files)
    await expect(dialog.locator(".files li")).to_have_count(3)
    await expect(dialog.get_by_text("2 added, 1 not")).to_be_visible()
    lines = dialog.locator(".files li")
    await expect(lines.nth(0)).to_contain_text("added")
    await expect(lines.nth(1)).to_contain_text("not added: the image file is broken or truncated")
    await expect(lines.nth(2)).to_contain_text("the same is here already: picture-0")
    await lines.nth(2).get_by_role("button", name="Remove this one again").click()
    await expect(lines.nth(2)).to_contain_text("removed again")
    await dialog.get_by_label("Or write a text").fill("a text of today")
    await dialog.get_by_role("button", name="Add the text").click()
    await expect(dialog.get_by_text("3 added, 1 not")).to_be_visible()
    await dialog.get_by_role("button", name="Done").click()
    await expect(page.locator(".line")).to_have_text("End: 5 of 5")
    await expect(page.locator(".tile").first).to_contain_text("a text of today")
    stored = (await sidecar.call("GET", "/contents?order=newest", headers=AUTHORIZATION)).json["contents"]
    (red,) = [each for each in stored if each["id"].startswith("red-")]
    assert (red["user"], red["metadata"]) == ("ada", {"title": "red", "tags": ["new", "three"]})
    tabs.forgive("400 (Bad Request)")


async def test_files_dropped_on_add_are_added_and_not_searched_by(sidecar: Sidecar, tabs: Tabs) -> None:
    page = await tabs.open(sidecar.url)
    await expect(page.get_by_role("heading", name="The archive is empty")).to_be_visible()
    await page.evaluate(
        """() => { const transfer = new DataTransfer();
        transfer.items.add(new File(['a note of mine'], 'note.txt', {type: 'text/plain'}));
        const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
        document.body.dispatchEvent(new DragEvent('dragenter', options));
        document.querySelector('.to-add').dispatchEvent(new DragEvent('drop', options)) }"""
    )
    await expect(page.get_by_text("1 added")).to_be_visible()
    await page.get_by_role("button", name="Done").click()
    await expect(page.locator(".tile")).to_contain_text("a note of mine")


async def test_a_deletion_is_asked_for_and_final(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar, 3)
    page = await tabs.open(sidecar.url)
    await page.locator(".tile.image a").first.click()
    viewer = page.locator("dialog.viewer")
    await viewer.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog", name="Delete “Picture 2”?")
    await expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(question).to_have_count(0)
    await viewer.get_by_role("button", name="Delete").click()
    await question.get_by_role("button", name="Delete").click()
    await expect(page.locator(".notice")).to_have_text("Deleted, for good.")
    await expect(viewer.locator("h2")).to_have_text("Picture 1")  # the next one
    await page.keyboard.press("Escape")
    await expect(page.locator(".line")).to_have_text("End: 3 of 3")
    assert (await sidecar.call("GET", "/contents/picture-2", headers=AUTHORIZATION)).status == 404


async def test_recommendations_say_because_of_what(sidecar: Sidecar, tabs: Tabs) -> None:
    await some(sidecar)
    page = await tabs.open(sidecar.url)
    await page.get_by_role("button", name="For you").click()
    await page.get_by_label("Your name in the archive").fill("ada")
    await page.get_by_role("button", name="Show", exact=True).click()
    reason = page.locator(".tile .because").first
    await expect(reason).to_contain_text("because of", timeout=30_000)  # the first ones take long to compute
    await reason.click()
    await expect(page.locator("dialog.viewer .about dl")).to_contain_text("ada")
    await page.keyboard.press("Escape")
    await page.goto(f"{sidecar.url}/#view=for&user=nobody")
    await expect(page.locator(".note")).to_contain_text("added nothing yet")
    await page.keyboard.press("/")
    await expect(page.get_by_placeholder(SEARCH)).to_be_focused()
