"""The sidecar's settings: the only reader of the environment."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from .qdrant.url import qdrant_url

_T = TypeVar("_T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsError(Exception):
    """One line for every setting that is wrong."""


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return read


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable:
        raise ValueError("must be a URL like http://127.0.0.1:8080")
    return value


def _index_url(value: str) -> str:
    if value not in ("", "faiss"):
        qdrant_url(value)
    return value or "faiss"


def _log_format(value: str) -> str:
    if value not in ("text", "json"):
        raise ValueError("must be text or json")
    return value


def _true_or_false(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def _dtype(value: str) -> Literal["float32", "float16"]:
    match value:
        case "float32" | "float16":
            return value
    raise ValueError("must be float32 or float16")


def _fraction(value: str) -> float:
    number = float(value) if re.fullmatch(r"0\.\d{1,6}|1|1\.0", value, re.ASCII) else 0.0
    if number == 0.0:
        raise ValueError("must be a number above 0, like 0.95, and at most 1")
    return number


def _seconds(value: str) -> float:
    if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", value, re.ASCII) or float(value) == 0.0:
        raise ValueError("must be a number of seconds above 0, like 2 or 0.5")
    return float(value)


def _access(value: str) -> str:
    if value not in ("", "open", "keys"):
        raise ValueError("must be open or keys")
    return value


def _hosts(value: str) -> tuple[str, ...]:
    hosts = tuple(host.strip() for host in value.split(",") if host.strip())
    if wrong := [host for host in hosts if not re.fullmatch(r"[A-Za-z0-9._\-:\[\]]+", host)]:
        raise ValueError(f"must be names like archive.example.org, with commas between: {wrong[0]!r} is none")
    return hosts


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in value.split(",") if origin.strip())
    if wrong := [origin for origin in origins if not re.fullmatch(r"https?://[a-z0-9._\-:\[\]]+", origin)]:
        raise ValueError(f"must be origins like https://example.org, with commas between: {wrong[0]!r} is none")
    return origins


def _networks(value: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(each.strip(), strict=False) for each in value.split(",") if each.strip())
    except ValueError as error:
        raise ValueError(f"must be addresses or networks like 10.0.0.0/8, with commas between ({error})") from None


def _rate(value: str) -> str:
    if value and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", value, re.ASCII):
        raise ValueError("must be like 600/minute (or /second, /hour, /day), or empty for no limit")
    return value


def _text(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def _path(value: str) -> Path:
    return Path(_text(value))  # an empty one would silently be the working folder


def _optional_path(value: str) -> Path | None:
    return Path(value) if value else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _setting(default: _T, read: Callable[[str], _T], help_: str) -> _T:
    field_: _T = field(default=default, metadata={"read": read, "help": help_})
    return field_


@dataclass(frozen=True)
class Settings:
    """Every field is read from the environment variable of the same name in capitals."""

    host: str = _setting("127.0.0.1", _text, "address to listen on; 0.0.0.0 for all of IPv4, :: for all")
    port: int = _setting(8090, _whole(0, 65535), "port to listen on; 0 for a free one")
    data_dir: Path = _setting(
        Path("data"), _path, "folder of contents.sqlite, the durable truth unless INDEX_URL says otherwise"
    )
    torchserve_url: str = _setting("http://127.0.0.1:8080", _url, "TorchServe's inference address")
    torchserve_key_file: Path = _setting(
        Path("run/torchserve/key_file.json"), _path, "the key_file.json TorchServe writes when it starts"
    )
    torchserve_timeout_s: int = _setting(
        30,
        _whole(1, 600),
        "longest wait for one vector; then 503 (as model-config.yaml's clientTimeoutInMills)",
    )
    torchserve_connections: int = _setting(64, _whole(1, 1024), "requests to TorchServe at the same time")
    max_text_bytes: int = _setting(64 * 1024, _whole(1, 1 << 20), "largest text; then 413")
    max_image_bytes: int = _setting(32 * 1024 * 1024, _whole(1, 1 << 30), "largest image file; then 413")
    max_inflight_bytes: int = _setting(512 * 1024 * 1024, _whole(1 << 20, 1 << 36), "bodies held at once; then 503")
    body_timeout_s: int = _setting(60, _whole(1, 3600), "longest wait for a request's body; then 408")
    body_idle_s: int = _setting(10, _whole(1, 3600), "longest wait for the next bytes of a body; then 408")
    idle_timeout_s: int = _setting(
        75, _whole(1, 3600), "how long a connection may wait for a request, also amid its head; more than a proxy's"
    )
    queue_s: float = _setting(2.0, _seconds, "longest wait of a content for its turn at the model; then 503 at once")
    erase_wait_s: int = _setting(
        5, _whole(0, 600), 'longest wait of a call that erases for the overwriting; then "overwritten": false'
    )
    index_url: str = _setting(
        "faiss",
        _index_url,
        "faiss: SQLite and Faiss here; qdrant://HOST:PORT[,HOST:PORT]: a cluster, qdrants:// by TLS",
    )
    qdrant_api_key_file: Path | None = _setting(None, _optional_path, "file with Qdrant's API key and nothing else")
    qdrant_timeout_s: int = _setting(10, _whole(1, 600), "longest wait for Qdrant, all nodes together; then 503")
    qdrant_shards: int = _setting(6, _whole(1, 1024), "shards of the collection when it is created; fixed from then on")
    qdrant_replication: int = _setting(1, _whole(1, 16), "copies of each shard when the collection is created")
    qdrant_hnsw_ef: int = _setting(256, _whole(10, 10000), "candidates of a search: more find better and slower")
    previews: bool = _setting(True, _true_or_false, "store a small picture or the first 500 characters of each content")
    max_decode_bytes: int = _setting(
        1024 * 1024 * 1024, _whole(1 << 20, 1 << 40), "memory for making previews; a picture that needs more has none"
    )
    query_cache_bytes: int = _setting(64 * 1024 * 1024, _whole(0, 1 << 36), "memory for vectors of queries; 0: none")
    index_dtype: Literal["float32", "float16"] = _setting(
        "float32", _dtype, "of the exact index: float16 is half as big"
    )
    index_exact_rows: int = _setting(
        200_000, _whole(1000, 1 << 40), "contents of one type past which search approximates"
    )
    index_recall: float = _setting(0.95, _fraction, "recall@10 an approximate index must reach to be used")
    access: str = _setting(
        "", _access, "keys: every caller shows an API key; open: none does. Without it: open, on the loopback only"
    )
    keys_file: Path | None = _setting(None, _optional_path, "the API keys' sums; keys.json in DATA_DIR when not said")
    admin_key_file: Path | None = _setting(None, _optional_path, "a file with one more API key, of the role admin")
    allowed_hosts: tuple[str, ...] = _setting((), _hosts, "more names this service goes by while ACCESS is open")
    cors_origins: tuple[str, ...] = _setting((), _origins, "origins whose pages may use this service")
    tls_cert_file: Path | None = _setting(None, _optional_path, "certificate chain (PEM) to serve HTTPS with")
    tls_key_file: Path | None = _setting(None, _optional_path, "its private key (PEM); both are followed when renewed")
    rate_limit: str = _setting("600/minute", _rate, "requests of one key, or of one address without; with keys only")
    model_rate_limit: str = _setting(
        "600/minute", _rate, "texts of one key for the model, a picture counting as 8; with keys only"
    )
    concurrent_requests: int = _setting(64, _whole(0, 65535), "requests of one key at the same time; 0: any number")
    trusted_proxies: tuple[Network, ...] = _setting((), _networks, "networks of proxies whose X-Forwarded-For counts")
    audit_ids: bool = _setting(False, _true_or_false, "name what was erased in the log, too")
    log_format: str = _setting("text", _log_format, "text for people, json for machines")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read and check all settings. Raises SettingsError that names every mistake at once."""
        values: dict[str, Any] = {}
        mistakes = []
        for setting in fields(cls):
            name = setting.name.upper()
            if name in environment:
                try:
                    values[setting.name] = setting.metadata["read"](environment[name])
                except ValueError as error:
                    shown = re.sub(r"//.*@", "//...@", environment[name])  # somebody's password, perhaps
                    mistakes.append(f"{name}={shown!r} {error}")
        settings = cls(**values)
        for name in ("max_text_bytes", "max_image_bytes"):
            if settings.max_inflight_bytes < getattr(settings, name):
                mistakes.append(
                    f"MAX_INFLIGHT_BYTES={settings.max_inflight_bytes} must not be less than"
                    f" {name.upper()}={getattr(settings, name)}: no content of that size could ever be taken"
                )
        if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
            mistakes.append("TLS_CERT_FILE and TLS_KEY_FILE go together: one of them is missing")
        host, access = values.get("host", cls.host), values.get("access", cls.access)
        if not access and not _is_loopback(host):
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

    @classmethod
    def help(cls) -> str:
        """One line a setting: name, default, meaning."""
        return "\n".join(
            f"  {setting.name.upper():<24} {setting.metadata['help']} (default: {setting.default})"
            for setting in fields(cls)
        )
