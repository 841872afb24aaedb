"""The sidecar's settings: the only reader of the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from . import values

_T = TypeVar("_T")


class SettingsError(Exception):
    """One line for every setting that is wrong."""


def _setting(default: _T, read: Callable[[str], _T], help_: str) -> _T:
    field_: _T = field(default=default, metadata={"read": read, "help": help_})
    return field_


@dataclass(frozen=True)
class Settings:
    """Every field is read from the environment variable of the same name in capitals."""

    host: str = _setting("127.0.0.1", values.text, "address to listen on; 0.0.0.0 for all of IPv4, :: for all")
    port: int = _setting(8090, values.whole(0, 65535), "port to listen on; 0 for a free one")
    data_dir: Path = _setting(
        Path("data"), values.path, "folder of contents.sqlite, the durable truth unless INDEX_URL says otherwise"
    )
    torchserve_url: str = _setting("http://127.0.0.1:8080", values.url, "TorchServe's inference address")
    torchserve_key_file: Path = _setting(
        Path("run/torchserve/key_file.json"), values.path, "the key_file.json TorchServe writes when it starts"
    )
    torchserve_timeout_s: int = _setting(
        30,
        values.whole(1, 600),
        "longest wait for one vector; then 503 (as model-config.yaml's clientTimeoutInMills)",
    )
    torchserve_connections: int = _setting(64, values.whole(1, 1024), "requests to TorchServe at the same time")
    max_text_bytes: int = _setting(64 * 1024, values.whole(1, 1 << 20), "largest text; then 413")
    max_image_bytes: int = _setting(32 * 1024 * 1024, values.whole(1, 1 << 30), "largest image file; then 413")
    max_inflight_bytes: int = _setting(
        512 * 1024 * 1024, values.whole(1 << 20, 1 << 36), "bodies held at once; then 503"
    )
    body_timeout_s: int = _setting(60, values.whole(1, 3600), "longest wait for a request's body; then 408")
    body_idle_s: int = _setting(10, values.whole(1, 3600), "longest wait for the next bytes of a body; then 408")
    idle_timeout_s: int = _setting(
        75,
        values.whole(1, 3600),
        "how long a connection may wait for a request, also amid its head; more than a proxy's",
    )
    shutdown_timeout_s: int = _setting(
        50,
        values.whole(1, 3600),
        "longest end after SIGTERM, requests under way included; then exit code 1, whatever hangs",
    )
    queue_s: float = _setting(
        2.0, values.seconds, "longest wait of a content for its turn at the model; then 503 at once"
    )
    erase_wait_s: int = _setting(
        5, values.whole(0, 600), 'longest wait of a call that erases for the overwriting; then "overwritten": false'
    )
    index_url: str = _setting(
        "faiss",
        values.index_url,
        "faiss: SQLite and Faiss here; qdrant://HOST:PORT[,HOST:PORT]: a cluster, qdrants:// by TLS",
    )
    qdrant_api_key_file: Path | None = _setting(
        None, values.optional_path, "file with Qdrant's API key and nothing else"
    )
    qdrant_timeout_s: int = _setting(10, values.whole(1, 600), "longest wait for Qdrant, all nodes together; then 503")
    qdrant_shards: int = _setting(
        6, values.whole(1, 1024), "shards of the collection when it is created; fixed from then on"
    )
    qdrant_replication: int = _setting(1, values.whole(1, 16), "copies of each shard when the collection is created")
    qdrant_hnsw_ef: int = _setting(256, values.whole(10, 10000), "candidates of a search: more find better and slower")
    previews: bool = _setting(
        True, values.true_or_false, "store a small picture or the first 500 characters of each content"
    )
    originals: Literal["none", "texts", "all"] = _setting(
        "texts",
        values.originals,
        "bytes kept as they came: of texts; of all, pictures as files in DATA_DIR, too; of none",
    )
    backup_dir: Path | None = _setting(
        None, values.optional_path, "folder of backups, better on another disk; backups in DATA_DIR when not said"
    )
    backup_keep: int = _setting(7, values.whole(0, 100_000), "newest backups that a new one leaves there; 0: all")
    max_decode_bytes: int = _setting(
        1024 * 1024 * 1024,
        values.whole(1 << 20, 1 << 40),
        "memory for making previews; a picture that needs more has none",
    )
    query_cache_bytes: int = _setting(
        64 * 1024 * 1024, values.whole(0, 1 << 36), "memory for vectors of queries; 0: none"
    )
    index_dtype: Literal["float32", "float16"] = _setting(
        "float32", values.dtype, "of the exact index: float16 is half as big"
    )
    index_exact_rows: int = _setting(
        200_000, values.whole(1000, 1 << 40), "contents of one type past which search approximates"
    )
    index_recall: float = _setting(0.95, values.fraction, "recall@10 an approximate index must reach to be used")
    access: str = _setting(
        "",
        values.access,
        "keys: every caller shows an API key; open: none does. Without it: open, on the loopback only",
    )
    keys_file: Path | None = _setting(
        None, values.optional_path, "the API keys' sums; keys.json in DATA_DIR when not said"
    )
    admin_key_file: Path | None = _setting(
        None, values.optional_path, "a file with one more API key, of the role admin"
    )
    allowed_hosts: tuple[str, ...] = _setting((), values.hosts, "more names this service goes by while ACCESS is open")
    cors_origins: tuple[str, ...] = _setting((), values.origins, "origins whose pages may use this service")
    tls_cert_file: Path | None = _setting(None, values.optional_path, "certificate chain (PEM) to serve HTTPS with")
    tls_key_file: Path | None = _setting(
        None, values.optional_path, "its private key (PEM); both are followed when renewed"
    )
    rate_limit: str = _setting(
        "600/minute", values.rate, "requests of one key, or of one address without; with keys only"
    )
    model_rate_limit: str = _setting(
        "600/minute", values.rate, "texts of one key for the model, a picture counting as 8; with keys only"
    )
    concurrent_requests: int = _setting(
        64, values.whole(0, 65535), "requests of one key at the same time; 0: any number"
    )
    trusted_proxies: tuple[values.Network, ...] = _setting(
        (), values.networks, "networks of proxies whose X-Forwarded-For counts"
    )
    audit_ids: bool = _setting(False, values.true_or_false, "name what was erased in the log, too")
    otel_exporter_otlp_endpoint: str = _setting(
        "", values.optional_url, "collector of OpenTelemetry traces (OTLP over HTTP); none without it"
    )
    log_format: str = _setting("text", values.log_format, "text for people, json for machines")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read and check all settings. Raises SettingsError that names every mistake at once."""
        given: dict[str, Any] = {}
        mistakes = []
        for setting in fields(cls):
            name = setting.name.upper()
            if name in environment:
                try:
                    given[setting.name] = setting.metadata["read"](environment[name])
                except ValueError as error:
                    shown = re.sub(r"//.*@", "//...@", environment[name])  # somebody's password, perhaps
                    mistakes.append(f"{name}={shown!r} {error}")
        settings = cls(**given)
        for name in ("max_text_bytes", "max_image_bytes"):
            if settings.max_inflight_bytes < getattr(settings, name):
                mistakes.append(
                    f"MAX_INFLIGHT_BYTES={settings.max_inflight_bytes} must not be less than"
                    f" {name.upper()}={getattr(settings, name)}: no content of that size could ever be taken"
                )
        if settings.originals == "all" and settings.index_url != "faiss":
            mistakes.append(
                "ORIGINALS='all' needs INDEX_URL=faiss: a cluster keeps those of texts alone; set ORIGINALS=texts"
            )
        if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
            mistakes.append("TLS_CERT_FILE and TLS_KEY_FILE go together: one of them is missing")
        host, access = given.get("host", cls.host), given.get("access", cls.access)
        if not access and not values.is_loopback(host):
            mistakes.append(
                f"HOST={host!r} opens the archive to a network: set ACCESS=keys, and make a key by `python -m"
                " index_sidecar keys add NAME --role admin`; or set ACCESS=open, and whoever reaches it may do all"
            )
        if mistakes:
            raise SettingsError("\n".join(mistakes))
        return settings

    @property
    def path_of_keys(self) -> Path:
        """The file of API keys."""
        return self.keys_file or self.data_dir / "keys.json"

    @property
    def path_of_backups(self) -> Path:
        """The folder of backups."""
        return self.backup_dir or self.data_dir / "backups"

    @classmethod
    def help(cls) -> str:
        """One line a setting: name, default, meaning."""
        return "\n".join(
            f"  {setting.name.upper():<24} {setting.metadata['help']} (default: {setting.default})"
            for setting in fields(cls)
        )
