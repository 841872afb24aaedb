"""The command `keys`: add, list and revoke API keys, beside a running sidecar, which follows within a second."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import time
from pathlib import Path

from .keys import NAME, Key, KeysError, changed_keys, new_key, read_keys
from .last_use import LastUse
from .roles import Role

HELP = "add, list and revoke API keys"
DESCRIPTION = """\
Add, list and revoke API keys. A running sidecar follows within a second.

  python -m index_sidecar keys add backend --role writer
  python -m index_sidecar keys add ada --role writer --user ada --expires 2027-12-31
  python -m index_sidecar keys list
  python -m index_sidecar keys revoke ada

reader: search, recommend, look. writer: also add, change, delete. admin: also, with a bound key, others' contents.
A key bound to a user (--user) adds, changes and erases only as that user. A key is shown once, when it is made: only
its SHA-256 is kept, in KEYS_FILE. Callers send it as `Authorization: Bearer KEY`, to a sidecar with ACCESS=keys.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `keys` takes from the command line."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    adding = actions.add_parser("add", help="make a key and show it once")
    adding.add_argument("name", type=_name, help="1 to 64 of A-Z a-z 0-9 _ . -; stands in logs, with each change")
    adding.add_argument("--role", required=True, choices=[role.word for role in Role])
    adding.add_argument("--user", help="the one user the key acts as")
    adding.add_argument("--expires", type=_day, metavar="DATE", help="the last day it is good for (UTC), as 2027-12-31")
    actions.add_parser("list", help="names, roles, users and dates of all keys, not the keys themselves")
    revoking = actions.add_parser("revoke", help="make a key worthless")
    revoking.add_argument("name", type=_name)


def run(arguments: argparse.Namespace, path: Path, last_used: Path) -> list[str]:
    """Do what was asked; the lines to print. Raises KeysError."""
    if arguments.action == "add":
        return [add_key(path, arguments.name, Role.named(arguments.role), arguments.user, arguments.expires)]
    if arguments.action == "revoke":
        revoke_key(path, arguments.name)
        return [f"{arguments.name} is revoked"]
    return _table(read_keys(path), LastUse.read(last_used))


def add_key(path: Path, name: str, role: Role, user: str | None, expires: float | None) -> str:
    """Make a key; the key itself, which is kept nowhere. Raises KeysError for a name that is taken."""
    key = new_key()
    with changed_keys(path) as keys:
        if any(each.name == name for each in keys):
            raise KeysError(f"there is a key named {name}: revoke it first, or choose another name")
        keys.append(Key(name, role, user, hashlib.sha256(key.encode()).hexdigest(), time.time(), expires))
    return key


def revoke_key(path: Path, name: str) -> None:
    """Make a key worthless. Raises KeysError where there is none of this name."""
    with changed_keys(path) as keys:
        left = [each for each in keys if each.name != name]
        if len(left) == len(keys):
            raise KeysError(f"there is no key named {name}: `keys list` shows those there are")
        keys[:] = left


def _table(keys: list[Key], used: dict[str, float]) -> list[str]:
    rows = [("NAME", "ROLE", "USER", "CREATED", "EXPIRES", "LAST USED")]
    rows += [
        (key.name, key.role.word, key.user or "-", _date(key.created), _date(key.expires), _date(used.get(key.name)))
        for key in sorted(keys, key=lambda key: key.name)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _date(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise argparse.ArgumentTypeError("1 to 64 of A-Z a-z 0-9 _ . -")
    return value


def _day(value: str) -> float:
    try:
        day = datetime.date.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no date like 2027-12-31") from None
    end = datetime.datetime.combine(day, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)
    return end.timestamp()
