"""The page's files as the sidecar gives them: strict towards browsers, light, and the same in every language."""

from __future__ import annotations

import re

from index_sidecar.http.search_page import sent
from index_sidecar.settings import Settings

from ..support.sidecar import ROOT, Sidecar, running

FOLDER = ROOT / "index_sidecar" / "http" / "web" / "page"
MODULES = sorted(FOLDER.glob("*.js"))
TRANSLATIONS = sorted(FOLDER.glob("strings.*.js"))


async def test_every_file_comes_under_a_strict_policy_and_is_kept_by_its_etag(settings: Settings) -> None:
    async with running(settings) as sidecar:
        for path in ("/", *(f"/page/{each.name}" for each in FOLDER.iterdir() if each.name != "index.html")):
            async with sidecar.client.session.get(sidecar.url + path) as response:
                policy = response.headers["Content-Security-Policy"]
                assert (response.status, response.headers["X-Content-Type-Options"]) == (200, "nosniff")
                assert "default-src 'none'" in policy
                assert "require-trusted-types-for 'script'" in policy
                assert "unsafe" not in policy
                tag = response.headers["ETag"]
                assert await response.read()
            async with sidecar.client.session.get(sidecar.url + path, headers={"If-None-Match": tag}) as again:
                assert (again.status, await again.read()) == (304, b"")
        assert (await sidecar.call("GET", "/page/index.html")).error == (404, "not_found")


async def test_who_asks_is_told_what_they_may_do(sidecar: Sidecar) -> None:
    assert (await sidecar.call("GET", "/caller")).json == {"role": "admin", "user": None}


def test_only_comments_and_indentation_are_left_out_of_what_is_sent() -> None:
    source = '// One.\n/** @type {string} */\nexport const a = "/*,x"; // 2\n  b(/** @type {any} */ (a)); // 3\n'
    assert sent("a.js", source) == b'export const a = "/*,x";\nb((a));\n'
    css = ".a :hover, b {\n  margin: 0 1px; width: calc(1px + 2px);\n}\n@media (max-width: 9px) { c { top: 0; } }\n"
    small = b".a :hover,b{margin:0 1px;width:calc(1px + 2px);}@media (max-width:9px){c{top:0;}}"
    assert sent("a.css", css) == small
    assert sent("a.svg", " <svg/> ") == b" <svg/> "


def test_no_module_makes_markup_of_texts() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|https?://(?!www\.w3\.org/2000/svg)"
    )
    for module in MODULES:
        assert forbidden.findall(module.read_text()) == [], module.name


def test_translations_have_every_name() -> None:
    def names(text: str) -> list[str]:
        return re.findall(r"^\s+(\w+):", re.sub(r"\{ .*? \}", "", text), re.MULTILINE)

    english, *others = (
        names(each.read_text()) for each in sorted(TRANSLATIONS, key=lambda path: "en" not in path.name)
    )
    assert len(english) > 90
    assert [sorted(other) for other in others] == [sorted(english)] * len(others)


def test_modules_are_of_one_idea() -> None:
    assert {each.name: lines for each in MODULES if (lines := each.read_text().count("\n")) > 250} == {}
