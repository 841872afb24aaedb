"""The id of the request that is being served: in each line of its log, in its answer and in TorchServe's log."""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""None outside a request. A task or a thread that a request starts has its id."""
