"""Write docs/errors.md from the table of codes: python -m index_sidecar.http.errors_page > docs/errors.md"""

from __future__ import annotations

from .codes import CODES, invalid

_HEAD = """\
# Errors

Every error is `{"error": {"code", "message", "request_id"}}`: `code` is stable, for machines; `message` is for people,
and may change; `request_id` is in the logs, too. 4xx is for the caller to mend. 503 and 507 are for time, or the
operator, to mend, and say in `Retry-After` when to try again; so does 429. `/openapi.json` says of each call which of
these it can give. This page is written by `python -m index_sidecar.http.errors_page`, from the table that answers look
their status up in.

| status | code | means | what to do |
|---|---|---|---|
"""


def page() -> str:
    """The page, in Markdown."""
    codes = [invalid("NAME"), *CODES.items()]
    rows = [
        f"| {code.status} | `{word}` | {code.means} | {code.do} |\n"
        for word, code in sorted(codes, key=lambda each: each[1].status)
    ]
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
