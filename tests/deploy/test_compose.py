"""docker-compose.yml: what it allows."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from index_sidecar import __version__

from ..support.containers import compose, copies, dockerfile, image_environment, seconds
from ..support.sidecar import ROOT


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@pytest.mark.parametrize(
    "files",
    [(), *(("-f", "docker-compose.yml", "-f", f"deploy/{name}.compose.yml") for name in ("qdrant", "monitoring"))],
)
def test_docker_compose_accepts_the_file(files: tuple[str, ...]) -> None:
    done = subprocess.run(["docker-compose", *files, "config", "-q"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").glob("*.compose.yml")), ids=lambda path: path.name)
def test_an_override_names_no_file_outside_the_repository(path: Path) -> None:
    assert "../" not in path.read_text()  # compose takes each path from the folder of the first file


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_hadolint_finds_nothing_in_the_dockerfile(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / f"deploy/{name}.Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_the_image_says_what_it_is(name: str) -> None:
    words = [word for kind, line in dockerfile(name) if kind == "LABEL" for word in shlex.split(line)]
    labels = {
        key.removeprefix("org.opencontainers.image."): value
        for key, _, value in (each.partition("=") for each in words)
    }
    assert set(labels) == {"title", "description", "version", "licenses"}
    assert (labels["title"], labels["version"]) == (compose()["services"][name]["image"], __version__)


def test_only_the_sidecar_can_be_reached_and_only_from_this_machine() -> None:
    file = compose()
    torchserve, sidecar = file["services"]["torchserve"], file["services"]["sidecar"]
    assert set(file["services"]) == {"torchserve", "sidecar"}
    assert "ports" not in torchserve
    assert sidecar["ports"] == ["127.0.0.1:8090:8090"]
    assert torchserve["networks"] == ["inference"]
    assert sidecar["networks"] == ["inference", "outside"]
    assert file["networks"] == {"inference": {"internal": True}, "outside": {}}
    assert not {"network_mode", "expose", "links"} & (set(torchserve) | set(sidecar))
    # TorchServe's management and metrics stay where config.properties puts them.
    assert torchserve["environment"] == {"TS_INFERENCE_ADDRESS": "http://0.0.0.0:8080"}
    config = (ROOT / "config.properties").read_text()
    for name in ("management_address=http://", "metrics_address=http://", "grpc_inference_address="):
        assert f"\n{name}127.0.0.1" in config


@pytest.mark.parametrize("name", ["public", "qdrant"])
def test_secrets_are_taken_from_the_folder_that_git_leaves_out(name: str) -> None:
    """Compose reads paths of every file from the folder of the first one, which is the repository's root."""
    text = (ROOT / f"deploy/{name}.compose.yml").read_text()
    files = re.findall(r"file: \"?(?:\$\{\w+:-)?([^}\"\s]+)", text.split("\nsecrets:")[1])
    assert files
    assert all(each.startswith("./secrets/") for each in files), files


def test_watching_publishes_prometheus_to_this_machine_and_nothing_of_torchserve() -> None:
    services = compose("deploy/monitoring.compose.yml")["services"]
    torchserve, prometheus = services["torchserve"], services["prometheus"]
    assert torchserve == {
        "environment": {"TS_METRICS_ADDRESS": "http://0.0.0.0:8082"}
    }  # on `inference` alone, as before
    assert prometheus["ports"] == ["127.0.0.1:9090:9090"]
    assert prometheus["networks"] == ["inference", "outside"]
    assert prometheus["user"] == "10001:10001"
    assert prometheus["volumes"] == ["./deploy/monitoring:/etc/prometheus:ro", "state:/state:ro"]
    assert (prometheus["read_only"], prometheus["cap_drop"]) == (True, ["ALL"])


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_a_container_may_do_nothing_but_its_work(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"[1-9]\d*g", service["mem_limit"])
    assert service["memswap_limit"] == service["mem_limit"]
    assert 256 <= service["pids_limit"] <= 4096
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "user", "entrypoint", "command"} & set(service)
    assert not [volume for volume in service["volumes"] if "docker.sock" in volume]


def test_both_containers_run_as_one_user_who_is_not_root() -> None:
    # One user, since the key file is readable by its owner only.
    users = {name: [line for word, line in dockerfile(name) if word == "USER"] for name in ("torchserve", "sidecar")}
    assert users == {"torchserve": ["10001:10001"], "sidecar": ["10001:10001"]}
    for name, folders in (("torchserve", "/state"), ("sidecar", "/state /data")):
        (made,) = (line for word, line in dockerfile(name) if word == "RUN" and "useradd" in line)
        assert "--uid 10001" in made
        assert made.endswith(f"install --directory --owner clip --group clip --mode 0700 {folders}")


def test_state_and_data_outlive_the_containers_and_the_sidecar_cannot_write_the_key_file() -> None:
    file = compose()
    assert file["volumes"] == {"state": {}, "data": {}}
    assert file["services"]["torchserve"]["volumes"] == ["./model_store:/model_store:ro", "state:/state"]
    assert file["services"]["sidecar"]["volumes"] == ["state:/state:ro", "data:/data"]


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_no_secret_is_in_an_environment_or_an_image(name: str) -> None:
    service = compose()["services"][name]
    arguments = [line.partition("=")[0] for word, line in dockerfile(name) if word == "ARG"]
    names = {*service["environment"], *service["build"]["args"], *image_environment(name), *arguments}
    secret = re.compile(r"TOKEN|SECRET|PASSW|KEY(?!_FILE$)|CREDENTIAL", re.IGNORECASE)
    assert not [each for each in names if secret.search(each)]


@pytest.mark.parametrize("name", ["torchserve", "sidecar"])
def test_the_compose_file_and_the_dockerfile_agree_on_the_build_arguments(name: str) -> None:
    declared = dict(line.partition("=")[::2] for word, line in dockerfile(name) if word == "ARG" and "=" in line)
    given = compose()["services"][name]["build"]["args"]
    assert {key: value or "" for key, value in given.items()} == {
        key: value.strip('"') for key, value in declared.items()
    }


def test_the_build_sees_what_it_copies_and_no_more() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    def seen(path: str) -> bool:
        """Docker's rule: the last pattern that matches the path or a folder above it decides."""
        above = [path, *map(str, Path(path).parents)]
        verdict = True
        for pattern in patterns:
            bare = pattern.lstrip("!").removeprefix("**/")
            matched = any(fnmatch.fnmatch(each if "**/" not in pattern else Path(each).name, bare) for each in above)
            verdict = pattern.startswith("!") if matched else verdict
        return verdict

    sources = [source for name in ("torchserve", "sidecar") for paths, _ in copies(name) for source in paths]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if not seen(source.rstrip("/"))] == []
    private = (".git/config", ".env", "data/contents.sqlite", "run/torchserve/key_file.json", ".venv/pyvenv.cfg")
    unneeded = ("model_store/clip.mar", "tests/support/samples.py", "deploy/run.py", "handler/__pycache__/serve.pyc")
    assert [path for path in (*private, *unneeded) if seen(path)] == []


def test_the_sidecar_starts_after_torchserve_predicts() -> None:
    services = compose()["services"]
    assert services["sidecar"]["depends_on"] == {"torchserve": {"condition": "service_healthy"}}
    for service in services.values():
        check = service["healthcheck"]
        assert set(check) == {"test", "interval", "timeout", "retries", "start_period"}
        assert seconds(check["timeout"]) >= 10
