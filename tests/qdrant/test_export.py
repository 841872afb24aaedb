"""An export of a cluster: each content once, with what it holds, a page at a time."""

from __future__ import annotations

from index_sidecar.archive.content import Content
from index_sidecar.archive.exporter import Exporter
from index_sidecar.archive.search import Listed
from index_sidecar.qdrant.store import QdrantStore

from ..support.contents import content_of, plain


async def test_a_cluster_gives_each_once(store: QdrantStore) -> None:
    contents = {each.id: each for each in (content_of(f"content {number}", b"%d" % number) for number in range(230))}
    await store.put_all([(each, b"preview of " + each.id.encode()) for each in contents.values()])
    found = {}
    async for page in Exporter(store).pages(Listed(), None, True, True):
        assert len(page.contents) <= 100
        for each in page.contents:
            assert each.content.id not in found
            found[each.content.id] = each
    assert found.keys() == contents.keys()
    for content_id, each in found.items():
        assert isinstance(each.content, Content)
        assert plain(each.content) == plain(contents[content_id])
        assert each.preview == b"preview of " + content_id.encode()
