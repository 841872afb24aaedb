"""What can go wrong between a caller and the archive, by kind; `code` says it exactly, as docs/errors.md lists it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .answers import AddAnswer


class ArchiveError(Exception):
    """An answer that is an error, or no answer.

    ArchiveError
    ├── InvalidRequest        400, 405, 408, 415, 417, 431: the request, or the content in it, is wrong
    │   └── TooLarge          413: ... or larger, or costlier, than is taken
    ├── Unauthorized          401: no API key, or one that is nobody's
    ├── Forbidden             403, 421: this key, or this name of the archive, may not do that
    ├── NotFound              404: no content has this id
    ├── Conflict              409, 412: the id is taken, or the vector is of another model than the archive's
    ├── TooManyRequests       429: this key's share is used up
    ├── Unavailable           503, 507: the archive cannot do it now
    ├── ServerFault           500: a fault of the archive
    ├── Unreachable           nobody answered, or not to the end
    │   └── CutOff            ... the answer broke off: what came before it holds
    ├── NotAnArchive          what answered is something else: a proxy, a login page
    ├── VersionMismatch       client and archive are of versions that do not fit together
    └── PartlyFailed          some of many contents were not added

    `status` is the HTTP status, None where there was no answer. `retryable` tells whether the same call may succeed
    later, `retry_after_s` when, where the archive said so. `surely_undone` tells that nothing of the call was done.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        surely_undone: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.surely_undone = surely_undone

    def __str__(self) -> str:
        told = [f"{self.status}" if self.status else "", self.code]
        head = " ".join(each for each in told if each)
        tail = f" (request {self.request_id})" if self.request_id else ""
        return (f"{head}: " if head else "") + super().__str__() + tail


class InvalidRequest(ArchiveError):
    """The request, or the content in it, is wrong: sending it again does not help."""


class TooLarge(InvalidRequest):
    """The content is larger, or costlier to read, than is taken."""


class Unauthorized(ArchiveError):
    """No API key was shown, or one that is nobody's."""


class Forbidden(ArchiveError):
    """This key may not do that, or the archive does not go by the name it was asked by."""


class NotFound(ArchiveError):
    """No content has this id."""


class Conflict(ArchiveError):
    """The id holds a content already, or the vector is of another model than the archive's."""


class TooManyRequests(ArchiveError):
    """The key has sent more than its share."""


class Unavailable(ArchiveError):
    """The archive cannot do it now."""


class ServerFault(ArchiveError):
    """A fault of the archive, which its log describes under the request's id."""


class Unreachable(ArchiveError):
    """Nobody answered, or not to the end."""


class CutOff(Unreachable):
    """A streamed answer broke off: what came before it holds, and is not the whole."""


class NotAnArchive(ArchiveError):
    """What answered is no archive: a proxy with a page of its own, a login page, another server."""


class VersionMismatch(ArchiveError):
    """Client and archive are of versions that do not fit together."""


@dataclass(frozen=True)
class Failure:
    """One content of many that was not added."""

    id: str
    error: ArchiveError


class PartlyFailed(ArchiveError):
    """Some of many contents were not added: `failures` says which and why, `added` what became of the others."""

    def __init__(self, added: Sequence[AddAnswer], failures: Sequence[Failure]) -> None:
        shown = "; ".join(f"{each.id}: {each.error}" for each in failures[:3])
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        super().__init__(f"{len(failures)} of {len(added) + len(failures)} contents were not added: {shown}{more}")
        self.added = added
        self.failures = failures


_KINDS: dict[int, type[ArchiveError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: TooLarge,
    421: Forbidden,
    429: TooManyRequests,
}
_PASSING = {"too_many_requests", "not_ready", "overloaded", "embedder_unavailable", "storage_unavailable"}
_MAY_BE_DONE = {"storage_unavailable", "internal"}


def error_of(
    status: int, code: str, message: str, request_id: str | None, retry_after_s: float | None = None
) -> ArchiveError:
    """The error that the archive's answer is."""
    kind = _KINDS.get(status)
    if kind is None:
        kind = InvalidRequest if status < 500 else ServerFault if status == 500 else Unavailable
    return kind(
        message,
        status=status,
        code=code,
        request_id=request_id,
        retryable=code in _PASSING,
        retry_after_s=retry_after_s,
        surely_undone=code not in _MAY_BE_DONE,
    )


# Lines of a streamed answer have a code and no status: these stand for 4xx unless they are listed.
_STATUS_OF = {
    "too_many_requests": 429, "not_ready": 503, "overloaded": 503, "embedder_unavailable": 503,
    "storage_unavailable": 503, "model_mismatch": 503, "storage_full": 507, "internal": 500, "forbidden": 403,
    "id_taken": 412, "other_model": 409, "too_large": 413, "too_many_pixels": 413, "too_costly": 413,
}  # fmt: skip


def error_of_line(code: str, message: str, request_id: str) -> ArchiveError:
    """The error that a line within an answer is."""
    return error_of(_STATUS_OF.get(code, 400), code, message, request_id)
