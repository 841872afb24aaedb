"""Commands that change the archive: add, delete, delete-user."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..archive import Archive
from ..kinds import kind_of_bytes, kind_of_name
from .frame import Output, json_option, with_archive


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--id", "content_id", help="The content's id; the file's name when not said.")
@click.option(
    "--type", "type_", type=click.Choice(["text", "image"]), help="What it is; known by the file when not said."
)
@click.option("--user", help="Who adds it.")
@click.option("--metadata", metavar="JSON", help="What is to be known of it, a flat JSON object.")
@click.option("--only-new", is_flag=True, help="Fail where the id holds a content already.")
@with_archive
def add(
    archive: Archive,
    output: Output,
    files: Sequence[str],
    content_id: str | None,
    type_: Any,
    user: str | None,
    metadata: str | None,
    only_new: bool,
) -> None:
    """Add files, or with - what comes from the pipe. Whole folders go in by `import`.

    \b
    clip-archive add photo.jpg --user ada --metadata '{"title": "Cat"}'
    echo "a cat on a roof" | clip-archive add - --id cat-1
    """
    if content_id is None and "-" in files:
        raise click.UsageError("what comes from the pipe has no name: give it one by --id")
    if content_id is not None and len(files) > 1:
        raise click.UsageError("--id names one content: add one file at a time")
    told = json_option(metadata, "--metadata")
    for name in files:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        kind = type_ or (None if name == "-" else kind_of_name(name)) or kind_of_bytes(data)
        added = archive.add_content(
            content_id or Path(name).name, data, type=kind, user=user, metadata=told, only_new=only_new
        )
        copies = f", the same bytes as {', '.join(added.duplicate_of[:3])}" if added.duplicate_of else ""
        output.one(added, f"{added.id}: {added.msg}{copies}")


@click.command()
@click.argument("content_ids", metavar="ID...", nargs=-1, required=True)
@with_archive
def delete(archive: Archive, output: Output, content_ids: Sequence[str]) -> None:
    """Erase contents.

    \b
    clip-archive delete cat-1 cat-2
    """
    for content_id in content_ids:
        erased = archive.delete_content(content_id)
        late = "" if erased.overwritten else ", its bytes are overwritten in a while"
        output.one({"id": content_id, "overwritten": erased.overwritten}, f"{content_id}: erased{late}")


@click.command("delete-user")
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_archive
def delete_user(archive: Archive, output: Output, user: str, yes: bool) -> None:
    """Erase all that a user added.

    \b
    clip-archive delete-user ada
    """
    if not yes:
        click.confirm(f"Erase all that {user} added to {archive.address.url}?", abort=True, err=True)
    erased = archive.delete_user(user)
    output.one(erased, f"{erased.deleted} contents of {user} erased")
