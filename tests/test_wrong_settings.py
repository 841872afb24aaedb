"""Mistakes in the environment are named, and all at once."""

from __future__ import annotations

import pytest

from index_sidecar.settings import Settings, SettingsError


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
        ("ORIGINALS", "pictures"),
        ("BACKUP_KEEP", "-1"),
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


def test_a_key_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"INDEX_URL": "qdrant://:secret-marker@one:6333"})
    assert "QDRANT_API_KEY_FILE" in str(caught.value)
    assert "secret-marker" not in str(caught.value)


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
