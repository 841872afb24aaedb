"""Which tests one worker runs one after another, and what is begun first: long work comes before short work."""

from __future__ import annotations

import re

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# The tests of a group share what takes seconds to start, or would take each other's time; the first that fits is meant.
GROUPS = {
    "torchserve": r"/test_(recovery|large_pictures|documents|clip_handler|parity|management|monitoring|real)\.py"
    r"|::test_torchserve_takes_the_time_outs",
    "containers": r"tests/containers/",
    "campaign": r"tests/campaign/",
    "models": r"handler/test_(clip_model|clip_inputs|clip_text|weights)\.py",
    "vanished node": r"test_vanished_node\.py",
    "cluster": r"three nodes|qdrant/test_cluster\.py|::test_of_many_first_contents_at_once",
    "qdrant": r"qdrant",
    "web": r"tests/web/",
    "run": r"deploy/test_run\.py",
    "package": r"tests/test_package\.py",
}
# What is started once a worker, and the group that all who ask for it by name belong to.
SHARED = {"torchserve": "torchserve", "managed_torchserve": "torchserve", "qdrant_cluster": "cluster"}


def group_of(nodeid: str) -> str | None:
    """The group that a test belongs to; None for one that any worker may run at any time."""
    return next((name for name, pattern in GROUPS.items() if re.search(pattern, nodeid)), None)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out whole groups and, of the rest, test by test, in the order of the collection.

    xdist's own groups are none with pytest 9.2, which takes no suffix of a test's id any more.
    """

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid


def order(item: pytest.Item) -> int:
    """By which tests are sorted: the groups, then single ones with servers, then those of much volume, then all others.

    Raises `pytest.UsageError` for a test whose group does not share what it asks for.
    """
    group = group_of(item.nodeid)
    for name, owner in SHARED.items():
        if isinstance(item, pytest.Function) and name in item.fixturenames and group != owner:
            raise pytest.UsageError(f"{item.nodeid} asks for {name}: name it in the group {owner} of {__name__}")
    if group is not None:
        return list(GROUPS).index(group)
    return len(GROUPS) + (0 if item.get_closest_marker("servers") else 1 if item.get_closest_marker("slow") else 2)
