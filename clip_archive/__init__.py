"""Client of a CLIP archive: `Archive`, `AsyncArchive`, and what they take, answer and raise."""

from .archive import Archive
from .async_archive import AsyncArchive
from .contents import Exported, Item, Part
from .errors import (
    ArchiveError,
    Conflict,
    CutOff,
    Failure,
    Forbidden,
    InvalidRequest,
    NotAnArchive,
    NotFound,
    PartlyFailed,
    ServerFault,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
    VersionMismatch,
)
from .retries import Patience
from .version import VERSION as __version__

__all__ = [
    "Archive",
    "ArchiveError",
    "AsyncArchive",
    "Conflict",
    "CutOff",
    "Exported",
    "Failure",
    "Forbidden",
    "InvalidRequest",
    "Item",
    "NotAnArchive",
    "NotFound",
    "Part",
    "PartlyFailed",
    "Patience",
    "ServerFault",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "VersionMismatch",
    "__version__",
]
