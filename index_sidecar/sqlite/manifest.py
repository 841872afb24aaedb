"""What a backup says of itself: NAME.json beside NAME.sqlite, which bears a digest of all that it says.

The digests tell damage from a backup that is whole. They are no shield from somebody who writes both files.
"""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z", re.ASCII)
"""The moment, in UTC, at which a backup began: names in their order are backups in theirs."""
_MOST_BYTES = 1 << 16


class BackupError(Exception):
    """A backup cannot be made, or used; the message says what to do."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it but its digest."""

    name: str
    schema_version: int
    fingerprint: str | None
    contents: dict[str, int]
    size_bytes: int
    sha256: str

    def rendered(self) -> bytes:
        """The file's bytes: there is one way to write a manifest, so that a bit more or less is seen."""
        told = msgspec.to_builtins(self)
        digest = hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()
        return msgspec.json.format(msgspec.json.encode({**told, "digest": digest}, order="sorted")) + b"\n"

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {content_type}" for content_type, count in sorted(self.contents.items()))
        return f"{counts}; {self.size_bytes} bytes; schema {self.schema_version}; model {self.fingerprint}"


def new_name(folder: Path) -> str:
    """A name that no file in the folder bears."""
    while True:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"[:-3] + "Z"
        if not any(folder.glob(f"{name}.*")):
            return name
        time.sleep(0.001)


def read_manifest(path: Path) -> Manifest:
    """Raises BackupError when it is not as it was written, FileNotFoundError when it is not there."""
    with path.open("rb") as file:
        written = file.read(_MOST_BYTES)
    try:
        told = msgspec.json.decode(written, type=dict[str, msgspec.Raw])
        told.pop("digest", None)
        manifest = msgspec.json.decode(msgspec.json.encode(told), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupError(f"{path} is damaged, or of a newer program ({error}): take another backup") from error
    if manifest.rendered() != written:
        raise BackupError(f"{path} is not as it was written: take another backup")
    return manifest
