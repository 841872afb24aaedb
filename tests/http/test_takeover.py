"""What an export gives, POST /contents takes from an admin: every row equal, and the model is not asked."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from clip_archive import AsyncArchive, Conflict, Exported, Forbidden, Item, PartlyFailed
from clip_archive.lines import ExportedContent
from index_sidecar.access.command import add_key
from index_sidecar.access.roles import Role
from index_sidecar.settings import Settings

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.fake_vectors import vector_of
from ..support.sidecar import ADMIN_KEY, running, with_keys

KEY = ADMIN_KEY


def _asked(fake: FakeTorchServe) -> int:
    """How often the model was asked for a content, not whether it is there."""
    return sum(request.data != b"ready?" for request in fake.requests)


def _id(content: ExportedContent) -> str:
    return content.id


def _line(**changes: Any) -> bytes:
    vector = base64.b64encode(vector_of(b"a", "text").tobytes()).decode()
    line: dict[str, Any] = {
        "id": "a",
        "type": "text",
        "user": "ann",
        "sha256": "ab" * 32,
        "created": 1.5,
        "truncated": False,
        "metadata": {"n": 1},
        "vector": vector,
        "model": "clip-vit-b-32:untrained:0123456789abcdef:p1",
    }
    return json.dumps({key: value for key, value in (line | changes).items() if value != "left out"}).encode()


async def test_an_archive_moves_without_its_model(settings: Settings, fake: FakeTorchServe) -> None:
    settings = with_keys(settings)
    elsewhere = replace(settings, data_dir=settings.data_dir / "elsewhere")
    async with (
        running(settings) as here,
        running(elsewhere) as there,
        AsyncArchive(here.url, key=KEY) as source,
        AsyncArchive(there.url, key=KEY) as target,
    ):
        items = [Item(f"text/{n} ü", f"text {n} " * n, user="ann", metadata={"n": n}) for n in range(1, 121)]
        items += [Item(f"picture {n}", PNG + b"picture %d" % n) for n in range(30)]
        await source.add_contents(items)
        exported = sorted([each async for each in source.export(vectors=True, previews=True)], key=_id)
        asked = _asked(fake)
        lines = [Exported(msgspec.json.encode(each)) for each in exported]
        assert {each.status for each in await target.add_contents(lines)} == {"added"}
        assert sorted([each async for each in target.export(vectors=True, previews=True)], key=_id) == exported
        assert {each.status for each in await target.add_contents(lines)} == {"unchanged"}
        assert _asked(fake) == asked
        assert (await target.retrieve("text 7 " * 7, k=1)).contents[0].id == "text/7 ü"
        assert await target.get_preview("text/7 ü") == await source.get_preview("text/7 ü")
        assert [each.id for each in (await target.get_similar("picture 3", k=2, target="image")).contents] == [
            each.id for each in (await source.get_similar("picture 3", k=2, target="image")).contents
        ]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "clip-vit-b-32:official:0123456789abcdef:p1"}, "other_model"),
        ({"model": "left out"}, "invalid_exported"),
        ({"model": "two words"}, "invalid_exported"),
        ({"vector": "left out"}, "invalid_exported"),
        ({"vector": "###"}, "invalid_exported"),
        ({"vector": base64.b64encode(bytes(2048)).decode()}, "invalid_exported"),
        ({"vector": base64.b64encode(np.full(512, np.nan, "<f4").tobytes()).decode()}, "invalid_exported"),
        ({"vector": base64.b64encode((2 * vector_of(b"a", "text")).tobytes()).decode()}, "invalid_exported"),
        ({"vector": base64.b64encode(vector_of(b"a", "text").tobytes()[:-4]).decode()}, "invalid_exported"),
        ({"sha256": "ab"}, "invalid_exported"),
        ({"created": -1.0}, "invalid_exported"),
        ({"created": "left out"}, "invalid_exported"),
        ({"type": "sound"}, "invalid_exported"),
        ({"id": ""}, "invalid_id"),
        ({"id": "a\nb"}, "invalid_id"),
        ({"user": "a\nb"}, "invalid_user"),
        ({"metadata": {"type": "x"}}, "invalid_metadata"),
        ({"metadata": {"long": "x" * 5000}}, "invalid_metadata"),
        ({"preview": "###"}, "invalid_exported"),
        ({"preview": base64.b64encode(b"\xff").decode()}, "invalid_exported"),
        ({"type": "image", "preview": base64.b64encode(b"<script>").decode()}, "invalid_exported"),
        ({"preview": "x" * 300_000}, "too_large"),
    ],
)
async def test_what_is_not_in_order_is_refused(settings: Settings, changes: dict[str, Any], code: str) -> None:
    async with running(with_keys(settings)) as sidecar, AsyncArchive(sidecar.url, key=KEY) as archive:
        with pytest.raises(PartlyFailed) as raised:
            await archive.add_contents([Exported(_line(**changes))])
        assert [each.error.code for each in raised.value.failures] == [code]
        assert (await archive.get_contents()).contents == []


async def test_only_an_admin_may_and_a_free_id_may_be_asked_for(settings: Settings) -> None:
    settings = with_keys(settings)
    key = add_key(settings.path_of_keys, "writer", Role.WRITER, None, None)
    async with running(settings) as sidecar:
        async with AsyncArchive(sidecar.url, key=key) as writer:
            with pytest.raises(PartlyFailed) as raised:
                await writer.add_contents([Exported(_line()), Item("b", "text")])
            assert [type(each.error) for each in raised.value.failures] == [Forbidden]
            assert [each.id for each in raised.value.added] == ["b"]
        async with AsyncArchive(sidecar.url, key=KEY) as admin:
            assert [each.status for each in await admin.add_contents([Exported(_line())], only_new=True)] == ["added"]
            with pytest.raises(PartlyFailed) as raised:
                await admin.add_contents([Exported(_line())], only_new=True)
            assert isinstance(raised.value.failures[0].error, Conflict)
            assert [each.status for each in await admin.add_contents([Exported(_line(user=None))])] == ["replaced"]
            stored = await admin.get_content("a")
            assert (stored.user, stored.created, stored.metadata) == (None, 1.5, {"n": 1})
