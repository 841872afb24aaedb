"""In a real browser, a page of somebody else can neither change an archive nor read from it, whatever it tries.

The one page is of another origin; the other is of a name that its owner turned to our address once the page was there
(DNS rebinding), so that to the browser it is of the same origin as we are.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Page

from index_sidecar.settings import Settings

from ..support.browser import NEEDS_BROWSER, browsing
from ..support.fake_torchserve import FINGERPRINT
from ..support.sidecar import Sidecar, running, with_keys

pytestmark = NEEDS_BROWSER

REBOUND = "evil.example"
# The newest browsers would keep pages from this machine by themselves; here it is our refusals that are tried.
BROWSER = (
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights",
)
# What a page can do: forms that navigate, requests by script with and without CORS, and what it embeds.
ATTEMPTS = """async (target) => {
  const outcome = {};
  const attempt = async (name, url, options) => {
    try {
      const answer = await fetch(target + url, options);
      outcome[name] = [answer.type, answer.status, await answer.text()];
    } catch (error) {
      outcome[name] = ["failed", 0, ""];
    }
  };
  for (const mode of ["no-cors", "cors", "same-origin"]) {
    const post = (body, more) => ({method: "POST", mode, body, ...more});
    await attempt(`add ${mode}`, "/add_content?id=evil&type=text", post("evil"));
    await attempt(`add a form ${mode}`, "/add_content?id=evil-form&type=text", post(new URLSearchParams({a: "b"})));
    await attempt(`replace ${mode}`, "/add_content?id=mine&type=text&user=ann", post("evil"));
    await attempt(`add as of old ${mode}`, "/mv_retrieval/v0.1/add_content?id=evil-old&type=text", post("evil"));
    await attempt(`retrieve ${mode}`, "/retrieve?type=text", post("secret"));
    await attempt(`search ${mode}`, "/search", post('{"query": [{"text": "secret"}]}'));
    const form = new FormData();
    form.append("text", new File(["evil"], "evil-many"));
    await attempt(`add many ${mode}`, "/contents", post(form));
    await attempt(`read ${mode}`, "/contents?id=mine", {mode});
    await attempt(`list ${mode}`, "/contents", {mode});
    await attempt(`preview ${mode}`, "/contents/mine/preview", {mode});
    await attempt(`health ${mode}`, "/health", {mode});
  }
  for (const mode of ["cors", "same-origin"]) {
    await attempt(`delete ${mode}`, "/contents/mine", {method: "DELETE", mode});
    await attempt(`delete by its id ${mode}`, "/contents?id=mine", {method: "DELETE", mode});
    await attempt(`change ${mode}`, "/contents?id=mine", {method: "PATCH", mode, body: '{"title": "evil"}'});
    await attempt(`delete a user ${mode}`, "/users/contents?user=ann", {method: "DELETE", mode});
  }
  const embed = (kind, url) => new Promise((done) => {
    const element = document.createElement(kind);
    element.onload = () => done("loaded");
    element.onerror = () => done("failed");
    element.src = target + url;
    document.body.append(element);
  });
  outcome["image"] = [await embed("img", "/contents/picture/preview"), 0, ""];
  outcome["script"] = [await embed("script", "/contents/mine/preview"), 0, ""];
  return outcome;
}"""
FORM = """([target, encoding]) => {
  const form = document.createElement("form");
  form.method = "POST";
  form.enctype = encoding;
  form.action = target + "/add_content?id=evil-by-form&type=text";
  const field = document.createElement("input");
  field.name = "file";
  field.value = "evil";
  form.append(field);
  document.body.append(form);
  form.submit();
}"""


async def _open(page: Page, origin: str) -> None:
    """A page of an origin that only this browser knows; all else that is asked goes where its name leads."""

    async def ours(route: Any) -> None:
        await route.fulfill(content_type="text/html", body="<title>a foreign page</title><body>")

    await page.route(f"{origin}/page", ours)
    await page.goto(f"{origin}/page")


async def _fill(sidecar: Sidecar, picture: bytes) -> Any:
    await sidecar.add("mine", b"a secret", user="ann")
    await sidecar.add("picture", picture, "image", user="ann")
    return await _archive(sidecar)


async def _archive(sidecar: Sidecar) -> Any:
    return (await sidecar.call("GET", "/contents")).json, (await sidecar.retrieve(b"a secret")).json


@pytest.fixture
def picture() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("access", ["open", "keys"])
@pytest.mark.parametrize("kind", ["another origin", "a rebound name"])
async def test_a_foreign_page_changes_nothing_and_reads_nothing(
    settings: Settings, kind: str, access: str, picture: bytes
) -> None:
    # With keys, a rebound page is served by any name; but it has no key.
    settings = with_keys(settings) if access == "keys" else replace(settings, access="open")
    refused = {"open": {421}, "keys": {401}}[access] if kind == "a rebound name" else {403}
    async with running(settings) as sidecar, browsing(*BROWSER) as (page, _):
        before = await _fill(sidecar, picture)
        port = sidecar.client.port
        origin = f"http://{REBOUND}:{port}" if kind == "a rebound name" else f"http://{REBOUND}:1"
        target = origin if kind == "a rebound name" else sidecar.url
        await _open(page, origin)
        outcome = await page.evaluate(ATTEMPTS, target)
        assert len(outcome) == 43
        for name, (how, status, text) in outcome.items():
            told_nothing = how in ("failed", "opaque") or status in refused or name.startswith("health")
            assert told_nothing, (name, how, status, text)
            assert "ann" not in text, name
            assert "secret" not in text, name
            assert FINGERPRINT not in text, name
        if kind == "a rebound name":
            statuses = {status for name, (_, status, _) in outcome.items() if not name.startswith("health")}
            assert statuses == refused | {0}  # 0: what is embedded
        for encoding in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
            await _open(page, origin)
            async with page.expect_navigation(url="**evil-by-form**") as navigation:
                await page.evaluate(FORM, [target, encoding])
            answer = await navigation.value
            assert answer is not None
            assert answer.status in refused
        assert await _archive(sidecar) == before


async def test_a_page_of_an_origin_that_is_let_in_can(settings: Settings, picture: bytes) -> None:
    """So the attempts above would have done something."""
    origin = f"http://{REBOUND}:1"
    async with (
        running(replace(settings, access="open", cors_origins=(origin,))) as sidecar,
        browsing(*BROWSER) as (page, _),
    ):
        await _fill(sidecar, picture)
        await _open(page, origin)
        outcome = await page.evaluate(ATTEMPTS, sidecar.url)
        assert outcome["add no-cors"][0] == "opaque"
        assert '"status": "unchanged"' in outcome["add cors"][2]  # added by the one before, which could not see it
        assert outcome["read cors"][1] == 200
        assert outcome["delete cors"][1] == 204
        assert outcome["image"][0] == "failed"  # it is deleted by now
        reply = await sidecar.call("GET", "/contents")
        assert "evil" in [each["id"] for each in reply.json["contents"]]
        assert "mine" not in [each["id"] for each in reply.json["contents"]]
