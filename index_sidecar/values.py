"""Values of settings: the text of an environment variable -> what it stands for, or ValueError with what it must be."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from .qdrant.url import qdrant_url

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return read


def url(value: str) -> str:
    """An http or https URL."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable:
        raise ValueError("must be a URL like http://127.0.0.1:8080")
    return value


def optional_url(value: str) -> str:
    """An http or https URL, or nothing."""
    return url(value) if value else ""


def index_url(value: str) -> str:
    """faiss, or the URL of a Qdrant cluster."""
    if value not in ("", "faiss"):
        qdrant_url(value)
    return value or "faiss"


def log_format(value: str) -> str:
    """text or json."""
    if value not in ("text", "json"):
        raise ValueError("must be text or json")
    return value


def true_or_false(value: str) -> bool:
    """true or false."""
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def dtype(value: str) -> Literal["float32", "float16"]:
    """float32 or float16."""
    match value:
        case "float32" | "float16":
            return value
    raise ValueError("must be float32 or float16")


def originals(value: str) -> Literal["none", "texts", "all"]:
    """none, texts or all."""
    match value:
        case "none" | "texts" | "all":
            return value
    raise ValueError("must be none, texts or all")


def fraction(value: str) -> float:
    """A number above 0 and at most 1."""
    number = float(value) if re.fullmatch(r"0\.\d{1,6}|1|1\.0", value, re.ASCII) else 0.0
    if number == 0.0:
        raise ValueError("must be a number above 0, like 0.95, and at most 1")
    return number


def seconds(value: str) -> float:
    """A number of seconds above 0."""
    if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", value, re.ASCII) or float(value) == 0.0:
        raise ValueError("must be a number of seconds above 0, like 2 or 0.5")
    return float(value)


def access(value: str) -> str:
    """open, keys, or nothing said."""
    if value not in ("", "open", "keys"):
        raise ValueError("must be open or keys")
    return value


def hosts(value: str) -> tuple[str, ...]:
    """Host names with commas between."""
    hosts = tuple(host.strip() for host in value.split(",") if host.strip())
    if wrong := [host for host in hosts if not re.fullmatch(r"[A-Za-z0-9._\-:\[\]]+", host)]:
        raise ValueError(f"must be names like archive.example.org, with commas between: {wrong[0]!r} is none")
    return hosts


def origins(value: str) -> tuple[str, ...]:
    """Origins of web pages with commas between."""
    origins = tuple(origin.strip() for origin in value.split(",") if origin.strip())
    if wrong := [origin for origin in origins if not re.fullmatch(r"https?://[a-z0-9._\-:\[\]]+", origin)]:
        raise ValueError(f"must be origins like https://example.org, with commas between: {wrong[0]!r} is none")
    return origins


def networks(value: str) -> tuple[Network, ...]:
    """IP addresses or networks with commas between."""
    try:
        return tuple(ipaddress.ip_network(each.strip(), strict=False) for each in value.split(",") if each.strip())
    except ValueError as error:
        raise ValueError(f"must be addresses or networks like 10.0.0.0/8, with commas between ({error})") from None


def rate(value: str) -> str:
    """An amount a time, as 600/minute, or nothing."""
    if value and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", value, re.ASCII):
        raise ValueError("must be like 600/minute (or /second, /hour, /day), or empty for no limit")
    return value


def text(value: str) -> str:
    """Anything but nothing."""
    if not value:
        raise ValueError("must not be empty")
    return value


def path(value: str) -> Path:
    """A path."""
    return Path(text(value))  # an empty one would silently be the working folder


def optional_path(value: str) -> Path | None:
    """A path, or nothing."""
    return Path(value) if value else None


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
