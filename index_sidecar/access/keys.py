"""API keys: a file of their SHA-256 sums, made by the command `keys` and read by every sidecar that shares it.

A file, and not a table of the archive: it is the same for SQLite and for a cluster, a container secret can be one, a
second process never writes to the archive's own file, and a backup of the archive holds no keys. It is replaced as a
whole (written beside, synced, renamed), so a reader sees the old keys or the new ones; who reads it looks twice a
second whether it was replaced, so that a revoked key fails within a second in every process.

A key has 190 random bits, hence a plain SHA-256 is enough: there is nothing to guess (unlike a password). Its last six
characters are a checksum, as GitHub's tokens have it, and its prefix is fixed, so that scanners for leaked secrets find
it and know it from a random word: clipk_[0-9A-Za-z]{38}.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import math
import os
import re
import secrets
import string
import time
import zlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from .last_use import LastUse
from .roles import Caller, Role

logger = logging.getLogger(__name__)
audit_logger = logging.getLogger("index_sidecar.audit")

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PREFIX = "clipk_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARACTERS = 32
_CHECKSUM_CHARACTERS = 6
_LOOK_S = 0.5
_LEAST_SECRET_CHARACTERS = 32  # of a key that an operator made elsewhere


class KeysError(Exception):
    """The keys cannot be read or changed so; the message says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key; `created` and `expires` in Unix seconds, `sha256` in hex, of the whole key."""

    name: str
    role: Role
    user: str | None
    sha256: str
    created: float
    expires: float | None = None


def new_key() -> str:
    """A key nobody has."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARACTERS))
    return _PREFIX + body + _checksum(body)


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def read_keys(path: Path) -> list[Key]:
    """The keys in the file, none where there is no file. Raises KeysError when it is not as we write it."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error}") from error
    try:
        rows = json.loads(text)["keys"]
        return [Key(**{**row, "role": Role.named(row["role"])}) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise KeysError(f"{path} is no file of keys: {error}") from error


@contextlib.contextmanager
def changed_keys(path: Path) -> Iterator[list[Key]]:
    """The keys to change, alone with the file; what the list holds at the end of the block is the file, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(path)
        yield keys
        rows = [
            {
                "name": key.name,
                "role": key.role.word,
                "user": key.user,
                "sha256": key.sha256,
                "created": key.created,
                "expires": key.expires,
            }
            for key in keys
        ]
        temporary = path.with_name(path.name + ".tmp")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump({"keys": rows}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as it is looked up: `expires` is infinite where it never does."""

    sha256: bytes
    caller: Caller
    expires: float

    @classmethod
    def of(cls, key: Key) -> _Known:
        expires = math.inf if key.expires is None else key.expires
        return cls(bytes.fromhex(key.sha256), Caller(key.name, key.role, key.user), expires)


_NOBODY = _Known(bytes(32), Caller("nobody", Role.READER), -math.inf)


class Keys:
    """Tells whose a key is, by the file as it is now."""

    def __init__(self, path: Path, admin_key_file: Path | None = None, last_used: Path | None = None) -> None:
        """`admin_key_file` holds one more key, of the role admin; into `last_used` goes when each key was last used.

        Raises KeysError when one of the files cannot be understood.
        """
        self._path = path
        self._admin_key_file = admin_key_file
        self._used = LastUse(last_used) if last_used is not None else None
        self._seen: tuple[object, ...] = ()
        self._by_sha256: dict[bytes, _Known] = {}
        self._look_at = 0.0
        self._read()

    def __len__(self) -> int:
        return len(self._by_sha256)

    def caller(self, key: str) -> Caller | None:
        """Whose key this is; None when it is nobody's, or not any more.

        What is compared are digests: how long it takes tells nothing of how much of a wrong key was right.
        """
        self._look()
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = self._by_sha256.get(digest, _NOBODY)
        same, now = hmac.compare_digest(found.sha256, digest), time.time()
        if found is _NOBODY or not same or found.expires <= now:
            return None
        if self._used is not None:
            self._used.note(found.caller.name, now)
        return found.caller

    def _look(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_S
        if self._stamps() != self._seen:
            before = self._keys
            try:
                self._read()
                _audit(before, self._keys)
            except KeysError as error:
                logger.error("%s; the keys of before stay", error)
                self._seen = self._stamps()

    def _read(self) -> None:
        seen, keys = self._stamps(), read_keys(self._path)
        if self._admin_key_file is not None:
            keys.append(_admin_key(self._admin_key_file))
        known = [_Known.of(key) for key in keys]
        self._by_sha256 = {each.sha256: each for each in known}
        self._keys = frozenset(keys)
        self._seen = seen

    def _stamps(self) -> tuple[object, ...]:
        return tuple(stamp(path) for path in (self._path, self._admin_key_file) if path is not None)


def _audit(before: Set[Key], after: Set[Key]) -> None:
    """One log line for each key that has come or gone."""
    for what, keys in (("API key added", after - before), ("API key revoked", before - after)):
        for key in sorted(keys, key=lambda key: key.name):
            audit_logger.info(what, extra={"key": key.name})


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _admin_key(path: Path) -> Key:
    try:
        key = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise KeysError(f"ADMIN_KEY_FILE={path} cannot be read: {error}") from error
    if len(key) < _LEAST_SECRET_CHARACTERS:
        raise KeysError(
            f"ADMIN_KEY_FILE={path} is shorter than {_LEAST_SECRET_CHARACTERS} characters: it can be guessed"
        )
    return Key("admin-key-file", Role.ADMIN, None, hashlib.sha256(key.encode()).hexdigest(), 0.0)
