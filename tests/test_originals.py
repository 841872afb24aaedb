"""Originals over HTTP: the bytes as they came, whole and in part, as ORIGINALS says, and gone with their content."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clip_archive import AsyncArchive, Exported, Item, PartlyFailed
from clip_archive.exporting import Export
from index_sidecar.archive.content import digest
from index_sidecar.settings import Settings

from .support.erasing import on_disk
from .support.fake_torchserve import PNG
from .support.sidecar import ADMIN_KEY, Sidecar, path_of, running, with_keys

TEXT = "Ein Text, länger als seine Vorschau. ".encode() * 40
PICTURE = PNG + os.urandom(700_000)


async def _got(sidecar: Sidecar, content_id: str, **headers: str) -> tuple[int, bytes, Any]:
    url = f"{sidecar.url}{path_of(content_id)}/original"
    async with sidecar.client.session.get(url, headers=headers) as response:
        return response.status, await response.read(), response.headers


def _files(data_dir: Path) -> list[Path]:
    return [path for path in (data_dir / "originals").rglob("*") if path.is_file()]


@pytest.fixture
def keeping(settings: Settings) -> Settings:
    """Settings of an archive that keeps all originals."""
    return replace(settings, originals="all")


async def test_the_bytes_come_back_as_they_came(keeping: Settings) -> None:
    async with running(keeping) as sidecar:
        await sidecar.add("a/ä", TEXT)
        await sidecar.add("p", PICTURE, "image")
        for content_id, data, media in (("a/ä", TEXT, "text/plain; charset=utf-8"), ("p", PICTURE, "image/png")):
            status, body, headers = await _got(sidecar, content_id)
            assert (status, body) == (200, data)
            assert headers["Content-Type"] == media
            assert headers["Content-Disposition"] == "attachment"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in headers["Content-Security-Policy"]
            assert headers["ETag"] == f'"{digest(data).hex()}"'
            assert headers["Cache-Control"] == "private, no-cache"
            assert int(headers["Content-Length"]) == len(data)
            assert (await _got(sidecar, content_id, **{"If-None-Match": headers["ETag"]}))[:2] == (304, b"")
            async with sidecar.client.session.head(f"{sidecar.url}{path_of(content_id)}/original") as head:
                assert (head.status, int(head.headers["Content-Length"])) == (200, len(data))
        url = f"{sidecar.url}/contents/original?id=p"
        async with sidecar.client.session.get(url) as response:
            assert await response.read() == PICTURE
        await sidecar.add("original", b"called so")
        assert (await sidecar.call("GET", "/contents/original")).json["id"] == "original"
        (metrics,) = [
            line.split()
            async for line in (await sidecar.client.session.get(f"{sidecar.url}/metrics")).content
            if line.startswith(b'clip_originals_bytes{type="image"}')
        ]
        assert float(metrics[1]) == len(PICTURE)


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=1000-299999", 206, slice(1000, 300_000)),
        ("BYTES=500000-", 206, slice(500_000, None)),
        ("bytes=-10", 206, slice(-10, None)),
        ("bytes=-9999999999", 206, slice(None)),
        (f"bytes=700000-{10**17}", 206, slice(700_000, None)),
        ("bytes=9999999-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=" + "9" * 5000 + "-", 200, slice(None)),
    ],
)
async def test_a_range(keeping: Settings, asked: str, status: int, part: slice | None) -> None:
    async with running(keeping) as sidecar:
        await sidecar.add("p", PICTURE, "image")
        got, body, headers = await _got(sidecar, "p", Range=asked)
        assert got == status
        if part is None:
            assert headers["Content-Range"] == f"bytes */{len(PICTURE)}"
            reply = await sidecar.call("GET", "/contents/p/original", headers={"Range": asked})
            assert reply.error == (416, "unsatisfiable_range")
            return
        assert body == PICTURE[part]
        if status == 206:
            start, stop, _ = part.indices(len(PICTURE))
            assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(PICTURE)}"
            other = await _got(sidecar, "p", Range=asked, **{"If-Range": '"another"'})
            assert other[:2] == (200, PICTURE)
            same = await _got(sidecar, "p", Range=asked, **{"If-Range": headers["ETag"]})
            assert same[:2] == (206, body)


async def test_what_is_not_kept_is_told_and_the_same_bytes_again_give_it(settings: Settings) -> None:
    async with running(replace(settings, originals="none")) as sidecar:
        await sidecar.add("t", TEXT)
        await sidecar.add("p", PICTURE, "image")
        for content_id in ("t", "p"):
            assert (await sidecar.call("GET", f"/contents/{content_id}/original")).error == (404, "no_original")
            assert (await sidecar.call("GET", f"/contents/{content_id}")).json["original"] is False
        assert (await sidecar.call("GET", "/contents/nothing/original")).error == (404, "not_found")
        shown = await _preview(sidecar, "t")
    async with running(settings) as sidecar:  # texts, by default
        assert (await sidecar.add("t", TEXT)).json["status"] == "unchanged"
        assert (await sidecar.add("p", PICTURE, "image")).json["status"] == "unchanged"
        assert (await _got(sidecar, "t"))[1] == TEXT
        assert await _preview(sidecar, "t") == shown
        assert (await sidecar.call("GET", "/contents/p/original")).error == (404, "no_original")
    assert not (settings.data_dir / "originals").exists()
    async with running(replace(settings, originals="all")) as sidecar:
        assert (await sidecar.add("p", PICTURE, "image")).json["status"] == "unchanged"
        assert (await _got(sidecar, "p"))[1] == PICTURE
        assert (await sidecar.call("GET", "/contents/p")).json["original"] is True
    async with running(replace(settings, originals="none")) as sidecar:  # what is kept stays
        assert (await _got(sidecar, "p"))[1] == PICTURE
        assert (await _got(sidecar, "t"))[1] == TEXT


async def _preview(sidecar: Sidecar, content_id: str) -> bytes:
    async with sidecar.client.session.get(f"{sidecar.url}/contents/{content_id}/preview") as response:
        assert response.status == 200
        return await response.read()


async def test_the_same_bytes_share_a_file_that_goes_with_the_last(keeping: Settings) -> None:
    piece = PICTURE[300_000:300_064]
    async with running(keeping) as sidecar:
        await asyncio.gather(*(sidecar.add(f"p{i}", PICTURE, "image") for i in range(8)))
        (file,) = _files(keeping.data_dir)
        assert file.name == digest(PICTURE).hex()
        assert file.stat().st_mode & 0o777 == 0o600
        assert (await sidecar.add("p0", b"a text instead")).json["status"] == "replaced"
        for number in range(1, 7):
            assert (await sidecar.call("DELETE", f"/contents/p{number}")).status == 204
        assert (await _got(sidecar, "p7"))[1] == PICTURE
        held = file.open("rb")  # as its blocks on the disk
        assert (await sidecar.call("DELETE", "/contents/p7")).status == 204
        assert _files(keeping.data_dir) == []
        with held:
            assert held.read() == bytes(len(PICTURE))
        assert piece not in on_disk(keeping.data_dir)
        assert (await sidecar.add("again", PICTURE, "image")).status == 201
        assert (await _got(sidecar, "again"))[1] == PICTURE


async def test_who_is_reading_while_it_is_erased_gets_no_zeros(keeping: Settings) -> None:
    large = PNG + os.urandom(24_000_000)  # more than what waits on the way
    async with running(keeping) as sidecar:
        await sidecar.add("p", large, "image")
        async with sidecar.client.session.get(f"{sidecar.url}/contents/p/original") as response:
            start = await response.content.readexactly(1000)
            assert (await sidecar.call("DELETE", "/contents/p")).status == 204
            got = bytearray(start)
            with pytest.raises(Exception, match=r"payload|closed|reset|disconnected"):  # noqa: PT012
                async for piece in response.content.iter_any():
                    got += piece
            assert large.startswith(got)
            assert len(got) < len(large)
        assert (await sidecar.call("GET", "/contents/p/original")).error == (404, "not_found")


async def test_an_export_takes_texts_along_and_an_import_gives_them_back(settings: Settings, tmp_path: Path) -> None:
    settings = with_keys(settings)
    async with running(settings) as sidecar, AsyncArchive(sidecar.url, key=ADMIN_KEY) as archive:
        await archive.add_contents([Item("t", TEXT.decode()), Item("u", "another")])
        lines = [line async for line, found in archive.export_lines(Export(vectors=True, originals=True)) if found]
        assert {(await archive.get_original(each))[:20] for each in ("t", "u")} == {TEXT[:20], b"another"}
    other = replace(settings, data_dir=tmp_path / "other")
    async with running(other) as sidecar, AsyncArchive(sidecar.url, key=ADMIN_KEY) as archive:
        await archive.add_contents(Exported(line) for line in lines)
        assert await archive.get_original("t") == TEXT
        assert await archive.get_original("u") == b"another"
        changed = {**json.loads(lines[0]), "id": "v"}
        for original in (base64.b64encode(b"of other bytes").decode(), "###"):
            with pytest.raises(PartlyFailed) as raised:
                await archive.add_contents([Exported(json.dumps({**changed, "original": original}).encode())])
            assert [each.error.code for each in raised.value.failures] == ["invalid_exported"]


async def test_a_refused_picture_leaves_no_file(keeping: Settings) -> None:
    async with running(keeping) as sidecar:
        assert (await sidecar.add("p", b"no picture at all", "image")).status == 415
        assert _files(keeping.data_dir) == []
