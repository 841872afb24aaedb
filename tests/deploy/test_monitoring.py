"""Prometheus's files: sound by its own tool, true to what is scraped, and tried with a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from ..support.fake_torchserve import FakeTorchServe
from ..support.real_servers import TorchServe
from ..support.sidecar import ADMIN_KEY, ROOT, WITH_KEYS, Sidecar, free_port

FOLDER = ROOT / "deploy" / "monitoring"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not here: apt-get install prometheus"
)


def _names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:clip|process|ts|up)(?:_\w+)?(?=[{\[ )]|$)", expression))


def _expressions() -> list[str]:
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*(rule["expr"] for rule in RULES), *asked]


@needs_prometheus
@pytest.mark.parametrize(
    "check",
    # The token's file is there when TorchServe runs.
    ["check config --syntax-only prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"],
)
def test_promtool_accepts(check: str) -> None:
    done = subprocess.run(["promtool", *check.split()], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_every_name_that_is_asked_for_is_told(sidecar: Sidecar) -> None:
    await sidecar.add("a", b"a cat")
    await sidecar.retrieve(b"a cat")
    async with sidecar.client.session.get(f"{sidecar.url}/metrics") as response:
        text = await response.text()
    told = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)) | set(re.findall(r"^(\w+)", text, re.MULTILINE))
    asked = set[str]().union(*map(_names, _expressions()))
    assert len(asked) > 15
    # Prometheus's own, and TorchServe's, which the real ones tell below.
    assert {name for name in asked - told if not name.startswith("ts_")} == {"up"}


def test_each_alert_says_what_to_do_here_and_in_the_docs() -> None:
    docs = (ROOT / "docs" / "operating.md").read_text()
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert f"`{rule['alert']}`" in docs, rule["alert"]


class Prometheus:
    """The real one, in a hurry: it scrapes and judges every second, and an alert needs to last but one."""

    def __init__(self, folder: Path, sidecar: str, torchserve: TorchServe) -> None:
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        ours, model = config["scrape_configs"]
        ours["static_configs"] = [{"targets": [sidecar]}]
        if WITH_KEYS:
            ours["authorization"] = {"credentials": ADMIN_KEY}
        model["static_configs"] = [{"targets": [f"127.0.0.1:{torchserve.ports[2]}"]}]
        token = Path(model["authorization"]["credentials_file"])
        assert token.parent == Path("/state")
        model["authorization"]["credentials_file"] = str(torchserve.state / token.name)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = (FOLDER / "alerts.yml").read_text()
        (folder / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 1s", rules))
        self.url = f"http://127.0.0.1:{free_port()}"
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=warn"]
        listen = f"--web.listen-address={self.url.removeprefix('http://')}"
        self.process = subprocess.Popen(["prometheus", *options, listen])

    async def ask(self, path: str) -> Any:
        """What its API answers; None while it starts."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/api/v1/{path}") as response:
                return (await response.json())["data"]
        except aiohttp.ClientError:
            return None

    async def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = (await self.ask("alerts") or {"alerts": []})["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


@needs_prometheus
async def test_a_real_prometheus_scrapes_and_tells_of_the_embedders_death(
    sidecar: Sidecar, fake: FakeTorchServe, managed_torchserve: TorchServe, tmp_path: Path
) -> None:
    """It scrapes the sidecar and a TorchServe; the model that dies is another, which the sidecar asks."""
    await sidecar.add("a", b"a cat")
    assert managed_torchserve.predict(b"a cat", "text").status == 200
    prometheus = Prometheus(tmp_path, sidecar.url.removeprefix("http://"), managed_torchserve)
    try:
        async with asyncio.timeout(120):
            while not (found := await prometheus.ask("query?query=clip_contents")) or not found["result"]:
                await asyncio.sleep(0.2)
            assert {each["metric"]["type"]: each["value"][1] for each in found["result"]} == {"text": "1", "image": "0"}
            asked = set[str]().union(*map(_names, _expressions()))
            of_torchserve = {name for name in asked if name.startswith("ts_")}
            assert len(of_torchserve) == 3
            while not of_torchserve <= (told := set(await prometheus.ask("label/__name__/values"))):
                await asyncio.sleep(0.2)
            # No index is approximate here, and none is being built.
            assert asked - told == {"clip_index_recall"}
            assert await prometheus.firing() == set()
            await fake.stop()
            while "EmbedderDown" not in await prometheus.firing():
                await asyncio.sleep(0.2)
            await fake.start()
            while await prometheus.firing():
                await asyncio.sleep(0.2)
    finally:
        prometheus.stop()
