"""The environment is read in one place, and every mistake in it is told at once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from index_sidecar import __version__
from index_sidecar.qdrant.url import QdrantUrl, qdrant_url
from index_sidecar.settings import Settings, SettingsError

from .support.sidecar import ROOT


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "index_sidecar", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


def test_defaults() -> None:
    assert Settings.from_environment({}) == Settings(
        host="127.0.0.1",
        port=8090,
        data_dir=Path("data"),
        torchserve_url="http://127.0.0.1:8080",
        torchserve_key_file=Path("run/torchserve/key_file.json"),
        torchserve_timeout_s=30,
        torchserve_connections=64,
        max_text_bytes=64 * 1024,
        max_image_bytes=32 * 1024 * 1024,
        max_inflight_bytes=512 * 1024 * 1024,
        body_timeout_s=60,
        erase_wait_s=5,
        index_url="faiss",
        qdrant_api_key_file=None,
        qdrant_timeout_s=10,
        qdrant_shards=6,
        qdrant_replication=1,
        qdrant_hnsw_ef=256,
        index_dtype="float32",
        index_exact_rows=200_000,
        index_recall=0.95,
        previews=True,
        max_decode_bytes=1024 * 1024 * 1024,
        query_cache_bytes=64 * 1024 * 1024,
        access="",
        keys_file=None,
        admin_key_file=None,
        allowed_hosts=(),
        cors_origins=(),
        tls_cert_file=None,
        tls_key_file=None,
        rate_limit="600/minute",
        model_rate_limit="600/minute",
        concurrent_requests=64,
        trusted_proxies=(),
        audit_ids=False,
        queue_s=2.0,
        log_format="text",
    )


def test_every_setting_is_read_from_its_variable() -> None:
    environment = {
        "HOST": "0.0.0.0",
        "PORT": "0",
        "DATA_DIR": "/srv/archive",
        "TORCHSERVE_URL": "https://clip.example:8443/",
        "TORCHSERVE_KEY_FILE": "/keys/key_file.json",
        "TORCHSERVE_TIMEOUT_S": "1",
        "TORCHSERVE_CONNECTIONS": "2",
        "MAX_TEXT_BYTES": "3",
        "MAX_IMAGE_BYTES": "4",
        "MAX_INFLIGHT_BYTES": "1048576",
        "BODY_TIMEOUT_S": "5",
        "BODY_IDLE_S": "8",
        "IDLE_TIMEOUT_S": "90",
        "ERASE_WAIT_S": "8",
        "INDEX_URL": "qdrants://one.example,two.example:7000/archive",
        "QDRANT_API_KEY_FILE": "/keys/qdrant",
        "QDRANT_TIMEOUT_S": "6",
        "QDRANT_SHARDS": "7",
        "QDRANT_REPLICATION": "2",
        "QDRANT_HNSW_EF": "100",
        "INDEX_DTYPE": "float16",
        "INDEX_EXACT_ROWS": "6000",
        "INDEX_RECALL": "0.9",
        "PREVIEWS": "false",
        "MAX_DECODE_BYTES": "1048577",
        "QUERY_CACHE_BYTES": "7",
        "ACCESS": "keys",
        "KEYS_FILE": "/keys/archive.json",
        "ADMIN_KEY_FILE": "/run/secrets/admin_key",
        "ALLOWED_HOSTS": "sidecar, archive.example.org",
        "CORS_ORIGINS": "https://one.example,http://localhost:3000",
        "TLS_CERT_FILE": "/tls/tls.crt",
        "TLS_KEY_FILE": "/tls/tls.key",
        "RATE_LIMIT": "20/second",
        "MODEL_RATE_LIMIT": "",
        "CONCURRENT_REQUESTS": "0",
        "TRUSTED_PROXIES": "10.0.0.0/8, ::1",
        "AUDIT_IDS": "true",
        "QUEUE_S": "0.5",
        "LOG_FORMAT": "json",
    }
    assert sorted(environment) == sorted(setting.name.upper() for setting in fields(Settings))
    assert Settings.from_environment({**environment, "UNRELATED": "x"}) == Settings(
        host="0.0.0.0",
        port=0,
        data_dir=Path("/srv/archive"),
        torchserve_url="https://clip.example:8443/",
        torchserve_key_file=Path("/keys/key_file.json"),
        torchserve_timeout_s=1,
        torchserve_connections=2,
        max_text_bytes=3,
        max_image_bytes=4,
        max_inflight_bytes=1048576,
        body_timeout_s=5,
        body_idle_s=8,
        idle_timeout_s=90,
        erase_wait_s=8,
        index_url="qdrants://one.example,two.example:7000/archive",
        qdrant_api_key_file=Path("/keys/qdrant"),
        qdrant_timeout_s=6,
        qdrant_shards=7,
        qdrant_replication=2,
        qdrant_hnsw_ef=100,
        index_dtype="float16",
        index_exact_rows=6000,
        index_recall=0.9,
        previews=False,
        max_decode_bytes=1_048_577,
        query_cache_bytes=7,
        access="keys",
        keys_file=Path("/keys/archive.json"),
        admin_key_file=Path("/run/secrets/admin_key"),
        allowed_hosts=("sidecar", "archive.example.org"),
        cors_origins=("https://one.example", "http://localhost:3000"),
        tls_cert_file=Path("/tls/tls.crt"),
        tls_key_file=Path("/tls/tls.key"),
        rate_limit="20/second",
        model_rate_limit="",
        concurrent_requests=0,
        trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("::1")),
        audit_ids=True,
        queue_s=0.5,
        log_format="json",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", ""),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "٨٠"),
        ("PORT", ""),
        ("PORT", "9" * 5000),
        ("DATA_DIR", ""),  # would be the working folder, silently
        ("TORCHSERVE_URL", "127.0.0.1:8080"),
        ("TORCHSERVE_URL", "ftp://127.0.0.1"),
        ("TORCHSERVE_URL", "http://"),
        ("TORCHSERVE_URL", "http://[::1"),
        ("TORCHSERVE_URL", "http://127.0.0.1:80800"),
        ("TORCHSERVE_KEY_FILE", ""),
        ("TORCHSERVE_TIMEOUT_S", "0"),
        ("TORCHSERVE_CONNECTIONS", "0"),
        ("PREVIEWS", "0"),
        ("QUEUE_S", "0"),
        ("QUEUE_S", "1e3"),
        ("ACCESS", "none"),
        ("ALLOWED_HOSTS", "https://archive.example.org"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://one.example/"),
        ("RATE_LIMIT", "0/minute"),
        ("RATE_LIMIT", "600"),
        ("CONCURRENT_REQUESTS", "-1"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("AUDIT_IDS", "yes"),
        ("INDEX_DTYPE", "int8"),
        ("INDEX_EXACT_ROWS", "999"),
        ("INDEX_RECALL", "0"),
        ("INDEX_RECALL", "0.0"),
        ("INDEX_RECALL", "1.1"),
        ("INDEX_RECALL", "nan"),
        ("LOG_FORMAT", "xml"),
        ("INDEX_URL", "http://127.0.0.1:6333"),
        ("INDEX_URL", "qdrant://"),
        ("INDEX_URL", "qdrant://one,,two"),
        ("INDEX_URL", "qdrant://one:port"),
        ("INDEX_URL", "qdrant://one/two/three"),
        ("QDRANT_TIMEOUT_S", "0"),
        ("QDRANT_REPLICATION", "0"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: value})
    assert str(caught.value).startswith(f"{name}=")


@pytest.mark.parametrize(
    ("url", "nodes", "collection"),
    [
        ("qdrant://one", ("http://one:6333",), "contents"),
        ("qdrants://one.example:7000/", ("https://one.example:7000",), "contents"),
        (
            "qdrant://10.0.0.1:1,[::1]:2,[fe80::1]/a-b_1",
            ("http://10.0.0.1:1", "http://[::1]:2", "http://[fe80::1]:6333"),
            "a-b_1",
        ),
    ],
)
def test_the_nodes_of_a_cluster(url: str, nodes: tuple[str, ...], collection: str) -> None:
    assert Settings.from_environment({"INDEX_URL": url}).index_url == url
    assert qdrant_url(url) == QdrantUrl(nodes, collection)


def test_a_key_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"INDEX_URL": "qdrant://:secret-marker@one:6333"})
    assert "QDRANT_API_KEY_FILE" in str(caught.value)
    assert "secret-marker" not in str(caught.value)


def test_an_empty_index_url_is_the_default() -> None:
    assert Settings.from_environment({"INDEX_URL": "", "QDRANT_API_KEY_FILE": ""}) == Settings()


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"PORT": "http", "TORCHSERVE_URL": "clip", "LOG_FORMAT": "xml", "HOST": "::1"})
    assert str(caught.value) == (
        "PORT='http' must be a whole number from 0 to 65535\n"
        "TORCHSERVE_URL='clip' must be a URL like http://127.0.0.1:8080\n"
        "LOG_FORMAT='xml' must be text or json"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "archive.example.org"])
def test_no_network_is_let_in_without_a_word_about_keys(host: str) -> None:
    with pytest.raises(SettingsError, match="set ACCESS=keys, and make a key by"):
        Settings.from_environment({"HOST": host})
    for access in ("open", "keys"):
        assert Settings.from_environment({"HOST": host, "ACCESS": access}).access == access


def test_half_a_certificate_is_a_mistake() -> None:
    with pytest.raises(SettingsError, match="TLS_CERT_FILE and TLS_KEY_FILE go together"):
        Settings.from_environment({"TLS_KEY_FILE": "/tls/tls.key"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_the_loopback_is_open_without_a_word(host: str) -> None:
    assert Settings.from_environment({"HOST": host}).access == ""


def test_what_is_held_at_once_has_room_for_the_largest_content() -> None:
    environment = {"MAX_INFLIGHT_BYTES": "1048576", "MAX_IMAGE_BYTES": "1048577", "PORT": "x"}
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    lines = str(caught.value).splitlines()
    assert [line.split("=")[0] for line in lines] == ["PORT", "MAX_INFLIGHT_BYTES"]
    assert "MAX_IMAGE_BYTES=1048577" in lines[1]
    assert Settings.from_environment({**environment, "PORT": "1", "MAX_IMAGE_BYTES": "1048576"}).port == 1


def test_the_process_refuses_wrong_settings() -> None:
    done = _run(PORT="x", LOG_FORMAT="y")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split("=")[0] for line in done.stderr.splitlines()] == [
        *("index_sidecar: wrong settings", "PORT", "LOG_FORMAT"),
    ]


def test_help_names_every_setting_and_its_default() -> None:
    done = _run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("  ")}
    for setting in fields(Settings):
        assert f"(default: {setting.default})" in lines[setting.name.upper()]


def test_version() -> None:
    assert _run("--version").stdout.strip() == __version__
