"""deploy/k8s: what each overlay renders to, and that its seconds agree with the servers' own."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from index_sidecar.settings import Settings

from ..support.sidecar import ROOT

OVERLAYS = ("single", "cluster")
_FORGOTTEN_AFTER_S = 5  # until no node sends anything to a pod that goes; what preStop waits for, at least
_SLOWEST_START_S = 180
_BIN = Path(sys.executable).parent


@functools.cache
def _rendered(overlay: str) -> str:
    folder = ROOT / "deploy/k8s/overlays" / overlay
    done = subprocess.run([_BIN / "kubectl", "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _documents(overlay: str) -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(_rendered(overlay))}


def _pod(overlay: str) -> Any:
    documents = _documents(overlay)
    return documents["StatefulSet" if overlay == "single" else "Deployment"]["spec"]["template"]["spec"]


def _containers(overlay: str) -> tuple[Any, Any]:
    pod = _pod(overlay)
    (torchserve,), (sidecar,) = pod["initContainers"], pod["containers"]
    return torchserve, sidecar


def _seconds_to_fail(probe: Any) -> int:
    return int(probe["failureThreshold"] * probe["periodSeconds"])


def _default_s(module: str, name: str) -> int:
    found = re.search(rf"{name} \((\d+)\)", (ROOT / "deploy" / module).read_text())
    assert found
    return int(found[1])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_is_valid(overlay: str, tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(_rendered(overlay))
    done = subprocess.run([_BIN / "kubernetes-validate", "--strict", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_overlays_hold_what_they_are_for() -> None:
    common = {"Service", "NetworkPolicy", "PodDisruptionBudget"}
    assert set(_documents("single")) == common | {"StatefulSet"}
    assert set(_documents("cluster")) == common | {"Deployment", "HorizontalPodAutoscaler"}
    assert "replicas" not in _documents("cluster")["Deployment"]["spec"]  # the autoscaler's
    assert _documents("single")["StatefulSet"]["spec"]["replicas"] == 1  # SQLite has one writer


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_chooses_pods_chooses_ours_and_no_others(overlay: str) -> None:
    documents = _documents(overlay)
    workload = documents["StatefulSet" if overlay == "single" else "Deployment"]["spec"]
    ours = {"app.kubernetes.io/name": "clip-archive"}
    assert workload["template"]["metadata"]["labels"] == workload["selector"]["matchLabels"] == ours
    assert documents["Service"]["spec"]["selector"] == ours
    assert documents["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": ours}
    assert documents["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": ours}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_is_restricted(overlay: str) -> None:
    pod = _pod(overlay)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # the images'
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {kind for volume in pod["volumes"] for kind in set(volume) - {"name"}} <= {
        "emptyDir",
        "persistentVolumeClaim",
        "secret",
    }
    for container in _containers(overlay):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", container["image"])
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_key_file_is_shared_in_memory_and_written_by_torchserve_alone(overlay: str) -> None:
    (state,) = (volume for volume in _pod(overlay)["volumes"] if volume["name"] == "state")
    assert state["emptyDir"]["medium"] == "Memory"
    mounts = [
        mount for container in _containers(overlay) for mount in container["volumeMounts"] if mount["name"] == "state"
    ]
    assert [(mount["mountPath"], mount.get("readOnly", False)) for mount in mounts] == [
        ("/state", False),
        ("/state", True),
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_reaches_torchserve(overlay: str) -> None:
    torchserve, _ = _containers(overlay)
    assert "env" not in torchserve  # config.properties' loopback
    assert "ports" not in torchserve
    policy = _documents(overlay)["NetworkPolicy"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": 8090}]]
    allowed = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert allowed == (set() if overlay == "single" else {53, 6333})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_slow_start_is_waited_for(overlay: str) -> None:
    torchserve, sidecar = _containers(overlay)
    assert torchserve["restartPolicy"] == "Always"  # it starts before the sidecar, and ends after it
    assert _seconds_to_fail(torchserve["startupProbe"]) >= max(
        _SLOWEST_START_S, _default_s("serve.py", "SERVE_START_S")
    )
    assert _seconds_to_fail(sidecar["startupProbe"]) >= _SLOWEST_START_S
    assert "livenessProbe" not in torchserve  # an overloaded one would be killed
    assert _seconds_to_fail(sidecar["livenessProbe"]) >= _default_s("sidecar.py", "SERVE_DEAF_S")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_grace_period_is_longer_than_all_that_happens_in_it(overlay: str) -> None:
    _, sidecar = _containers(overlay)
    program, waits_s = sidecar["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert int(waits_s) >= _FORGOTTEN_AFTER_S
    assert _pod(overlay)["terminationGracePeriodSeconds"] > int(waits_s) + Settings.shutdown_timeout_s + 30


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_sidecar_takes_its_settings(overlay: str) -> None:
    _, sidecar = _containers(overlay)
    environment = {variable["name"]: variable["value"] for variable in sidecar["env"]}
    settings = Settings.from_environment({"HOST": "0.0.0.0", **environment})
    assert settings.access == "keys"
    assert set(environment) <= {name.upper() for name in Settings.__dataclass_fields__}
    assert (settings.index_url == "faiss") == (overlay == "single")
