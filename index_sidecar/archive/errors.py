"""What can go wrong with the archive, as its callers and its operator are told."""

from __future__ import annotations


class StoreError(Exception):
    """The archive cannot be opened; the message, for the operator, says why and what to do."""


class ContentError(Exception):
    """A request that ends without its result. `code` is stable for machines, the message is for the caller.

    ContentError
    ├── InvalidInput          the caller's parameter or content is wrong
    │   ├── TooLarge          ... too big to be taken
    │   └── Unsupported       ... not a kind of file we read
    ├── NotFound              no content has this id
    ├── Taken                 the id holds a content already, and the caller wants a free one
    ├── Unauthorized          the caller has not shown who it is
    ├── Forbidden             the caller may not do this
    ├── Misdirected           the request was not meant for this service
    ├── TooManyRequests       this caller asks for more than its share; `retry_after_s` tells when to come back
    └── Unavailable           the same call may succeed later, after `retry_after_s`
        ├── NotReady          the index is still being built
        ├── Overloaded        more is waiting than we promise to hold
        ├── EmbedderUnavailable   TorchServe does not answer
        ├── StorageUnavailable    the disk does not do it, or no node of the cluster answers
        │   └── StorageFull       ... there is no room for the write
        └── ModelMismatch     the served model is not the one the stored vectors are of
    """

    code = "error"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.code


class InvalidInput(ContentError):
    code = "invalid_input"


class TooLarge(InvalidInput):
    code = "too_large"


class Unsupported(InvalidInput):
    code = "unsupported"


class NotFound(ContentError):
    code = "not_found"


class Taken(ContentError):
    code = "id_taken"


class Unauthorized(ContentError):
    code = "unauthorized"


class Forbidden(ContentError):
    code = "forbidden"


class Misdirected(ContentError):
    code = "unknown_host"


class TooManyRequests(ContentError):
    code = "too_many_requests"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ContentError):
    code = "unavailable"
    retry_after_s = 5


class NotReady(Unavailable):
    code = "not_ready"
    retry_after_s = 1


class Overloaded(Unavailable):
    code = "overloaded"
    retry_after_s = 1


class EmbedderUnavailable(Unavailable):
    code = "embedder_unavailable"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"
    retry_after_s = 30


class StorageFull(StorageUnavailable):
    code = "storage_full"


class ModelMismatch(Unavailable):
    code = "model_mismatch"
    retry_after_s = 60

    def __init__(self, stored: str, served: str) -> None:
        super().__init__(
            f"the stored vectors are of the model {stored}, but TorchServe serves {served}, and vectors of two models"
            " cannot be compared. Serve the archive of the stored model again, or point DATA_DIR (or INDEX_URL) to an"
            " empty place and add the contents anew"
        )
