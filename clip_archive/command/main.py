"""The group of all commands."""

from __future__ import annotations

import click

from ..version import VERSION
from . import asking, changing, looking, transfer
from .frame import EXIT_CODES


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="%(version)s")
def main() -> None:
    """Find, add and move the contents of a CLIP archive.

    \b
    clip-archive status
    clip-archive add photo.jpg
    clip-archive search "a cat on a roof"
    clip-archive import photographs/
    clip-archive export archive.ndjson --vectors

    The archive is at CLIP_ARCHIVE_URL, or where --url says; an API key comes from CLIP_ARCHIVE_KEY. For completion put
    this into ~/.bashrc (zsh and fish: zsh_source, fish_source):

    \b
    eval "$(_CLIP_ARCHIVE_COMPLETE=bash_source clip-archive)"
    """


for command in (
    changing.add,
    asking.search,
    asking.similar,
    asking.recommend,
    looking.show,
    looking.list_,
    changing.delete,
    changing.delete_user,
    transfer.import_,
    transfer.export,
    looking.status,
    looking.keys,
    looking.open_,
):
    main.add_command(command)
