"""Fixtures of the sidecar's tests, and what lets pytest run `async def` tests."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer

from index_sidecar.settings import Settings

pytest.register_assert_rewrite("tests.support")  # before anything is imported from there

from .support import profiles  # noqa: E402, F401
from .support.fake_torchserve import FakeTorchServe  # noqa: E402
from .support.schedule import GroupScheduling, order  # noqa: E402
from .support.sidecar import Sidecar, running  # noqa: E402

pytest_plugins = ["tests.support.real_servers", "tests.support.qdrant_server"]

# Fixtures that start a process which serves, or build what one serves: `make check` does without their tests.
SERVERS = {"clip_mar", "containers", "qdrant", "qdrant_cluster", "sidecar_process", "small_mar"}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark the tests that need servers by what they ask for, beside those that say so; put long ones first.

    What is slow covers nothing that quicker tests do not, so its coverage is not measured: that would take half as long
    again.
    """
    for item in items:
        if isinstance(item, pytest.Function) and SERVERS & set(item.fixturenames):
            item.add_marker("servers")
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")
    yield  # the marks choose, and pytest-randomly shuffles
    items.sort(key=order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """Several workers share the tests out by group: each server is started once."""
    return GroupScheduling(config, log)


# What no installation mends: other hardware, what a format cannot hold, what this user or a sandbox may not do.
MAY_BE_SKIPPED = re.compile(
    r"no GPU on|has a GPU|has no |nothing here writes it|only root|need root|no container engine here"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With REQUIRE_ALL=1, as in .ci/run, a test that is skipped for what is not installed has failed."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and os.environ.get("REQUIRE_ALL") == "1":
        reason = report.longrepr[2]
        if not MAY_BE_SKIPPED.search(reason):
            report.outcome, report.longrepr = "failed", f"it must run here. {reason}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test on the loop its fixtures live on, or on a new one when it has no such fixture."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = inspect.signature(pyfuncitem.obj).parameters
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in arguments})
    runner = pyfuncitem.funcargs.get("runner")
    if isinstance(runner, asyncio.Runner):
        runner.run(test)
    else:
        asyncio.run(test)
    return True


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """The event loop that a test shares with the servers its fixtures started."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def fake(runner: asyncio.Runner, tmp_path: Path) -> Iterator[FakeTorchServe]:
    """A fake TorchServe that listens."""
    fake = FakeTorchServe(tmp_path / "key_file.json")
    runner.run(fake.start())
    yield fake
    runner.run(fake.stop())


@pytest.fixture
def settings(fake: FakeTorchServe, tmp_path: Path) -> Settings:
    """Settings of a sidecar in front of `fake`, with an empty archive."""
    return Settings(
        data_dir=tmp_path / "data",
        torchserve_url=fake.url,
        torchserve_key_file=fake.key_file,
        torchserve_timeout_s=2,
        queue_s=30.0,  # tests fill archives with all they have at once
    )


@pytest.fixture
def sidecar(runner: asyncio.Runner, settings: Settings) -> Iterator[Sidecar]:
    """A ready sidecar on a real port."""
    context = running(settings)
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))
