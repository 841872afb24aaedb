"""An operator's calls to TorchServe's management API, with the management token, as docs/operating.md shows them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile

import pytest

from ..support.real_servers import TorchServe, http
from ..support.sidecar import ROOT


def test_describe_scale_and_set_default(managed_torchserve: TorchServe) -> None:
    described = json.loads(managed_torchserve.manage("GET", "/models/clip").body)[0]
    assert described["modelVersion"] == "1.0"
    assert (described["minWorkers"], described["batchSize"], described["maxBatchDelay"]) == (1, 16, 1)
    assert [worker["status"] for worker in described["workers"]] == ["READY"]

    scaled = managed_torchserve.manage("PUT", "/models/clip?min_worker=2&max_worker=2&synchronous=true")
    assert (scaled.status, json.loads(scaled.body)["status"].split(".")[0]) == (
        200,
        "Workers scaled to 2 for model: clip",
    )
    assert managed_torchserve.predict(b"a cat", "text").status == 200
    assert managed_torchserve.manage("PUT", "/models/clip?min_worker=1&max_worker=1&synchronous=true").status == 200

    default = managed_torchserve.manage("PUT", "/models/clip/1.0/set-default")
    assert (default.status, "Default" in json.loads(default.body)["status"]) == (200, True)


def test_registering_is_off(torchserve: TorchServe) -> None:
    assert torchserve.manage("POST", "/models?url=clip.mar&model_name=again").status == 405
    assert torchserve.manage("DELETE", "/models/clip/1.0").status == 405


def test_the_inference_token_does_not_manage(torchserve: TorchServe) -> None:
    headers = {"Authorization": f"Bearer {torchserve.key('inference')}"}
    assert http("GET", f"{torchserve.management_url}/models/clip", None, headers).status == 400


def test_registering_works_when_the_operator_switches_it_on(managed_torchserve: TorchServe) -> None:
    query = "url=clip.mar&model_name=second&initial_workers=1&synchronous=true"
    registered = managed_torchserve.manage("POST", f"/models?{query}")
    assert registered.status == 200, registered
    assert managed_torchserve.predict(b"a cat", "text", path="/predictions/second").status == 200
    assert managed_torchserve.manage("DELETE", "/models/second/1.0").status == 200
    assert managed_torchserve.predict(b"a cat", "text", path="/predictions/second").status == 404


def test_metrics_count_requests(torchserve: TorchServe) -> None:
    headers = {"Authorization": f"Bearer {torchserve.key('management')}"}
    assert torchserve.predict(b"a cat", "text").status == 200
    metrics = http("GET", f"http://127.0.0.1:{torchserve.ports[2]}/metrics", None, headers)
    assert metrics.status == 200
    assert b'ts_inference_requests_total{model_name="clip"' in metrics.body


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_second_version_comes_and_goes_by_the_commands_of_the_page(managed_torchserve: TorchServe) -> None:
    first, second = managed_torchserve.model_store / "clip.mar", managed_torchserve.model_store / "clip-2.mar"
    with zipfile.ZipFile(first) as source, zipfile.ZipFile(second, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("MANIFEST.json"):
                manifest = json.loads(data)
                manifest["model"]["modelVersion"] = "2.0"
                data = json.dumps(manifest).encode()
            target.writestr(name, data)
    section = (ROOT / "docs" / "operating.md").read_text().split("### A second version")[1].split("\n## ")[0]
    there, back = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    environment = {**os.environ, "TOKEN": managed_torchserve.key("management")}

    def run(commands: str) -> str:
        ours = commands.replace("http://127.0.0.1:8081", managed_torchserve.management_url)
        done = subprocess.run(["bash", "-eu"], input=ours, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def default() -> str:
        return str(json.loads(managed_torchserve.manage("GET", "/models/clip").body)[0]["modelVersion"])

    try:
        assert '"modelVersion": "2.0"' in run(there)
        assert default() == "2.0"
        assert managed_torchserve.predict(b"a cat", "text").status == 200
        run(there.splitlines()[0] + "\n" + back)
        assert default() == "1.0"
        assert managed_torchserve.manage("GET", "/models/clip/2.0").status == 404
    finally:
        second.unlink()
