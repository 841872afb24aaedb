"""What every command shares: where the archive is, how results are written, and which exit status says what."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import click
import msgspec

from ..archive import Archive
from ..errors import ArchiveError, Forbidden, PartlyFailed, TooManyRequests, Unauthorized, Unavailable, Unreachable

DONE, REFUSED, WRONG_USE, SOME_FAILED, NOT_THERE, NOT_ALLOWED = 0, 1, 2, 3, 4, 5
EXIT_CODES = """\
\b
Exit status:
  0  done
  1  the archive refuses: the message says why
  2  the command is not used as it wants to be
  3  some of many contents failed, the others are done
  4  the archive cannot be reached, or cannot do it now
  5  the key is missing, wrong, or not allowed to do this
"""


class Output:
    """Results: tables for people, JSON for programs, one line for each thing."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def one(self, thing: Any, line: str) -> None:
        """One result."""
        click.echo(written(thing) if self.as_json else plain(line))

    def many(self, things: Iterable[Any], heads: Sequence[str], row: Callable[[Any], Sequence[str]]) -> None:
        """Several results, each a row."""
        if self.as_json:
            for thing in things:
                click.echo(written(thing))
            return
        rows = [[plain(cell) for cell in row(thing)] for thing in things]
        if not rows:
            click.echo("nothing found", err=True)
            return
        widths = [max(len(cells[place]) for cells in [heads, *rows]) for place in range(len(heads))]
        for cells in [heads, *rows]:
            padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
            click.echo("  ".join(padded).rstrip())


def written(thing: Any) -> str:
    """JSON on one line."""
    return msgspec.json.encode(thing).decode()


def plain(text: str) -> str:
    """Text that cannot tell a terminal to do something."""
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)


def with_archive(command: Callable[..., None]) -> Callable[..., None]:
    """A command of an archive: takes --url and --json, gets an `Archive` and an `Output`, ends as EXIT_CODES say."""

    @click.option("--url", metavar="URL", help="Where the archive is; else CLIP_ARCHIVE_URL, else this machine.")
    @click.option("--json", "as_json", is_flag=True, help="JSON for programs, a line for each result.")
    @functools.wraps(command)
    def run(url: str | None, as_json: bool, **options: Any) -> None:
        try:
            archive = Archive(url)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        with archive:
            try:
                command(archive, Output(as_json), **options)
            except ArchiveError as error:
                fail(error)
            except OSError as error:
                if isinstance(error, BrokenPipeError):
                    raise
                click.echo(f"clip-archive: {error}", err=True)
                sys.exit(REFUSED)

    return run


def fail(error: ArchiveError) -> NoReturn:
    """Say what went wrong, and end."""
    click.echo(f"clip-archive: {plain(str(error))}", err=True)
    if isinstance(error, Unauthorized):
        click.echo("clip-archive: put the archive's API key into CLIP_ARCHIVE_KEY", err=True)
    sys.exit(status_of(error))


def status_of(error: ArchiveError) -> int:
    """The exit status that says so."""
    if isinstance(error, PartlyFailed):
        return SOME_FAILED
    if isinstance(error, Unauthorized | Forbidden):
        return NOT_ALLOWED
    if isinstance(error, Unreachable | Unavailable | TooManyRequests) or error.retryable:
        return NOT_THERE
    return REFUSED


def json_option(text: str | None, what: str) -> Any:
    """An option whose value is a JSON object. Raises click.UsageError."""
    if text is None:
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError) as error:
        raise click.UsageError(f"{what} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f'{what} must be a JSON object, as in \'{{"title": "Cat"}}\'')
    return value
