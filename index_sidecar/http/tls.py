"""TLS for the sidecar's own port: certificates that are renewed while it runs, and a word to those who speak HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import uuid
from pathlib import Path
from typing import Any

from ..access.keys import stamp

logger = logging.getLogger(__name__)

_LOOK_S = 5.0


class Certificate:
    """A context that serves whatever pair of certificate and key the two files hold now."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Raises OSError, which names the files, when they are no pair."""
        self._files = (cert_file, key_file)
        try:
            self.context = _context(*self._files)
        except OSError as error:  # ssl.SSLError is one
            files = f"TLS_CERT_FILE={cert_file}, TLS_KEY_FILE={key_file}"
            raise type(error)(error.errno, f"{error.strerror}: {files}") from error
        self._seen = self._stamps()

    async def follow(self) -> None:
        """Load the pair anew whenever it is replaced, for handshakes from then on."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Take the pair if it was replaced and fits together; while it does not, the old one stays."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            _context(*self._files)  # first elsewhere: a context that was given half a pair could not go back
            self.context.load_cert_chain(*self._files)
        except OSError as error:
            logger.error("the renewed TLS certificate is not taken, the old one stays: %s", error)
            return
        logger.info("the TLS certificate was renewed")

    def _stamps(self) -> tuple[object, ...]:
        return tuple(stamp(path) for path in self._files)


class _Handshake(ssl.SSLObject):
    """Answers plain HTTP, which OpenSSL recognises and refuses without a word, before it is hung up on."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        """As ssl has it."""
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST":
                raise
            self.outgoing.write(_told())
            raise ssl.SSLWantReadError from error  # sends what is there to send; the peer hangs up


class _Context(ssl.SSLContext):
    sslobject_class = _Handshake

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *options: Any, **more: Any) -> ssl.SSLObject:
        """As ssl has it."""
        made = super().wrap_bio(incoming, outgoing, *options, **more)
        assert isinstance(made, _Handshake)
        made.outgoing = outgoing
        return made


def _told() -> bytes:
    """The answer to plain HTTP, which nobody parsed: as all errors are, but written by hand."""
    request = uuid.uuid4().hex
    error = {"code": "tls_required", "message": "this port speaks HTTPS: ask by https://", "request_id": request}
    body = json.dumps({"error": error})
    head = "HTTP/1.1 400 Bad Request", "Content-Type: application/json; charset=utf-8", f"Content-Length: {len(body)}"
    return "\r\n".join([*head, f"X-Request-ID: {request}", "Connection: close", "", body]).encode()


def _context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file)
    return context
