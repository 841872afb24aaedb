"""What names the request that is being served: in its log, its answer, TorchServe's log, a trace."""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""None outside a request. A task or a thread that a request starts has its id."""

trace_parent: ContextVar[str | None] = ContextVar("trace_parent", default=None)
"""Of the W3C's header `traceparent`, for who is asked in turn; None where nobody traces."""
