"""Log lines: one event a line, for a person (text) or for a machine (json)."""

from __future__ import annotations

import json
import logging
import time

from .archive.request_id import request_id

_FIELDS = (
    "method",
    "route",
    "status",
    "ms",
    "code",
    "stages",
    "bytes_in",
    "bytes_out",
    "key",
    "peer",
    "count",
    "id",
    "request_id",
)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)  # in ASCII: some characters end a line for some readers


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # A request's method is what its caller wrote: quoted, it cannot end a line and begin another.
        extra = "".join(f" {name}={json.dumps(value)}" for name, value in _fields(record).items())
        return super().format(record) + extra


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}


def name_request(record: logging.LogRecord) -> bool:
    """A logging filter that lets all pass, and writes the request's id on what is logged while one is served."""
    current = request_id.get()
    if current is not None:
        record.request_id = current
    return True


def set_up(log_format: str) -> None:
    """Send all logs to standard error in the given format."""
    handler = logging.StreamHandler()
    handler.addFilter(name_request)  # at the handler, which all loggers share; it runs where the line is written
    handler.setFormatter(_Json() if log_format == "json" else _Text("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # It tells over several lines which of its builds do not fit this machine, and always finds one that does.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
