"""The environment is read in one place."""

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
from index_sidecar.settings import Settings

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
        shutdown_timeout_s=50,
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
        backup_dir=None,
        backup_keep=7,
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
        "SHUTDOWN_TIMEOUT_S": "20",
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
        "ORIGINALS": "none",
        "BACKUP_DIR": "/mnt/backups",
        "BACKUP_KEEP": "0",
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
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "LOG_FORMAT": "json",
    }
    assert sorted(environment) == sorted(setting.name.upper() for setting in fields(Settings))
    assert Settings.from_environment({**environment, "UNRELATED": "x"}) == Settings(
        host="0.0.0.0",
        port=0,
        otel_exporter_otlp_endpoint="http://collector:4318",
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
        shutdown_timeout_s=20,
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
        originals="none",
        backup_dir=Path("/mnt/backups"),
        backup_keep=0,
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


def test_an_empty_index_url_is_the_default() -> None:
    assert Settings.from_environment({"INDEX_URL": "", "QDRANT_API_KEY_FILE": ""}) == Settings()


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
