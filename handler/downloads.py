"""One file from a URL that names its SHA-256: resumed where it broke off, shared by all builds on the machine."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm
from weights_errors import Unreachable, WeightsError

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30  # without a byte
_MAX_BYTES = 4 << 30  # of a server that tells no length and does not end


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, target: Path, expected_sha256: str) -> None:
    """Have `url` at `target`, which appears only when its SHA-256 is right; builds at once download it once.

    Raises Unreachable when the server or the way to it fails (the next call resumes), WeightsError when the bytes are
    wrong or cannot be written here.
    """
    with _local(target), _alone(target):
        if target.exists() and sha256_of(target) == expected_sha256:
            return
        partial = target.with_name(target.name + ".part")
        told_length = _fetch(url, partial)
        if (actual := sha256_of(partial)) != expected_sha256:
            partial.unlink()
            cut = "" if told_length else " (the server told no length, so it may have been cut off)"
            raise WeightsError(f"{url} has SHA-256 {actual}, not {expected_sha256}{cut}: refused and deleted")
        partial.replace(target)


@contextmanager
def _local(target: Path) -> Iterator[None]:
    """Failures of this machine's disk are told as such: the server's and the connection's are caught further in."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written: {error.strerror or error}. Make room there (some 2 GB),"
            " or name another folder with --cache"
        ) from error


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time, also after one was killed: the kernel lets go of its lock."""
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another build downloads into {target.parent}; waiting for it", flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _fetch(url: str, partial: Path) -> bool:
    """Bring `partial` to the end of `url`; was a length told? Raises Unreachable, and OSError of the disk's."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        source = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to send: the checksum will tell whether it is all there
            return True
        raise _unreachable(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    with source:
        if source.status != 206:
            have = 0  # this server does not resume
        told = source.headers["Content-Length"]
        total = have + int(told) if told and told.isdecimal() else None
        with (
            partial.open("ab" if have else "wb") as output,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="CLIP ViT-B/32") as bar,
        ):
            for chunk in _chunks(url, source):
                output.write(chunk)
                bar.update(len(chunk))
                if (have := have + len(chunk)) > _MAX_BYTES:
                    raise WeightsError(f"{url} sends more than {_MAX_BYTES >> 30} GiB: this is no ViT-B/32")
    if total is not None and have < total:
        raise _unreachable(url, f"{total - have} bytes are missing")
    return total is not None


def _chunks(url: str, source: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = source.read(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(url, error) from error
        if not chunk:
            return
        yield chunk


def _unreachable(url: str, reason: object) -> Unreachable:
    return Unreachable(f"{url} cannot be downloaded ({reason}); the next try resumes where this one broke off")
