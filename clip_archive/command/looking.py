"""Commands that look: show, list, status, open, keys."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ..answers import ContentAnswer, HealthAnswer
from ..archive import Archive
from ..contract import mismatch
from ..version import VERSION
from .frame import NOT_THERE, REFUSED, Output, json_option, with_archive


@click.command()
@click.argument("content_id", metavar="ID")
@click.option("--preview", type=click.Path(dir_okay=False, path_type=Path), help="Write the preview to this file.")
@with_archive
def show(archive: Archive, output: Output, content_id: str, preview: Path | None) -> None:
    """Show what is stored of a content.

    \b
    clip-archive show cat-1
    clip-archive show photo-1 --preview photo-1.webp
    """
    stored = archive.get_content(content_id)
    lines = [f"{name:<10}{value}" for name, value in _facts(stored)]
    output.one(stored, "\n".join(lines))
    if preview is not None:
        preview.write_bytes(archive.get_preview(content_id))


@click.command("list")
@click.option("--user", help="Only what this user added.")
@click.option("--type", "type_", type=click.Choice(["text", "image"]), help="Only contents of this type.")
@click.option("--filter", "filter_", metavar="JSON", help="Only what passes; docs/filters.md.")
@click.option("-n", "most", type=click.IntRange(1), help="At most so many; all when not said.")
@with_archive
def list_(
    archive: Archive, output: Output, user: str | None, type_: Any, filter_: str | None, most: int | None
) -> None:
    """List what is stored, in the order it was first added.

    \b
    clip-archive list -n 20
    clip-archive list --user ada --json | wc --lines
    """
    found = _pages(archive, most, user=user, type=type_, filter=json_option(filter_, "--filter"))
    for each in found:  # as they come: a table would have to know the longest id first
        output.one(each, "  ".join((_when(each), f"{each.type:<5}", each.id, each.user or "")).rstrip())


@click.command()
@with_archive
def status(archive: Archive, output: Output) -> None:
    """Tell how the archive is; the exit status is 4 while it does not serve every call.

    \b
    clip-archive status
    clip-archive status --url https://archive.example.org/clip
    """
    health, contract = archive.health(), archive.contract()
    unlike = mismatch(contract)
    told = [f"{archive.address.url}: version {contract.version}, this client's {VERSION}"]
    if isinstance(health, HealthAnswer):
        counts = (
            "unknown" if health.contents is None else f"{health.contents.text} texts, {health.contents.image} images"
        )
        told += [f"contents   {counts}", f"storage    {health.storage}", f"embedder   {health.embedder}"]
        told += [f"model      {health.model or 'unknown'}"]
        if health.weights == "untrained":
            told.append("           untrained weights: rankings carry no meaning")
    else:
        told.append("it lives; with an API key it tells more")
    output.one(health, "\n".join(told))
    if unlike is not None:
        click.echo(f"clip-archive: {unlike}", err=True)
    if isinstance(health, HealthAnswer) and not (health.ready and health.embedder == "available"):
        sys.exit(NOT_THERE)


@click.command("open")
@click.option("--print", "only_print", is_flag=True, help="Only print the address.")
@with_archive
def open_(archive: Archive, output: Output, only_print: bool) -> None:
    """Open the archive's search page in a browser.

    \b
    clip-archive open
    clip-archive open --print
    """
    url = archive.address.url + "/"
    click.echo(url)
    if not only_print and click.launch(url):
        click.echo("clip-archive: no browser was found: open the address yourself", err=True)
        sys.exit(REFUSED)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def keys(arguments: Sequence[str]) -> None:
    """Make, list and revoke API keys, on the machine that keeps them (KEYS_FILE, or keys.json in DATA_DIR).

    \b
    clip-archive keys add backend --role writer
    clip-archive keys list
    clip-archive keys revoke backend
    """
    if find_spec("index_sidecar") is None:
        raise click.UsageError("the archive is not installed here: keys are made on its own machine")
    sys.exit(subprocess.run([sys.executable, "-m", "index_sidecar", "keys", *arguments], check=False).returncode)  # noqa: S603


def _pages(archive: Archive, most: int | None, **chosen: Any) -> Iterator[ContentAnswer]:
    after, left = None, most
    while left is None or left > 0:
        page = archive.get_contents(**chosen, limit=1000 if left is None else min(1000, left), after=after)
        yield from page.contents
        after, left = page.next, None if left is None else left - len(page.contents)
        if after is None:
            return


def _when(content: ContentAnswer) -> str:
    return datetime.datetime.fromtimestamp(content.created).strftime("%Y-%m-%d %H:%M:%S")


def _facts(content: ContentAnswer) -> list[tuple[str, str]]:
    facts = [("id", content.id), ("type", content.type), ("user", content.user or ""), ("added", _when(content))]
    facts += [("sha256", content.sha256), ("cut", "to the model's 77 tokens" if content.truncated else "no")]
    return [*facts, *((name, str(value)) for name, value in content.metadata.items())]
